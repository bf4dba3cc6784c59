"""How far adjusted cameras can be trusted: their covariance, and windows that are not to be believed."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.registration.start import EXACT_DEPTH

# Errors of sightings are not independent as the equations take them: a point that is off is off in all frames, depth
# is off in whole regions, and the lens is off for all of them. By so much the stated deviations are larger; measured on
# posed clips with true depth.
_TOGETHER = 4.0
_MIN_FITTING = 0.65  # share of the sightings that must agree with the cameras
_MAX_BARE = 0.15  # share of the frames that may share too few points with the others, where depth is not exact
_MAX_ALONE = 0.2  # share of the frames that nothing in the images may tie to the others
_MAX_ROTATION = np.radians(5.0)  # largest stated deviation
_FEWEST = 50  # sightings


def window_covariance(
    T_camera_window: np.ndarray, adjusted: np.ndarray, covariances: np.ndarray, misfit: float
) -> np.ndarray:
    """Covariance of ``T_window_camera``, float64 [S, 6, 6] on (translation, rotation vector) along the window's axes.

    Args:
        T_camera_window: float64 [S, 4, 4], the cameras that were chosen.
        adjusted: float64 [S, 4, 4], the cameras that the covariances belong to; how far the chosen ones lie from them
            is a part of what they may be off.
        covariances: float64 [S, 6, 6] of a step (rotation, translation) before each of ``adjusted``.
        misfit: mean squared error of the sightings in the deviations that were assumed.
    """
    pose = invert(T_camera_window)
    # A step (r, t) before a pose turns the camera by -R r and shifts it by -R t, along the axes of the window.
    to_window = np.zeros((len(pose), 6, 6))
    to_window[:, :3, 3:] = to_window[:, 3:, :3] = -pose[:, :3, :3]
    scaled = covariances * max(1.0, misfit) * _TOGETHER**2
    result = to_window @ scaled @ to_window.swapaxes(1, 2)
    other = invert(adjusted)
    shift = pose[:, :3, 3] - other[:, :3, 3]
    turn = Rotation.from_matrix(pose[:, :3, :3] @ other[:, :3, :3].swapaxes(1, 2)).as_rotvec()
    apart = np.concatenate([shift, turn], axis=1)
    return result + apart[:, :, None] * apart[:, None, :]


def parallax(T_camera_window: np.ndarray, points: np.ndarray, frame: np.ndarray, point: np.ndarray) -> float:
    """Median over points of the angle between the directions from which the first and the last frame see it, degrees.

    Args:
        T_camera_window: float64 [S, 4, 4].
        points: float64 [P, 3] in the window.
        frame: int [M], of each sighting, those of a point in succession.
        point: int [M].
    """
    starts = np.flatnonzero(np.diff(point, prepend=-1))
    ends = np.append(starts[1:], len(point)) - 1
    centres = invert(T_camera_window)[:, :3, 3]
    first, last = points - centres[frame[starts]], points - centres[frame[ends]]
    crossed = np.linalg.norm(np.cross(first, last), axis=1)
    return float(np.degrees(np.median(np.arctan2(crossed, (first * last).sum(axis=1)))))


def problem(
    *, links: list[str], sightings: int, fitting: float, depth_error: float, covariance: np.ndarray | None
) -> str:
    """One sentence why the cameras of a window cannot be trusted; "" when they can.

    Args:
        links: what placed each frame: "points", "few" of them, "pixels" or "network".
        sightings: of points that several frames see.
        fitting: share of the sightings that agree.
        depth_error: relative, as the points show it.
        covariance: [S, 6, 6] of ``window_covariance``.
    """
    frames = len(links)
    if sightings < _FEWEST:
        return f"its images share {sightings} sightings of points; at least {_FEWEST} are needed"
    alone = links.count("network")
    if alone > _MAX_ALONE * frames:
        return f"nothing in the images ties {alone} of its {frames} frames to the others"
    bare = frames - links.count("points")
    if bare > _MAX_BARE * frames and depth_error > EXACT_DEPTH:
        return (
            f"{bare} of its {frames} frames share too few points with the others, and depth is only good to "
            f"{100 * depth_error:.0f} %"
        )
    if fitting < _MIN_FITTING:
        return f"only {100 * fitting:.0f} % of what its images share agrees on where the cameras were"
    if covariance is None:
        return "its images leave the cameras undetermined"
    turned = np.sqrt(np.linalg.eigvalsh(covariance[:, 3:, 3:])[:, -1].max())
    if turned > _MAX_ROTATION:
        return f"its cameras are known to {np.degrees(turned):.0f} degrees only"
    return ""
