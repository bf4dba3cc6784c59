"""How far a figure can be trusted: bootstrap confidence intervals that respect which room an item came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vidllm_ros.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: over all items.
        low: lower bound.
        high: upper bound.
        rooms: how many rooms had items.
        items: how many items.
    """

    mean: float
    low: float
    high: float
    rooms: int
    items: int

    def __str__(self) -> str:
        """Mean and bounds."""
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(rooms: Sequence[ArrayLike], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over all items, drawing whole rooms (Efron and Tibshirani, 1993, chapter 13).

    Items of one room share its furniture, light and camera path, so drawing items instead would promise too much.

    Args:
        rooms: for each room the scores of its items; empty rooms and NaN scores are left out.
        confidence: share of the resampled means inside the interval.
        resamples: how many times rooms are drawn with replacement.
        seed: of the draw.

    Raises:
        EvaluationError: no score at all, or a confidence outside 0 to 1.
    """
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence = {confidence}: must lie between 0 and 1, for example 0.95.")
    sums, counts = _sums(rooms)
    if not len(sums):
        raise EvaluationError("no scores to put an interval around.")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), len(sums), int(counts.sum()))


def bootstrap_difference(
    rooms: Sequence[ArrayLike],
    baseline: Sequence[ArrayLike],
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean of ``rooms`` minus ``baseline``, item by item; it excludes 0 where the two really differ.

    Args:
        rooms: for each room the scores of its items.
        baseline: the scores of the same items by the other method.
        confidence: as ``bootstrap``.
        resamples: as ``bootstrap``.
        seed: as ``bootstrap``.

    Raises:
        EvaluationError: the two do not have the same items.
    """
    ours = [np.asarray(room, dtype=np.float64).reshape(-1) for room in rooms]
    theirs = [np.asarray(room, dtype=np.float64).reshape(-1) for room in baseline]
    if [len(room) for room in ours] != [len(room) for room in theirs]:
        raise EvaluationError("the two methods were not scored on the same items: both need the same rooms and items.")
    return bootstrap([a - b for a, b in zip(ours, theirs, strict=True)], confidence, resamples, seed)


def _sums(rooms: Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    arrays = [np.asarray(room, dtype=np.float64).reshape(-1) for room in rooms]
    arrays = [array[~np.isnan(array)] for array in arrays]
    arrays = [array for array in arrays if len(array)]
    return np.array([array.sum() for array in arrays]), np.array([len(array) for array in arrays], dtype=np.float64)
