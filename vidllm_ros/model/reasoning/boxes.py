"""Upright boxes as seven numbers: conversion, suppression, voting.

A box vector is [cx, cy, cz, dx, dy, dz, yaw]: centre and full edge lengths in metres, and the turn about z in radians
that takes the frame's x axis to the box's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.model.reasoning.overlap import oriented_box_iou


def box_vectors(boxes: Sequence[Box3D]) -> np.ndarray:
    """Box vectors [G, 7], float64; a rotation that is not about z loses its tilt."""
    rows = [(*box.center, *box.size, np.arctan2(box.rotation[1, 0], box.rotation[0, 0])) for box in boxes]
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def box_from_vector(vector: np.ndarray, label: str = "", score: float = 1.0) -> Box3D:
    """The box of a vector [7]."""
    x, y, z, dx, dy, dz, yaw = (float(value) for value in vector)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return Box3D(np.array([x, y, z]), np.array([dx, dy, dz]), rotation, label, score)


def points_inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points [T, 3] lie within which boxes [M, 7]; bool [M, T]."""
    offsets = points.unsqueeze(0) - boxes[:, None, :3]
    cosine, sine = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    local = torch.stack(
        [
            offsets[..., 0] * cosine + offsets[..., 1] * sine,
            offsets[..., 1] * cosine - offsets[..., 0] * sine,
            offsets[..., 2],
        ],
        dim=-1,
    )
    return (local.abs() <= boxes[:, None, 3:6] / 2).all(dim=-1)


def suppress(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: [M, 7]
        scores: [M]
        max_iou: a box that overlaps a better one by more is dropped.

    Returns:
        Indices of the boxes that stay, best first.
    """
    iou = oriented_box_iou(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if (iou[index, kept] <= max_iou).all():
            kept.append(int(index))
    return kept


def vote(boxes: np.ndarray, scores: np.ndarray, chosen: Sequence[int], reach: float) -> np.ndarray:
    """Each chosen box as the mean of all boxes around it (box voting; Gidaris and Komodakis, ICCV 2015).

    Only boxes that overlap the chosen one vote, by their score, their overlap and how near their centre is, so that
    things that stand side by side stay where they are. Footprints are averaged as ellipses, by their second
    moments, because a box that is turned by a quarter and has its sides exchanged is the same.

    Args:
        boxes: [M, 7]
        scores: [M], not negative.
        chosen: K indices of boxes.
        reach: metres within which boxes count as the same thing, as the width of a bell; 0 leaves boxes as they are.

    Returns:
        [K, 7], the longer side first.
    """
    if reach <= 0:
        return boxes[list(chosen)]
    cosine, sine = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    turns = np.array([[cosine, -sine], [sine, cosine]]).transpose(2, 0, 1)
    moments = turns @ (boxes[:, 3:5, None] ** 2 * turns.swapaxes(1, 2))
    result = np.zeros((len(chosen), 7))
    overlap = oriented_box_iou(boxes[list(chosen)], boxes)
    for row, index, shared in zip(result, chosen, overlap, strict=True):
        distance = np.linalg.norm(boxes[:, :3] - boxes[index, :3], axis=1)
        weight = (scores + 1e-9) * shared * np.exp(-((distance / reach) ** 2))
        weight /= weight.sum()
        squares, axes = np.linalg.eigh(np.tensordot(weight, moments, 1))
        row[:3] = weight @ boxes[:, :3]
        row[3:5] = np.sqrt(squares[::-1])
        row[5] = np.exp(weight @ np.log(boxes[:, 5]))
        row[6] = np.arctan2(axes[1, 1], axes[0, 1])
    return result
