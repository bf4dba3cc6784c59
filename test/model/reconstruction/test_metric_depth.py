"""The Metric Depth Model: bins, ordinal-aware probabilities and refined centres (paper section 3.2)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from float64_layers import convolution, gelu, randomize, resize, softmax, softplus, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from vidllm_ros.model.config import MetricDepthConfig
from vidllm_ros.model.reconstruction.metric_depth import MetricDepthModel, base_centres, log_binomial

DIM, GRID, SIZE = 12, (2, 3), (28, 42)
CONFIG = MetricDepthConfig(bins=16, min_depth=0.2, max_depth=10.0, features=8, channels=(8, 12, 16, 4), frames_chunk=3)


def metric_depth(seed: int = 0, spread: float = 0.3, **changes) -> MetricDepthModel:
    return randomize(MetricDepthModel(replace(CONFIG, **changes), DIM), seed, spread).eval()


def features(frames: int = 4, layers: int = 3, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, layers, GRID[0] * GRID[1], DIM, generator=generator)


def pixel(value: float, dtype=torch.float64) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=dtype)


@pytest.mark.parametrize("bins", [2, 16, 64, 256])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.97])
def test_temperature_one_is_the_binomial_distribution(p, bins):
    got = log_binomial(pixel(p), pixel(1.0), bins).flatten().numpy()
    np.testing.assert_allclose(got, binom.pmf(np.arange(bins), bins - 1, p), atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1), st.floats(0.0212, 50), st.sampled_from([2, 7, 64]))
def test_probabilities_sum_to_one_with_one_peak(p, temperature, bins):
    probability = log_binomial(pixel(p), pixel(temperature), bins).flatten().numpy()
    clamped = np.clip(p, 1e-4, 1 - 1e-4)
    logits = binom.logpmf(np.arange(bins), bins - 1, clamped) / temperature
    np.testing.assert_allclose(probability, softmax(logits), atol=1e-6)
    np.testing.assert_allclose(probability.sum(), 1, atol=1e-9)
    peak = probability.argmax()
    assert (np.diff(probability[: peak + 1]) >= -1e-12).all() and (np.diff(probability[peak:]) <= 1e-12).all()


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.5, 1 - 1e-6, 1.0])
@pytest.mark.parametrize("temperature", [0.0212, 1.0, 50.0])
def test_gradients_stay_finite_at_certainty(p, temperature):
    probability, heat = pixel(p, torch.float32).requires_grad_(), pixel(temperature, torch.float32).requires_grad_()
    out = log_binomial(probability, heat, 64)
    (out * torch.arange(64.0)[:, None, None]).sum().backward()
    assert out.isfinite().all() and probability.grad.isfinite().all() and heat.grad.isfinite().all()


@pytest.mark.parametrize(("bins", "low", "high"), [(64, 0.1, 10.0), (8, 0.5, 80.0), (2, 1e-3, 1.0)])
def test_base_centres_are_log_spaced_inside_the_range(bins, low, high):
    centres, half_widths = (tensor.double().numpy() for tensor in base_centres(bins, low, high))
    edges = np.geomspace(low, high, bins + 1)
    np.testing.assert_allclose(centres, np.sqrt(edges[:-1] * edges[1:]), rtol=1e-6)
    assert (centres - half_widths >= edges[:-1] * (1 - 1e-6)).all()
    assert (centres + half_widths <= edges[1:] * (1 + 1e-6)).all()


def decoded(model: MetricDepthModel, frames: torch.Tensor) -> np.ndarray:
    """The decoder's features F_i, [F, features, h, w]; ``test_dpt`` holds the decoder to its definition."""
    layers = list(frames.unbind(1))
    layers += [layers[-1]] * (4 - len(layers))
    return np.maximum(model.decoder(layers, GRID).detach().double().numpy(), 0)


def bins_by_hand(model: MetricDepthModel, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    w, f = weights(model), decoded(model, frames)
    config = model.config
    edges = np.geomspace(config.min_depth, config.max_depth, config.bins + 1)
    c_k = np.sqrt(edges[:-1] * edges[1:])
    half = np.minimum(c_k - edges[:-1], edges[1:] - c_k)
    centres = c_k[:, None, None] + np.tanh(convolution(w, "residual", f)) * half[:, None, None]
    out = convolution(w, "distribution", gelu(convolution(w, "hidden", f)))
    if config.normalization == "softmax":
        return softmax(out, axis=1), centres
    p0, p1, t0, t1 = np.split(softplus(out) + 1e-4, 4, axis=1)
    p, temperature = p0 / (p0 + p1), 0.0212 + (50 - 0.0212) * t0 / (t0 + t1)
    k = np.arange(config.bins)[:, None, None]
    return softmax(binom.logpmf(k, config.bins - 1, np.clip(p, 1e-4, 1 - 1e-4)) / temperature, axis=1), centres


@torch.no_grad()
@pytest.mark.parametrize("normalization", ["log_binomial", "softmax"])
@pytest.mark.parametrize("layers", [1, 3, 4])
def test_depth_is_the_expectation_over_refined_centres(normalization, layers):
    model, frames = metric_depth(normalization=normalization), features(layers=layers)
    probabilities, centres = bins_by_hand(model, frames[0])
    got_probabilities, got_centres = model.bins(frames[0], GRID)
    np.testing.assert_allclose(got_probabilities.numpy(), probabilities, atol=1e-4)
    np.testing.assert_allclose(got_centres.numpy(), centres, rtol=1e-4)
    expected = resize((probabilities * centres).sum(axis=1), SIZE, align_corners=False)
    np.testing.assert_allclose(model(frames, GRID, SIZE)[0].numpy(), expected, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("normalization", ["log_binomial", "softmax"])
@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_centres_ascend_and_depth_stays_in_range_however_large_the_residuals(normalization, spread):
    model = metric_depth(spread=spread, normalization=normalization)
    probabilities, centres = model.bins(features()[0], GRID)
    assert (centres.diff(dim=1) >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones_like(probabilities[:, 0]))
    depth = model(features(), GRID, SIZE)
    assert depth.isfinite().all()
    assert depth.min() >= CONFIG.min_depth * (1 - 1e-5) and depth.max() <= CONFIG.max_depth * (1 + 1e-5)
    if spread < 1:
        assert (centres.diff(dim=1) > 0).all()
        assert (centres[0, :, 0, 0] != centres[0, :, 1, 1]).any()  # refined per pixel


@pytest.mark.parametrize("normalization", ["log_binomial", "softmax"])
@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_gradients_are_finite(normalization, spread):
    model, tokens = metric_depth(spread=spread, normalization=normalization), features().requires_grad_()
    model(tokens, GRID, SIZE).log().sum().backward()
    assert tokens.grad.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert spread > 1 or parameter.grad.any(), name


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_a_frame_is_judged_on_its_own(chunk):
    tokens = features(frames=5, batch=2)
    together = metric_depth()(tokens, GRID, SIZE)
    assert together.shape == (2, 5, *SIZE)
    torch.testing.assert_close(metric_depth(frames_chunk=chunk)(tokens, GRID, SIZE), together, rtol=1e-5, atol=1e-5)
    alone = metric_depth()(tokens[1:, 3:4], GRID, SIZE)
    torch.testing.assert_close(alone, together[1:, 3:4], rtol=1e-5, atol=1e-5)


def test_bins_are_no_weights():
    assert not [name for name in metric_depth().state_dict() if "centres" in name or "half_widths" in name]
