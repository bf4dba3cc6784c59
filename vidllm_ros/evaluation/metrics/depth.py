"""Depth metrics as the NYU Depth v2 evaluators (BTS, ZoeDepth) compute them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

EIGEN_CROP = (slice(45, 471), slice(41, 601))  # rows, columns of a 480 x 640 image (Eigen et al., 2014)
ALIGNMENTS = ("none", "median", "scale", "scale_shift")


@dataclass(frozen=True)
class DepthErrors:
    """Errors of one image, or their mean over images; NaN when no pixel could be compared.

    Attributes:
        abs_rel: mean of |d - d*| / d*.
        rmse: metres.
        log10: mean of |log10 d - log10 d*|.
        delta1: share of pixels with max(d / d*, d* / d) below 1.25; delta2 and delta3 below 1.25^2 and 1.25^3.
        delta2: see ``delta1``.
        delta3: see ``delta1``.
        pixels: how many were compared.
    """

    abs_rel: float
    rmse: float
    log10: float
    delta1: float
    delta2: float
    delta3: float
    pixels: int


def metrics(
    predicted: np.ndarray,
    truth: np.ndarray,
    min_depth: float = 1e-3,
    max_depth: float = 10.0,
    crop: str | None = "eigen",
    align: str = "none",
) -> DepthErrors:
    """Compare two depth images.

    A prediction of another size is resized bilinearly with aligned corners, then clipped to the depth range (infinite
    to the maximum, NaN to the minimum). A pixel counts when its true depth lies strictly inside the range.

    Args:
        predicted: [h, w] metres.
        truth: [H, W] metres; 0 or anything not finite where unknown.
        min_depth: metres, exclusive.
        max_depth: metres, exclusive.
        crop: "eigen" for the centre crop of 480 x 640 images, None for the whole image.
        align: fit the prediction to the truth first, per image: "none", "median" ratio, least-squares "scale", or
            "scale_shift".

    Raises:
        EvaluationError: images that are not two-dimensional, an unknown crop or alignment, or a crop that does not fit.
    """
    predicted, truth = np.asarray(predicted, np.float32), np.asarray(truth, np.float32)
    if predicted.ndim != 2 or truth.ndim != 2 or 0 in predicted.shape:
        raise EvaluationError(f"depth images must be [H, W]; got {predicted.shape} predicted and {truth.shape} true.")
    inside = _crop_mask(truth.shape, crop)
    if predicted.shape != truth.shape:
        predicted = resize_aligned(predicted, truth.shape)
    with np.errstate(invalid="ignore"):
        valid = (truth > np.float32(min_depth)) & (truth < np.float32(max_depth)) & inside
    if not valid.any():
        return DepthErrors(*[float("nan")] * 6, pixels=0)
    predicted = fit(predicted, truth, valid, align)
    predicted = np.nan_to_num(predicted, nan=min_depth, posinf=max_depth, neginf=min_depth).clip(min_depth, max_depth)
    d, true = predicted[valid], truth[valid]
    ratio = np.maximum(true / d, d / true)
    return DepthErrors(
        abs_rel=_mean(np.abs(true - d) / true),
        rmse=float(np.sqrt(_mean((true - d) ** 2))),
        log10=_mean(np.abs(np.log10(true) - np.log10(d))),
        delta1=_mean(ratio < 1.25),
        delta2=_mean(ratio < 1.25**2),
        delta3=_mean(ratio < 1.25**3),
        pixels=int(valid.sum()),
    )


def fit(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray, align: str) -> np.ndarray:
    """The prediction after the named alignment, found on the ``valid`` pixels where it is finite; see ``metrics``."""
    if align not in ALIGNMENTS:
        raise EvaluationError(f"depth alignment {align!r} is unknown: use one of {', '.join(ALIGNMENTS)}.")
    usable = valid & np.isfinite(predicted)
    if align == "none" or not usable.any():
        return predicted
    d, true = predicted[usable].astype(np.float64), truth[usable].astype(np.float64)
    if align == "median":
        return predicted * np.float32(np.median(true) / np.median(d))
    if align == "scale":
        return predicted * np.float32(d @ true / (d @ d))
    slope, shift = np.linalg.lstsq(np.stack([d, np.ones_like(d)], axis=1), true, rcond=None)[0]
    return predicted * np.float32(slope) + np.float32(shift)


def summary(errors: Iterable[DepthErrors]) -> DepthErrors:
    """Mean over images, each image counting once (RMSE too); images without a valid pixel are left out."""
    rows = [asdict(e) for e in errors if e.pixels]
    if not rows:
        return DepthErrors(*[float("nan")] * 6, pixels=0)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return DepthErrors(**{**means, "pixels": sum(row["pixels"] for row in rows)})


def resize_aligned(depth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bilinear resize whose corner pixels coincide (``align_corners`` in other libraries)."""
    rows = np.linspace(0, depth.shape[0] - 1, shape[0], dtype=np.float32)
    columns = np.linspace(0, depth.shape[1] - 1, shape[1], dtype=np.float32)
    x, y = np.meshgrid(columns, rows)
    r0, c0 = np.floor(y).astype(int), np.floor(x).astype(int)
    r1, c1 = np.minimum(r0 + 1, depth.shape[0] - 1), np.minimum(c0 + 1, depth.shape[1] - 1)
    fy, fx = y - r0, x - c0
    top = depth[r0, c0] * (1 - fx) + depth[r0, c1] * fx
    bottom = depth[r1, c0] * (1 - fx) + depth[r1, c1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)


def _crop_mask(shape: tuple[int, ...], crop: str | None) -> np.ndarray:
    if crop is None:
        return np.ones(shape, dtype=bool)
    if crop != "eigen":
        raise EvaluationError(f"crop {crop!r} is unknown: use 'eigen' or None.")
    if shape != (480, 640):
        raise EvaluationError(f"the Eigen crop is defined for 480 x 640 images, got {shape[0]} x {shape[1]}: use None.")
    mask = np.zeros(shape, dtype=bool)
    mask[EIGEN_CROP] = True
    return mask


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))
