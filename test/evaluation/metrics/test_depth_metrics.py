import math

import numpy as np
import pytest
import torch

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import depth


def by_hand(predicted, truth, low, high):
    rows = []
    for p, t in zip(predicted.ravel(), truth.ravel(), strict=True):
        if low < t < high:
            p = min(max(float(p), low), high)
            rows.append((abs(t - p) / t, (t - p) ** 2, abs(math.log10(t) - math.log10(p)), max(t / p, p / t)))
    rel, square, log, ratio = (np.array(column) for column in zip(*rows, strict=True))
    return rel.mean(), math.sqrt(square.mean()), log.mean(), *[(ratio < 1.25**k).mean() for k in (1, 2, 3)], len(rows)


def test_against_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 11, (40, 50)).astype(np.float32)
    predicted = (truth * rng.lognormal(0, 0.3, truth.shape)).astype(np.float32)
    errors = depth.metrics(predicted, truth, 1e-3, 10.0, crop=None)
    np.testing.assert_allclose(tuple(vars(errors).values()), by_hand(predicted, truth, 1e-3, 10.0), rtol=2e-6)


def test_holes_limits_and_values_that_are_not_finite():
    truth = np.array([[0.0, np.nan, np.inf, 10.0, 1e-3, 2.0, 2.0, 2.0, 2.0]], np.float32)
    predicted = np.array([[1, 1, 1, 1, 1, np.inf, np.nan, -5.0, 2.0]], np.float32)
    errors = depth.metrics(predicted, truth, crop=None)
    assert errors.pixels == 4  # values on the limits are out
    assert errors.abs_rel == pytest.approx((4 + 2 * (2 - 1e-3) / 2) / 4, rel=1e-6)
    assert errors.delta1 == 0.25


def test_eigen_crop_is_rows_45_to_470_and_columns_41_to_600():
    truth = np.zeros((480, 640), np.float32)
    truth[45, 41] = truth[470, 600] = 2.0
    truth[44, 41] = truth[471, 600] = truth[45, 40] = truth[470, 601] = 5.0
    errors = depth.metrics(np.full((480, 640), 2.0), truth)
    assert (errors.pixels, errors.abs_rel) == (2, 0.0)
    with pytest.raises(EvaluationError, match="480 x 640"):
        depth.metrics(truth[:100], truth[:100])


def test_resize_agrees_with_torch_aligned_corners():
    small = np.random.default_rng(1).uniform(1, 5, (12, 16)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None, None], size=(47, 63), mode="bilinear", align_corners=True
    )[0, 0].numpy()
    np.testing.assert_allclose(depth.resize_aligned(small, (47, 63)), reference, rtol=1e-5)


@pytest.mark.parametrize(
    ("align", "disturb"),
    [("median", lambda d: 3 * d), ("scale", lambda d: 3 * d), ("scale_shift", lambda d: 0.5 * d - 0.1)],
)
def test_alignment_undoes_what_it_may(align, disturb):
    truth = np.random.default_rng(2).uniform(1, 5, (20, 20)).astype(np.float32)
    assert depth.metrics(disturb(truth), truth, crop=None).abs_rel > 0.3
    assert depth.metrics(disturb(truth), truth, crop=None, align=align).abs_rel < 1e-5


def test_nothing_to_compare_gives_nan_and_leaves_the_mean():
    empty = depth.metrics(np.ones((4, 4)), np.zeros((4, 4)), crop=None)
    assert math.isnan(empty.abs_rel) and empty.pixels == 0
    good = depth.metrics(np.full((4, 4), 1.1), np.ones((4, 4)), crop=None)
    assert depth.summary([empty, good]).abs_rel == pytest.approx(0.1)
    assert math.isnan(depth.summary([empty]).rmse)


def test_images_count_equally_whatever_their_number_of_pixels():
    one = depth.metrics(np.full((1, 1), 2.0), np.ones((1, 1)), crop=None)
    many = depth.metrics(np.ones((10, 10)), np.ones((10, 10)), crop=None)
    assert depth.summary([one, many]).abs_rel == pytest.approx(0.5)


def test_bad_requests_say_so():
    image = np.ones((4, 4))
    with pytest.raises(EvaluationError, match=r"\[H, W\]"):
        depth.metrics(np.ones(4), image, crop=None)
    with pytest.raises(EvaluationError, match="garg"):
        depth.metrics(image, image, crop="garg")
    with pytest.raises(EvaluationError, match="least"):
        depth.metrics(image, image, crop=None, align="least")
