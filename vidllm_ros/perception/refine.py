"""The network's reconstruction of a window, its cameras adjusted to what the images show (bundle adjustment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vidllm_ros.perception.bundle_adjustment import Observations, adjust
from vidllm_ros.perception.tracks import PairMatches
from vidllm_ros.perception.transforms import invert
from vidllm_ros.perception.types import Reconstruction


def refine(reconstruction: Reconstruction, pairs: Sequence[PairMatches]) -> Reconstruction:
    """A reconstruction with camera poses, and a scale of each frame's depth, that agree with matches between images.

    As VGGT's authors do behind their network (arXiv 2503.11651, section 4.1, "with BA"), but in metres: depth stays the
    network's, up to a few per cent for each frame.

    Args:
        reconstruction: from the network.
        pairs: matches in pixels of ``Frame.rgb``.
    """
    observations = _observations(reconstruction, pairs)
    if not len(observations.points):
        return reconstruction
    T_camera_window, factors = adjust(invert(reconstruction.T_window_camera), observations)
    return replace(
        reconstruction,
        T_window_camera=invert(T_camera_window),
        depth=(reconstruction.depth * factors[:, None, None]).astype(np.float32),
    )


def _observations(reconstruction: Reconstruction, pairs: Sequence[PairMatches]) -> Observations:
    """Each match in both directions, with the depth at its points; those without depth are left out."""
    height, width = reconstruction.depth.shape[1:]
    inverses = np.linalg.inv(reconstruction.intrinsics)
    sources, targets, points, seen = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros((0, 3))], [np.zeros((0, 2))]
    for pair in pairs:
        frames = (pair.first, pair.second)
        pixels = [_to_network(p, reconstruction) for p in (pair.first_points, pair.second_points)]
        rays = [_to_rays(p, inverses[frame]) for p, frame in zip(pixels, frames, strict=True)]
        for source, target in ((0, 1), (1, 0)):
            u, v = np.round(pixels[source]).astype(int).T
            inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
            depth = np.zeros(len(u))
            depth[inside] = reconstruction.depth[frames[source], v[inside], u[inside]]
            known = depth > 0
            sources.append(np.full(known.sum(), frames[source]))
            targets.append(np.full(known.sum(), frames[target]))
            points.append((rays[source] * depth[:, None])[known])
            seen.append(rays[target][known, :2])
    return Observations(*(np.concatenate(values) for values in (sources, targets, points, seen)))


def _to_network(points: np.ndarray, reconstruction: Reconstruction) -> np.ndarray:
    """Image pixels [M, 2] to network pixels."""
    matrix = reconstruction.image_to_network
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _to_rays(points: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Network pixels [M, 2] to (x / z, y / z, 1), by the inverse [3, 3] of their camera matrix."""
    return np.concatenate([points, np.ones((len(points), 1))], axis=1) @ inverse.T
