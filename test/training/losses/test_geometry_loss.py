"""The reconstruction losses and Eq. 9 in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import reconstruction_model
from posed_windows import random_sample

from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.training.losses.geometry import (
    GeometryLossConfig,
    camera_loss,
    depth_loss,
    geometry_losses,
    gradient_loss,
    metric_depth_loss,
    trimmed_mean,
)
from vidllm_ros.training.losses.targets import GeometryTargets, geometry_targets

H, W = 9, 12


def maps(count: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.3, 8, size=(count, H, W))
    prediction = truth * rng.lognormal(mean=0.2, sigma=0.4, size=truth.shape)
    truth[rng.random(truth.shape) < 0.3] = 0
    return prediction, truth


def equation_9(prediction: np.ndarray, truth: np.ndarray, alpha: float, epsilon: float) -> float:
    """b^2 + 1/K sum (e_i - b)^2 / (1 + alpha |e_i - b|) of one image, over its K valid pixels."""
    valid = truth > 0
    e = np.log(prediction[valid] + epsilon) - np.log(truth[valid] + epsilon)
    b = e.mean()
    return b**2 + np.mean((e - b) ** 2 / (1 + alpha * np.abs(e - b)))


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 0.1])
def test_metric_loss_is_equation_9_averaged_over_images(alpha, epsilon):
    prediction, truth = maps()
    expected = np.mean([equation_9(*image, alpha, epsilon) for image in zip(prediction, truth, strict=True)])
    got = metric_depth_loss(torch.tensor(prediction), torch.tensor(truth), alpha, epsilon)
    np.testing.assert_allclose(got.item(), expected, rtol=1e-10)


def test_metric_loss_is_zero_at_the_truth_and_only_there():
    truth = torch.tensor(maps()[1])
    assert metric_depth_loss(truth.clamp_min(0.5), torch.where(truth > 0, truth.clamp_min(0.5), 0), 1, 1e-3) == 0
    assert metric_depth_loss(1.1 * truth + 0.1, truth, 1, 1e-3) > 0


@settings(deadline=None, max_examples=20)
@given(st.floats(0.2, 5))
def test_a_wrong_scale_costs_its_squared_logarithm(factor):
    truth = torch.tensor(np.maximum(maps()[1], 0.5))
    loss = metric_depth_loss(factor * truth, truth, 1.0, 0.0)
    np.testing.assert_allclose(loss.item(), np.log(factor) ** 2, atol=1e-12)


def test_large_residuals_are_weighed_down():
    truth = torch.ones(1, 1, 1000, dtype=torch.float64)
    prediction = truth.clone()
    prediction[..., 0] = np.e**10  # one impossible pixel
    robust, plain = (metric_depth_loss(prediction, truth, alpha, 0.0).item() for alpha in (1.0, 0.0))
    assert robust < 0.2 * plain


def test_unknown_pixels_and_empty_images_cost_nothing():
    prediction, truth = maps()
    other = np.where(truth > 0, prediction, 1e6)
    args = (1.0, 1e-3)
    same = [metric_depth_loss(torch.tensor(p), torch.tensor(truth), *args) for p in (prediction, other)]
    assert same[0] == same[1]
    nothing = metric_depth_loss(torch.tensor(prediction).requires_grad_(), torch.zeros(3, H, W).double(), *args)
    nothing.backward()
    assert nothing == 0


def test_camera_loss():
    rng = np.random.default_rng(0)
    truth, stages = rng.normal(size=(2, 3, 9)), rng.normal(size=(4, 2, 3, 9))
    stages[1, 0, 0, 1] = 1e5  # a translation gone astray counts as 100
    expected = 0.0
    for i, stage in enumerate(stages):
        error = np.abs(stage - truth)
        t, r, f = np.minimum(error[..., :3], 100).mean(), error[..., 3:7].mean(), error[..., 7:].mean()
        expected += 0.6 ** (3 - i) * (t + r + 0.5 * f) / 4
    got = camera_loss(tuple(torch.tensor(stage) for stage in stages), torch.tensor(truth), 0.6)
    np.testing.assert_allclose(got.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [5, 1000, 1001, 5000])
def test_trimmed_mean(count):
    values = np.random.default_rng(0).exponential(size=count)
    kept = np.sort(values)[: int(0.98 * count)] if count > 1000 else values
    np.testing.assert_allclose(trimmed_mean(torch.tensor(values)).item(), kept.mean(), rtol=1e-12)
    assert trimmed_mean(torch.zeros(0)) == 0


def test_gradient_loss():
    rng = np.random.default_rng(0)
    residual, valid = rng.normal(size=(2, 16, 24)), rng.random((2, 16, 24)) < 0.8
    residual[0, 3, 4] = 1e4  # a step beyond 100 counts as 100
    expected = 0.0
    for stride in (1, 2, 4, 8):
        r, v = residual[:, ::stride, ::stride], valid[:, ::stride, ::stride]
        across, down = np.abs(r[:, :, 1:] - r[:, :, :-1]), np.abs(r[:, 1:] - r[:, :-1])
        expected += np.minimum(across, 100)[v[:, :, 1:] & v[:, :, :-1]].mean() / 4
        expected += np.minimum(down, 100)[v[:, 1:] & v[:, :-1]].mean() / 4
    np.testing.assert_allclose(gradient_loss(torch.tensor(residual), torch.tensor(valid)).item(), expected, rtol=1e-12)


def test_depth_loss():
    prediction, truth = maps(seed=1)
    confidence, valid = 1 + np.random.default_rng(2).exponential(size=truth.shape), truth > 0
    error, c = np.abs(prediction - truth)[valid], confidence[valid]
    residual = gradient_loss(torch.tensor(prediction - truth), torch.tensor(valid)).item()
    expected = error.mean() + (error * c - 0.2 * np.log(c)).mean() + residual
    tensors = (torch.tensor(array) for array in (prediction, confidence, truth, valid))
    np.testing.assert_allclose(depth_loss(*tensors, 0.2).item(), expected, rtol=1e-12)


def test_confidence_pays_where_the_error_is_small():
    truth, valid = torch.ones(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    for error, best in ((0.01, 20.0), (0.1, 2.0)):
        losses = {
            c: depth_loss(truth + error, torch.full_like(truth, c), truth, valid, 0.2).item() for c in (2.0, 20.0)
        }
        assert min(losses, key=losses.get) == best


def perfect(targets: GeometryTargets) -> GeometryOutput:
    scale = targets.scale[:, None, None, None]
    encoding = targets.pose_encoding
    nothing = torch.zeros(0)
    return GeometryOutput(
        pose_encoding=encoding,
        pose_encodings=(encoding, encoding),
        camera_from_world=targets.camera_from_world,
        intrinsics=targets.intrinsics,
        relative_depth=targets.depth / scale,
        confidence=torch.ones_like(targets.depth),
        metric_depth=targets.depth,
        scale=targets.scale,
        scale_spread=torch.zeros_like(targets.scale),
        depth=targets.depth,
        semantic_tokens=nothing,
        geometry_tokens=nothing,
        patch_size=14,
    )


def losses(output: GeometryOutput, targets: GeometryTargets, config: GeometryLossConfig | None = None):
    """Of all frames."""
    every = torch.arange(targets.depth.shape[1])
    return geometry_losses(output.pose_encodings, output, targets, every, config or GeometryLossConfig())


@pytest.fixture
def targets() -> GeometryTargets:
    return geometry_targets([random_sample(seed=1), random_sample(seed=2)])


def test_the_truth_costs_nothing(targets):
    total, parts = losses(perfect(targets), targets)
    assert parts.keys() == {"camera", "depth", "points", "metric"}
    for name, value in parts.items():
        assert abs(value) < 1e-4, name
    assert abs(total) < 1e-3


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        (lambda t: {"relative_depth": 1.2 * t.depth / t.scale[:, None, None, None]}, {"depth", "points"}),
        (lambda t: {"metric_depth": 1.2 * t.depth}, {"metric"}),
        (lambda t: {"pose_encodings": (t.pose_encoding + 0.1,) * 2}, {"camera"}),
        (lambda t: {"pose_encoding": t.pose_encoding + torch.tensor([0.1] + 8 * [0.0])}, {"points"}),
    ],
)
def test_each_part_answers_for_its_own(targets, change, raised):
    _, parts = losses(replace(perfect(targets), **change(targets)), targets)
    assert {name for name, value in parts.items() if value > 1e-2} == raised


def test_the_total_is_the_weighted_sum(targets):
    output = replace(perfect(targets), metric_depth=targets.depth + 0.3, confidence=1.5 + targets.depth)
    config = GeometryLossConfig(camera=2, depth=3, points=5, metric=7)
    total, parts = losses(output, targets, config)
    expected = 2 * parts["camera"] + 3 * parts["depth"] + 5 * parts["points"] + 7 * parts["metric"]
    torch.testing.assert_close(total, expected)


def test_maps_of_some_frames_are_held_against_those_frames(targets):
    output = perfect(targets)
    last = targets.depth.shape[1] - 1
    chosen = replace(
        output,
        pose_encoding=output.pose_encoding[:, last:],
        relative_depth=output.relative_depth[:, last:],
        confidence=output.confidence[:, last:],
        metric_depth=output.metric_depth[:, last:],
    )
    for frame, fits in ((last, True), (0, False)):
        total, _ = geometry_losses(
            output.pose_encodings, chosen, targets, torch.tensor([frame]), GeometryLossConfig(metric=0)
        )
        assert (abs(total) < 1e-3) == fits


def miniature_losses(model: ReconstructionModel, targets: GeometryTargets, config: GeometryLossConfig) -> torch.Tensor:
    features = model.encode(targets.images.flatten(0, 1)).unflatten(0, targets.images.shape[:2])
    return losses(model(features, (28, 42)), targets, config)[0]


def test_gradients_of_a_whole_network_are_finite(targets):
    model = reconstruction_model()
    miniature_losses(model, targets, GeometryLossConfig()).backward()
    language = ("phi_lang", "read_language")  # the semantic stream is no business of these losses
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(part in name for part in language):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_the_losses_can_be_learned(targets):
    model = reconstruction_model().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        loss = miniature_losses(model, targets, GeometryLossConfig())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]
