"""Points matched by how their surroundings look (SIFT, Lowe, IJCV 2004), for steps too wide to be followed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_MAX_POINTS = 600
_RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor (Lowe)


@dataclass(frozen=True, eq=False)
class DescribedPoints:
    """Points float32 [N, 2] (u, v) of an image and their descriptors float32 [N, 128]."""

    points: np.ndarray
    descriptors: np.ndarray


def describe(gray: np.ndarray) -> DescribedPoints:
    """The strongest points of an image uint8 [H, W]."""
    sift = cv2.SIFT_create(nfeatures=_MAX_POINTS, contrastThreshold=0.02)  # type: ignore[attr-defined]
    keypoints, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return DescribedPoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    # A corner with several directions is there several times; once is enough.
    _, first = np.unique(points, axis=0, return_index=True)
    # RootSIFT: square roots of descriptors of sum 1 (Arandjelovic and Zisserman, CVPR 2012).
    descriptors = descriptors[first] / np.maximum(descriptors[first].sum(axis=1, keepdims=True), 1e-9)
    return DescribedPoints(points[first], np.sqrt(descriptors))


def match(first: DescribedPoints, second: DescribedPoints) -> tuple[np.ndarray, np.ndarray]:
    """Indices int [M] into both of points that are each other's nearest, and clearly nearer than the next ones."""
    if min(len(first.points), len(second.points)) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    # Descriptors have length 1.
    likeness = first.descriptors @ second.descriptors.T
    best = likeness.argmax(axis=1)
    rows = np.arange(len(best))
    mutual = likeness.argmax(axis=0)[best] == rows
    nearest = likeness[rows, best]
    likeness[rows, best] = -1
    distance, next_distance = (np.sqrt(np.maximum(2 - 2 * v, 0)) for v in (nearest, likeness.max(axis=1)))
    chosen = np.flatnonzero(mutual & (distance < _RATIO * next_distance))
    return chosen, best[chosen]
