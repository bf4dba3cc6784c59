"""Boxes: intersection over union, accuracy of referred objects (ScanRefer), average precision of detections.

An IoU here is the true quotient in float64. Several reference evaluators add an epsilon to the union, so that a pair of
exactly 0.25 or 0.5 fails their ``>=``; pass their ``epsilon`` to reproduce that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.model.outputs import Box3D

_LEVEL = 1e-6  # how far a box axis may lean from z and still count as z-aligned


def box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Intersection over union of axis-aligned boxes.

    Args:
        a: [N, 6] centre and full size, metres.
        b: [M, 6].
        epsilon: added to the union (1e-8 in ScanRefer's evaluator).

    Returns:
        float64 [N, M]; 0 where both boxes have no volume.
    """
    a, b = _boxes(a, 6), _boxes(b, 6)
    low = np.maximum((a[:, :3] - a[:, 3:] / 2)[:, None], (b[:, :3] - b[:, 3:] / 2)[None])
    high = np.minimum((a[:, :3] + a[:, 3:] / 2)[:, None], (b[:, :3] + b[:, 3:] / 2)[None])
    common = np.prod(np.clip(high - low, 0.0, None), axis=2)
    return _quotient(common, a, b, epsilon)


def oriented_box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Exact intersection over union of boxes that are turned about z, by clipping their footprints.

    Args:
        a: [N, 7] centre, full size (metres) and yaw (radians, x towards y).
        b: [M, 7].
        epsilon: added to the union.

    Returns:
        float64 [N, M].
    """
    a, b = _boxes(a, 7), _boxes(b, 7)
    low = np.maximum((a[:, 2] - a[:, 5] / 2)[:, None], (b[:, 2] - b[:, 5] / 2)[None])
    high = np.minimum((a[:, 2] + a[:, 5] / 2)[:, None], (b[:, 2] + b[:, 5] / 2)[None])
    height = np.clip(high - low, 0.0, None)
    reach = np.hypot(a[:, 3], a[:, 4])[:, None] / 2 + np.hypot(b[:, 3], b[:, 4])[None] / 2
    near = np.linalg.norm(a[:, None, :2] - b[None, :, :2], axis=2) <= reach
    common = np.zeros_like(height)
    for i, j in zip(*np.nonzero(near & (height > 0)), strict=True):
        common[i, j] = _common_area(a[i], b[j]) * height[i, j]
    return _quotient(common, a, b, epsilon)


def to_array(boxes: Sequence[Box3D]) -> np.ndarray:
    """Boxes as [N, 7]: centre, full size, yaw.

    Raises:
        EvaluationError: a box whose z axis leans.
    """
    rows = []
    for box in boxes:
        rotation = np.asarray(box.rotation, dtype=np.float64)
        if abs(rotation[2, 2] - 1.0) > _LEVEL:
            lean = np.degrees(np.arccos(np.clip(rotation[2, 2], -1, 1)))
            raise EvaluationError(f"box {box.label!r} leans {lean:.2f} degrees from z: only z-aligned boxes compare.")
        rows.append([*box.center, *box.size, np.arctan2(rotation[1, 0], rotation[0, 0])])
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def accuracy(iou: np.ndarray, threshold: float) -> float:
    """Share of boxes whose ``iou`` [N] with their truth is at least ``threshold``; a missing box counts with IoU 0."""
    iou = np.asarray(iou, dtype=np.float64)
    if not len(iou):
        raise EvaluationError("no boxes to score.")
    return float(np.mean(iou >= threshold))


def scanrefer_accuracy(
    predicted: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...] = (0.25, 0.5)
) -> dict[str, float]:
    """Acc@k of one predicted box per description, as ScanRefer scores it.

    Args:
        predicted: [N, 6] axis-aligned, centre and full size; a row of NaN stands for no prediction.
        truth: [N, 6].
        thresholds: of the IoU, inclusive.
    """
    predicted, truth = np.asarray(predicted, np.float64), _boxes(truth, 6)
    if predicted.shape != truth.shape:
        raise EvaluationError(f"{predicted.shape} predicted and {truth.shape} true boxes: one of each per description.")
    missing = np.isnan(predicted).any(axis=1)
    pairs = zip(np.where(missing[:, None], 0.0, predicted), truth, strict=True)
    iou = np.array([box_iou(p[None], t[None])[0, 0] for p, t in pairs])
    iou[missing] = 0.0
    return {f"Acc@{threshold:g}": accuracy(iou, threshold) for threshold in thresholds}


def average_precision(
    predicted: Sequence[Sequence[Box3D]], truth: Sequence[Sequence[Box3D]], threshold: float
) -> float:
    """Area under the precision-recall curve of one class over scenes (every-point interpolation, as in VOC 2010).

    In order of falling score each prediction is held against the true box it overlaps most; it is a hit when that IoU
    is at least ``threshold`` and no prediction before took the box. Labels are ignored.

    Args:
        predicted: boxes per scene with scores.
        truth: boxes per scene.
        threshold: of the oriented IoU, inclusive.

    Returns:
        0 to 1; NaN when there is no true box.
    """
    total = sum(len(boxes) for boxes in truth)
    if total == 0:
        return float("nan")
    scores, hits = [], []
    for boxes, true in zip(predicted, truth, strict=True):
        iou = oriented_box_iou(to_array(boxes), to_array(true))
        taken: set[int] = set()
        for i in np.argsort([-box.score for box in boxes], kind="stable"):
            j = int(np.argmax(iou[i])) if len(true) else -1
            hit = j >= 0 and iou[i, j] >= threshold and j not in taken
            if hit:
                taken.add(j)
            scores.append(boxes[i].score)
            hits.append(hit)
    if not hits:
        return 0.0
    ordered = np.array(hits, dtype=np.float64)[np.argsort(-np.array(scores), kind="stable")]
    found = np.cumsum(ordered)
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    return float(np.sum(precision * ordered) / total)


def mean_average_precision(
    predicted: Sequence[Sequence[Box3D]], truth: Sequence[Sequence[Box3D]], threshold: float = 0.25
) -> dict[str, float]:
    """Average precision for each label that occurs in the truth, and their mean under "mAP"."""
    result = {}
    for label in sorted({box.label for boxes in truth for box in boxes}):
        chosen = [[[box for box in boxes if box.label == label] for boxes in side] for side in (predicted, truth)]
        result[label] = average_precision(chosen[0], chosen[1], threshold)
    result["mAP"] = float(np.mean(list(result.values()))) if result else float("nan")
    return result


def merged(boxes: Sequence[Box3D], threshold: float = 0.25) -> list[Box3D]:
    """Boxes without those that overlap a surer one of the same label (non-maximum suppression).

    Args:
        boxes: in one frame.
        threshold: of the oriented IoU, above which two boxes are the same thing. A box whose centre lies inside a surer
            one is the same thing too.
    """
    kept: list[Box3D] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        rivals = [other for other in kept if other.label == box.label]
        inside = [_holds(other, box.center) for other in rivals]
        if not any(inside) and not (oriented_box_iou(to_array([box]), to_array(rivals)) > threshold).any():
            kept.append(box)
    return kept


def _holds(box: Box3D, point: np.ndarray) -> bool:
    offset = np.asarray(box.rotation).T @ (np.asarray(point) - np.asarray(box.center))
    return bool((np.abs(offset) <= np.asarray(box.size) / 2).all())


def _common_area(a: np.ndarray, b: np.ndarray) -> float:
    """Area two footprints share: Sutherland-Hodgman, the rectangle of ``a`` cut by the four sides of ``b``."""
    cos, sin = np.cos(a[6] - b[6]), np.sin(a[6] - b[6])
    dx, dy = a[0] - b[0], a[1] - b[1]
    x0, y0 = dx * np.cos(b[6]) + dy * np.sin(b[6]), dy * np.cos(b[6]) - dx * np.sin(b[6])
    half_x, half_y = a[3] / 2, a[4] / 2
    corners = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    polygon = [(float(x0 + cos * x - sin * y), float(y0 + sin * x + cos * y)) for x, y in corners]
    for axis, limit in ((0, b[3] / 2), (1, b[4] / 2)):
        for sign in (1.0, -1.0):
            polygon = _cut(polygon, axis, sign, float(limit))
    twice = sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True))
    return max(twice / 2, 0.0)


def _cut(polygon: list[tuple[float, float]], axis: int, sign: float, limit: float) -> list[tuple[float, float]]:
    """The part of a polygon where ``sign * coordinate <= limit``."""
    kept = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        over_p, over_q = sign * p[axis] - limit, sign * q[axis] - limit
        if over_p <= 0:
            kept.append(p)
        if (over_p < 0 < over_q) or (over_q < 0 < over_p):
            t = over_p / (over_p - over_q)
            crossing = [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]
            crossing[axis] = sign * limit
            kept.append((crossing[0], crossing[1]))
    return kept


def _quotient(common: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    union = a[:, 3:6].prod(axis=1)[:, None] + b[:, 3:6].prod(axis=1)[None] - common + epsilon
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, width)
    if boxes.ndim != 2 or boxes.shape[1] != width:
        raise EvaluationError(f"boxes must be [N, {width}], got {boxes.shape}.")
    if not np.isfinite(boxes).all() or (boxes[:, 3:6] < 0).any():
        raise EvaluationError("boxes must be finite with sizes of at least 0.")
    return boxes
