"""The network's reconstruction of a window, its cameras adjusted to what the images show (bundle adjustment)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidllm_ros.perception.adjustment.bundle_adjustment import adjust
from vidllm_ros.perception.adjustment.sightings import Sightings
from vidllm_ros.perception.adjustment.tracks import PointTracks
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.types import Reconstruction


def refine(reconstruction: Reconstruction, tracks: PointTracks) -> Reconstruction:
    """A reconstruction with camera poses, and a scale of each frame's depth, that agree with points in its images.

    As VGGT's authors do behind their network (arXiv 2503.11651, section 4.1, "with BA"), but in metres: depth stays the
    network's, up to a few per cent for each frame.

    Args:
        reconstruction: from the network.
        tracks: points in pixels of ``Frame.rgb``.
    """
    sightings = _sightings(reconstruction, tracks)
    if not len(sightings.point):
        return reconstruction
    T_camera_window, factors = adjust(invert(reconstruction.T_window_camera), sightings)
    return replace(
        reconstruction,
        T_window_camera=invert(T_camera_window),
        depth=(reconstruction.depth * factors[:, None, None]).astype(np.float32),
    )


def _sightings(reconstruction: Reconstruction, tracks: PointTracks) -> Sightings:
    """The points with the depth at their pixels; sightings without depth are left out."""
    height, width = reconstruction.depth.shape[1:]
    pixels = _to_network(tracks.pixels, reconstruction)
    u, v = np.round(pixels).astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    depth = np.zeros(len(u))
    depth[inside] = reconstruction.depth[tracks.frame[inside], v[inside], u[inside]]
    known = depth > 0
    frame = tracks.frame[known]
    rays = _to_rays(pixels[known], np.linalg.inv(reconstruction.intrinsics)[frame])
    _, point = np.unique(tracks.point[known], return_inverse=True)
    return Sightings(frame, point, rays, depth[known])


def _to_network(points: np.ndarray, reconstruction: Reconstruction) -> np.ndarray:
    """Image pixels [M, 2] to network pixels."""
    matrix = reconstruction.image_to_network
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _to_rays(points: np.ndarray, inverses: np.ndarray) -> np.ndarray:
    """Network pixels [M, 2] to (x / z, y / z, 1), by the inverses [M, 3, 3] of their camera matrices."""
    return np.einsum("mij,mj->mi", inverses, np.concatenate([points, np.ones((len(points), 1))], axis=1))
