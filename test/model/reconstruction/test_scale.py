"""Real-Scale Alignment against a numerical least-squares search, and its draw of images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from vidllm_ros.model.config import ScaleConfig
from vidllm_ros.model.reconstruction.scale import align_scale, image_scales

H, W = 5, 7


def depths(frames: int = 20, batch: int = 1, seed: int = 0):
    """Relative and metric depth and confidence, all [B, S, H, W] float64; every image has a factor of its own."""
    rng = np.random.default_rng(seed)
    relative = rng.uniform(0.2, 3, size=(batch, frames, H, W))
    factors = rng.uniform(1.5, 3, size=(batch, frames, 1, 1))
    metric = relative * factors * rng.lognormal(sigma=0.2, size=relative.shape)
    return relative, metric, 1 + rng.exponential(size=relative.shape)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array) for array in arrays]


def searched(relative, metric, weight) -> float:
    """argmin_s sum w (s d_rel - d_met)^2 by search."""
    return minimize_scalar(
        lambda s: float((weight * (s * relative - metric) ** 2).sum()), bounds=(0, 20), method="bounded",
        options={"xatol": 1e-10},
    ).x  # fmt: skip


def factors_by_hand(relative, metric, confidence) -> np.ndarray:
    """Closed form with weights confidence / d_rel^2."""
    w = confidence / relative**2
    return (w * relative * metric).sum((-1, -2)) / (w * relative**2).sum((-1, -2))


def align(relative, metric, confidence, **settings_) -> tuple[torch.Tensor, torch.Tensor]:
    return align_scale(*tensors(relative, metric, confidence), ScaleConfig(**settings_))


@pytest.mark.parametrize("weighting", ["relative", "absolute"])
def test_the_factor_of_an_image_is_the_weighted_least_squares_one(weighting):
    relative, metric, confidence = (array[0] for array in depths(frames=6))
    got = image_scales(*tensors(relative, metric, confidence), weighting).numpy()
    weight = confidence / relative**2 if weighting == "relative" else confidence
    expected = [searched(*image) for image in zip(relative, metric, weight, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_confidence_decides_between_pixels_that_disagree():
    relative = np.ones((1, H, W))
    metric = np.where(np.arange(W) < 3, 2.0, 4.0) * relative
    confidence = np.where(np.arange(W) < 3, 1e6, 1.0) * relative
    np.testing.assert_allclose(image_scales(*tensors(relative, metric, confidence)), 2.0, rtol=1e-4)


def test_the_scale_is_the_median_and_the_spread_its_deviation():
    relative, metric, confidence = depths(frames=10)
    scale, spread = align(relative, metric, confidence, frames=0)
    factors = factors_by_hand(relative, metric, confidence)[0]
    np.testing.assert_allclose(scale.numpy(), [np.median(factors)], rtol=1e-12)
    deviation = np.median(np.abs(factors - np.median(factors))) / np.median(factors)
    np.testing.assert_allclose(spread.numpy(), [deviation], rtol=1e-12)


def test_sixteen_images_are_drawn_at_random():
    relative, metric, confidence = depths(frames=32)
    factors = factors_by_hand(relative, metric, confidence)[0]
    scales = set()
    for seed in range(8):
        chosen = torch.randperm(32, generator=torch.Generator().manual_seed(seed))[:16].numpy()
        scale = float(align(relative, metric, confidence, frames=16, seed=seed)[0])
        np.testing.assert_allclose(scale, np.median(factors[chosen]), rtol=1e-12)
        scales.add(scale)
    assert len(scales) > 1  # not always the same images


def test_exactly_the_configured_number_of_images_is_used():
    # One image in 32 has another factor: a draw of one sees it or not, a median of all never does.
    relative = np.ones((1, 32, H, W))
    metric = 2 * relative
    metric[0, 5] = 7
    drawn = {float(align(relative, metric, relative, frames=1, seed=seed)[0]) for seed in range(200)}
    assert drawn == {2.0, 7.0}
    assert {float(align(relative, metric, relative, frames=0, seed=seed)[0]) for seed in range(20)} == {2.0}


def test_a_seed_repeats_itself_and_leaves_the_global_generator_alone():
    arrays = depths(frames=32)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = align(*arrays, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(align(*arrays, seed=7)[0], first[0])


@pytest.mark.parametrize("frames", [1, 2, 3, 15, 16])
def test_fewer_frames_than_drawn_are_all_used(frames):
    relative, metric, confidence = depths(frames=frames)
    scale, spread = align(relative, metric, confidence, frames=16)
    np.testing.assert_allclose(scale[0], np.median(factors_by_hand(relative, metric, confidence)), rtol=1e-12)
    assert spread.isfinite().all() and (frames > 1 or spread[0] == 0)


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-3, 1e3), st.floats(0.05, 50))
def test_another_unit_of_relative_depth_gives_the_same_metres(unit, factor):
    relative, _, confidence = depths(frames=4)
    scale, spread = align(relative * unit, relative * factor, confidence)
    np.testing.assert_allclose(scale.numpy(), [factor / unit], rtol=1e-9)
    np.testing.assert_allclose(spread.numpy(), [0], atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("which", [0, 1])
def test_unusable_pixels_do_not_count(which, bad):
    arrays = depths(frames=5)
    whole = [array[..., 1:].copy() for array in arrays]
    arrays[which][..., 0] = bad
    for got, expected in zip(align(*arrays), align(*whole), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_an_unusable_image_does_not_count():
    relative, metric, confidence = depths(frames=5)
    metric[0, 2] = np.nan
    scale, _ = align(relative, metric, confidence)
    kept = [0, 1, 3, 4]
    expected = np.median(factors_by_hand(relative[0, kept], metric[0, kept], confidence[0, kept]))
    np.testing.assert_allclose(scale[0], expected, rtol=1e-12)


def test_nothing_usable_says_so_by_an_infinite_spread():
    relative, metric, confidence = depths(frames=3)
    scale, spread = align(relative, np.full_like(metric, np.nan), confidence)
    assert scale.tolist() == [1.0] and spread.tolist() == [float("inf")]


def test_windows_of_a_batch_are_scaled_separately():
    arrays = depths(frames=6, batch=3)
    together = align(*arrays)[0]
    alone = [align(*(array[b : b + 1] for array in arrays))[0][0] for b in range(3)]
    assert together.tolist() == [float(scale) for scale in alone]


def test_the_answer_has_the_depths_precision():
    relative, metric, confidence = (tensor.float() for tensor in tensors(*depths()))
    scale, spread = align_scale(relative, metric, confidence, ScaleConfig())
    assert scale.dtype == spread.dtype == torch.float32


@pytest.mark.parametrize("factor", [0.1, 1.5, 5.0, 40.0])
@pytest.mark.parametrize("claim", [1.0, 100.0, 1e5])
def test_one_per_cent_of_wrong_pixels_does_not_move_the_metres(factor, claim):
    """However sure they are, and however wrong."""
    rng = np.random.default_rng(4)
    relative = rng.uniform(0.2, 3, (2, 60, 80))
    metric = 2.0 * relative * rng.lognormal(sigma=0.05, size=relative.shape)
    confidence = 1 + rng.exponential(size=relative.shape)
    wrong = rng.random(relative.shape) < 0.01
    metric[wrong] *= factor
    confidence[wrong] *= claim
    np.testing.assert_allclose(image_scales(*tensors(relative, metric, confidence)), 2.0, rtol=0.06)
