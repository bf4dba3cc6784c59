"""Places a window in the map by the frames it shares with a placed one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.config import StitchConfig
from vidllm_ros.perception.geometry.transforms import compose, scale_translation
from vidllm_ros.perception.mapping.cloud import unproject
from vidllm_ros.perception.mapping.similarity import Similarity, fit_similarity
from vidllm_ros.perception.types import Reconstruction

_MAX_PAIRS = 4_000


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a window lies in the map.

    Attributes:
        reconstruction: the window's geometry in its own frame and metres.
        T_map_window: float64 [4, 4].
        scale_ratio: metres of the map per metre of the window.
    """

    reconstruction: Reconstruction
    T_map_window: np.ndarray
    scale_ratio: float = 1.0

    @property
    def T_map_camera(self) -> np.ndarray:
        """Camera poses in map, float64 [S, 4, 4]."""
        return self.T_map_window @ scale_translation(self.reconstruction.T_window_camera, self.scale_ratio)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How well a window fits to a placed one.

    Attributes:
        T_map_window: float64 [4, 4]; meaningless when ``problem`` is set.
        scale_ratio: metres of the map per metre of the window.
        measured_ratio: the same as estimated, before a share of its difference from 1 was left to the window.
        residual: median distance between shared points, relative to their range.
        rotation_residual: median angle between shared cameras, degrees.
        problem: one sentence why the window must not be placed; "" when it may.
    """

    T_map_window: np.ndarray
    scale_ratio: float
    measured_ratio: float
    residual: float
    rotation_residual: float
    problem: str = ""


def align_window(
    window: Reconstruction,
    placed: Placement,
    pairs: list[tuple[int, int]],
    config: StitchConfig,
    trust_scale: bool = True,
) -> Alignment:
    """Aligns ``window`` with ``placed``.

    Both saw the shared frames, so each pixel of those frames gives a pair of points and each frame a pair of camera
    orientations; ``fit_similarity`` joins them. A window whose metres agree with the map's within
    ``config.scale_tolerance`` takes over the map's but for a share, ``config.scale_pull``, by which the map returns to
    the metres of the windows: surfaces meet to that share of the difference, and scale does not drift along the chain.
    A window that differs by more takes over the map's whole.

    Args:
        window: the new window.
        placed: a window in the map.
        pairs: (index in ``window``, index in ``placed``) of each shared frame.
        config: limits.
        trust_scale: False when the window's own scale is unreliable and must follow the map's.
    """
    own = [index for index, _ in pairs]
    other = [index for _, index in pairs]
    source, target, weights, ranges = _matched_points(window, placed, own, other)
    if len(source) < config.min_points:
        problem = (
            f"the {len(pairs)} shared frames have {len(source)} points with confidence in both windows; "
            f"stitch.min_points is {config.min_points}"
        )
        return Alignment(np.eye(4), 1.0, 1.0, np.inf, np.inf, problem)
    rotations = placed.T_map_camera[other, :3, :3] @ np.swapaxes(window.T_window_camera[own, :3, :3], -1, -2)
    fit = fit_similarity(source, target, rotations, weights, ranges)
    measured = fit.scale
    if trust_scale and abs(np.log(max(measured, 1e-9))) <= np.log1p(config.scale_tolerance):
        distributed = measured ** (1.0 - config.scale_pull)
        fit = fit_similarity(source, target, rotations, weights, ranges, scale=distributed)
    return Alignment(
        T_map_window=compose(fit.rotation, fit.translation),
        scale_ratio=fit.scale,
        measured_ratio=measured,
        residual=fit.residual,
        rotation_residual=float(np.degrees(fit.rotation_residual)),
        problem=fit_problem(fit, config, "shared frames", "points"),
    )


def _matched_points(
    window: Reconstruction, placed: Placement, own: list[int], other: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs [N, 3] in the window and in the map, their weights [N] and their ranges [N] in the map's metres."""
    depth = window.depth[own], placed.reconstruction.depth[other]
    confidence = np.sqrt(window.confidence[own] * placed.reconstruction.confidence[other])
    usable = (depth[0] > 0) & (depth[1] > 0) & (confidence > 0)
    frame, v, u = np.nonzero(usable)
    if len(frame) > _MAX_PAIRS:
        chosen = np.linspace(0, len(frame) - 1, _MAX_PAIRS).astype(int)
        frame, v, u = frame[chosen], v[chosen], u[chosen]
    ratio = placed.scale_ratio
    points = []
    for metres, intrinsics, poses in (
        (depth[0], window.intrinsics[own], window.T_window_camera[own]),
        (depth[1] * ratio, placed.reconstruction.intrinsics[other], placed.T_map_camera[other]),
    ):
        points.append(unproject(metres, intrinsics, poses, (frame, v, u)))
    weights = confidence[frame, v, u].astype(np.float64)
    centres = placed.T_map_camera[other][frame, :3, 3]
    return points[0], points[1], weights, np.linalg.norm(points[1] - centres, axis=1)


def fit_problem(fit: Similarity, config: StitchConfig, reference: str, what: str) -> str:
    """One sentence why a fit must not be used, or "".

    Args:
        fit: the fit.
        config: limits.
        reference: what the window was aligned by, in words.
        what: what was matched, in words.
    """
    angle = float(np.degrees(fit.rotation_residual))
    if not (np.isfinite(fit.scale) and np.isfinite(fit.residual) and np.isfinite(fit.translation).all()):
        return f"the {reference} give no finite alignment"
    if not 1 / config.max_scale_ratio <= fit.scale <= config.max_scale_ratio:
        return (
            f"by the {reference} its metres are {fit.scale:.3g} times the map's; "
            f"stitch.max_scale_ratio allows a factor of {config.max_scale_ratio:g}"
        )
    if angle > config.max_rotation_residual:
        return (
            f"the cameras of the {reference} disagree by {angle:.1f} degrees after alignment; "
            f"stitch.max_rotation_residual is {config.max_rotation_residual:g}"
        )
    if fit.residual > config.max_residual:
        return (
            f"the {what} of the {reference} lie {fit.residual:.3f} of their range apart after alignment; "
            f"stitch.max_residual is {config.max_residual:g}"
        )
    return ""
