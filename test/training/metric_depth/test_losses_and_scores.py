"""What the convolutional depth model is taught by and judged by."""

import numpy as np
import pytest
import torch

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthOutput
from vidllm_ros.training.metric_depth.evaluate import best_constant, score
from vidllm_ros.training.metric_depth.frame_cache import Frames
from vidllm_ros.training.metric_depth.losses import depth_loss, gradient_loss

FOCAL = torch.tensor([0.7, 1.1])


def truth() -> torch.Tensor:
    depth = 1 + 3 * torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(0))
    depth[:, :4, :4] = 0
    return depth


def output(depth: torch.Tensor) -> ConvDepthOutput:
    log_depth = torch.where(depth > 0, depth, torch.ones_like(depth)).log()
    return ConvDepthOutput(log_depth - FOCAL.log()[:, None, None], torch.zeros_like(depth), FOCAL.log())


def test_the_truth_costs_nothing_but_its_spread():
    loss, parts = depth_loss(output(truth()), truth(), FOCAL)
    assert {name: parts[name] for name in ("metric", "shape", "gradient", "focal")} == pytest.approx(
        {"metric": 0, "shape": 0, "gradient": 0, "focal": 0}, abs=1e-6
    )
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_a_wrong_scale_costs_metric_error_only():
    _, parts = depth_loss(output(truth() * 1.5), truth(), FOCAL)
    assert parts["metric"] == pytest.approx(np.log(1.5), rel=1e-4)
    assert parts["shape"] == pytest.approx(0, abs=1e-5) and parts["gradient"] == pytest.approx(0, abs=1e-5)


def test_unknown_depth_teaches_nothing():
    out = output(truth())
    wrong = out._replace(log_canonical=torch.where(truth() > 0, out.log_canonical, out.log_canonical + 5))
    assert float(depth_loss(wrong, truth(), FOCAL)[0]) == pytest.approx(float(depth_loss(out, truth(), FOCAL)[0]))
    assert depth_loss(out, torch.zeros_like(truth()), FOCAL)[0].isfinite()


def test_errors_do_not_learn_from_the_spread():
    out = output(truth() * 1.2)
    log_spread = torch.zeros_like(truth()).requires_grad_()
    canonical = out.log_canonical.clone().requires_grad_()
    depth_loss(out._replace(log_canonical=canonical, log_spread=log_spread), truth(), FOCAL)[0].backward()
    one = canonical.grad.clone()
    canonical.grad = None
    depth_loss(out._replace(log_canonical=canonical, log_spread=log_spread.detach() + 2), truth(), FOCAL)[0].backward()
    torch.testing.assert_close(canonical.grad, one)
    assert log_spread.grad.abs().sum() > 0


def test_gradient_loss_of_a_step():
    error, valid = torch.zeros(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    error[:, :, 4:] = 1
    # Columns 3 and 4 differ: one of 7, 3 and 1 differences along x at the three scales; none along y.
    assert float(gradient_loss(error, valid)) == pytest.approx((1 / 7 + 1 / 3 + 1) / 3)


def test_scores_of_a_known_error():
    depth = truth().numpy()
    got = score(depth * 1.2, depth)
    np.testing.assert_allclose(got.absrel, 0.2, rtol=1e-5)
    np.testing.assert_allclose(got.delta1, 1)
    np.testing.assert_allclose(got.fitted, 0, atol=1e-6)
    np.testing.assert_allclose(score(depth * 1.3, depth).delta1, 0)
    assert len(score(depth, np.stack([depth[0], np.zeros_like(depth[0])])).absrel) == 1


def test_the_best_constant_is_better_than_others():
    depth = truth().numpy()
    frames = Frames(np.zeros((2, 16, 24, 3), np.uint8), depth, FOCAL.numpy())
    best = best_constant(frames).absrel.mean()
    assert all(best <= score(np.full_like(depth, value), depth).absrel.mean() + 1e-3 for value in (1.5, 2.0, 2.5, 3.0))
