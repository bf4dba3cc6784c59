"""Boxes of an evaluation: checked, in the arrays that overlap is computed on, and in other frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.model.outputs import Box3D
from vidllm_ros.model.reasoning import overlap
from vidllm_ros.model.reasoning.boxes import box_vectors

_LEVEL = 1e-6  # how far a box axis may lean from z and still count as z-aligned


def box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0, dtype: type = np.float64) -> np.ndarray:
    """``overlap.box_iou`` of boxes [N, 6] and [M, 6] that are checked first: ``dtype`` [N, M].

    Raises:
        EvaluationError: as ``check_boxes``.
    """
    return overlap.box_iou(check_boxes(a, 6), check_boxes(b, 6), epsilon, dtype)


def oriented_box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """``overlap.oriented_box_iou`` of boxes [N, 7] and [M, 7] that are checked first: float64 [N, M].

    Raises:
        EvaluationError: as ``check_boxes``.
    """
    return overlap.oriented_box_iou(check_boxes(a, 7), check_boxes(b, 7), epsilon)


def to_array(boxes: Sequence[Box3D]) -> np.ndarray:
    """Boxes as [N, 7]: centre, full size, yaw.

    Raises:
        EvaluationError: a box whose z axis leans.
    """
    for box in boxes:
        rotation = np.asarray(box.rotation, dtype=np.float64)
        if abs(rotation[2, 2] - 1.0) > _LEVEL:
            lean = np.degrees(np.arccos(np.clip(rotation[2, 2], -1, 1)))
            raise EvaluationError(f"box {box.label!r} leans {lean:.2f} degrees from z: only z-aligned boxes compare.")
    return box_vectors(boxes)


def moved(boxes: np.ndarray, T_there_here: np.ndarray) -> np.ndarray:
    """Boxes [N, 7] (centre, full size, yaw) in another frame; [4, 4] may only turn about z, and shift."""
    boxes, turn = check_boxes(boxes, 7), T_there_here[:3, :3]
    yaw = boxes[:, 6:] + np.arctan2(turn[1, 0], turn[0, 0])
    return np.concatenate([boxes[:, :3] @ turn.T + T_there_here[:3, 3], boxes[:, 3:6], yaw], axis=1)


def enclosing(boxes: np.ndarray) -> np.ndarray:
    """The smallest boxes along the axes [N, 6] around boxes [N, 7] that are turned about z."""
    boxes = check_boxes(boxes, 7)
    cos, sin = np.abs(np.cos(boxes[:, 6])), np.abs(np.sin(boxes[:, 6]))
    wide = np.stack([cos * boxes[:, 3] + sin * boxes[:, 4], sin * boxes[:, 3] + cos * boxes[:, 4], boxes[:, 5]], axis=1)
    return np.concatenate([boxes[:, :3], wide], axis=1)


def check_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes as float64 [N, width], checked; any empty list gives [0, width].

    Raises:
        EvaluationError: another shape, values that are not finite, or negative sizes.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, width)
    if boxes.ndim != 2 or boxes.shape[1] != width:
        raise EvaluationError(f"boxes must be [N, {width}], got {boxes.shape}.")
    if not np.isfinite(boxes).all() or (boxes[:, 3:6] < 0).any():
        raise EvaluationError("boxes must be finite with sizes of at least 0.")
    return boxes
