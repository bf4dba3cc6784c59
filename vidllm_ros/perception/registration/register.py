"""The network's reconstruction of a window, its cameras adjusted to what the images show (bundle adjustment)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.registration.bundle_adjustment import KERNELS, Solution, Terms, adjust, approach
from vidllm_ros.perception.registration.motion_terms import MotionTerms, neighbours
from vidllm_ros.perception.registration.point_terms import PointTerms
from vidllm_ros.perception.registration.sightings import FITS, Sightings
from vidllm_ros.perception.registration.start import Images, Start, find_start
from vidllm_ros.perception.registration.tracks import PointTracks
from vidllm_ros.perception.registration.trust import parallax, problem, window_covariance
from vidllm_ros.perception.types import AdjustmentReport, Reconstruction

_PIXEL_ERROR = 0.5  # standard deviation of where a point is seen, pixels of the image that was searched
_MIN_PIXEL_ERROR = 0.3  # pixels of the camera's image, which an enlarged one does not make more exact
_EDGE = 0.05  # relative difference of neighbouring depths, beyond which there is nothing between them
_APART = 10  # one point out of so many is kept apart, to judge by
_MIN_GAIN = 0.03  # of what points that were kept apart cost, for which the start is left
NO_POINTS = "its images share no points with depth"
NO_SOLUTION = "its images leave the cameras undetermined"
_BARE = 4.0  # times the error of points in frames that too few points agree on
_WIDE = 10.0  # kernel under which starts are compared, standard deviations
_MOTION_KERNEL = 10.0


def register(reconstruction: Reconstruction, tracks: PointTracks) -> Reconstruction:
    """A reconstruction with camera poses, and a scale of each frame's depth, that agree with points in its images.

    As VGGT's authors do behind their network (arXiv 2503.11651, section 4.1, "with BA"), but in metres: depth stays the
    network's, up to a few per cent for each frame. Several starts are compared by what they explain; the result is
    taken only if it explains points that were kept apart better than the network's cameras do.

    Args:
        reconstruction: from the network.
        tracks: points in pixels of ``Frame.rgb``.
    """
    sightings = find_sightings(reconstruction, tracks)
    if not len(sightings):
        return replace(reconstruction, adjustment=AdjustmentReport(problem=NO_POINTS))
    given = invert(reconstruction.T_window_camera)
    used, apart = sightings.split(_APART)
    if not len(used) or not len(apart):
        used = apart = sightings
    try:
        result = _best(given, used, apart, reconstruction)
    except np.linalg.LinAlgError:
        return replace(reconstruction, adjustment=AdjustmentReport(problem=NO_SOLUTION))
    return _described(reconstruction, sightings, result)


@dataclass(frozen=True, eq=False)
class _Result:
    """The cameras that were chosen: the network's, or adjusted ones."""

    T_camera_window: np.ndarray
    log_scales: np.ndarray
    start: str
    solution: Solution
    taken: bool
    gain: float
    links: list[str]


def _best(given: np.ndarray, used: Sightings, apart: Sightings, reconstruction: Reconstruction) -> _Result:
    noise = reconstruction.noise
    images = Images(reconstruction.rgb, reconstruction.depth, reconstruction.intrinsics)
    found = find_start(given, used, images, noise.depth)
    used, apart = (_doubted(part, found) for part in (used, apart))
    # The network's motion is believed as far as its noise says; where it is far off, it loses its say.
    own = neighbours(given, np.radians(noise.rotation_deg), noise.translation, _MOTION_KERNEL)
    motions = [own, _whole_images(found)]
    starts = {
        "network": given,
        "pairs": approach(given, used, motions, noise.depth_frame),
        "images": found.T_camera_window,
    }
    still = np.zeros(len(given))

    def costs_all(poses: np.ndarray) -> float:
        """All that is known, under a wide kernel."""
        known = sum(term.cost(poses, still, _WIDE) for term in motions)
        return known + len(used) * explained(poses, still, used, noise.depth, _WIDE)

    name = min(starts, key=lambda name: costs_all(starts[name]))
    solution = adjust(starts[name], used, motions, noise.depth, noise.depth_frame)
    before = explained(given, still, apart, noise.depth, KERNELS[-1])
    after = explained(solution.T_camera_window, solution.log_scales, apart, noise.depth, KERNELS[-1])
    gain = 1 - after / max(before, 1e-12)
    if gain < _MIN_GAIN:
        return _Result(given, still, "network", solution, False, gain, found.links)
    start = "images" if name == "images" else "network"
    return _Result(solution.T_camera_window, solution.log_scales, start, solution, True, gain, found.links)


def _doubted(sightings: Sightings, start: Start) -> Sightings:
    """With larger errors in frames that too few points agree on: much of what is followed there slides along edges."""
    bare = np.array([link == "pixels" for link in start.links])[sightings.frame]
    return replace(sightings, ray_error=np.where(bare, _BARE * sightings.ray_error, sightings.ray_error))


def _whole_images(start: Start) -> Terms:
    """The motions between frames that were compared as a whole."""
    pairs = np.array(list(start.motions), int).reshape(-1, 2)
    motions = list(start.motions.values())
    return MotionTerms(
        pairs[:, 0],
        pairs[:, 1],
        np.array([motion.T_target_source for motion in motions]).reshape(-1, 4, 4),
        np.array([motion.information for motion in motions]).reshape(-1, 6, 6),
        None,
    )


def explained(
    T_camera_window: np.ndarray, log_scales: np.ndarray, sightings: Sightings, depth_error: float, kernel: float
) -> float:
    """Mean robust cost of sightings when the points lie where they fit these cameras best; small is good."""
    points = PointTerms(sightings, T_camera_window, depth_error)
    points.settle(T_camera_window, log_scales, kernel)
    return points.cost(T_camera_window, log_scales, kernel) / len(sightings)


def _described(reconstruction: Reconstruction, sightings: Sightings, result: _Result) -> Reconstruction:
    """The reconstruction with the chosen cameras, and what the images say about them."""
    poses, solution = result.T_camera_window, result.solution
    points = PointTerms(sightings, poses, solution.depth_error)
    points.settle(poses, result.log_scales, KERNELS[-1])
    squared = points.squared(poses, result.log_scales)
    fits = squared < FITS**2
    # Of two coordinates, of what fits.
    misfit = float(squared[fits].mean() / 2) if fits.any() else 1.0
    covariance = window_covariance(poses, solution.T_camera_window, solution.covariances, misfit)
    focal = float(reconstruction.image_intrinsics[0, 0, 0])
    report = AdjustmentReport(
        start=result.start,
        taken=result.taken,
        sightings=len(sightings),
        fitting=float(fits.mean()),
        residual=float(np.median(np.sqrt(squared) * sightings.ray_error)) * focal,
        gain=result.gain,
        parallax=parallax(poses, points.points, sightings.frame, sightings.point),
        depth_error=solution.depth_error,
        problem=problem(
            links=result.links,
            sightings=len(sightings),
            fitting=float(fits.mean()),
            depth_error=solution.depth_error,
            covariance=covariance,
        ),
    )
    factors = np.exp(result.log_scales)
    return replace(
        reconstruction,
        T_window_camera=invert(poses),
        depth=(reconstruction.depth * factors[:, None, None]).astype(np.float32),
        covariance=covariance,
        adjustment=report,
    )


def find_sightings(reconstruction: Reconstruction, tracks: PointTracks) -> Sightings:
    """The points with the depth at their pixels, where there is one; points without any depth are left out."""
    pixels = tracks.pixels @ reconstruction.image_to_network[:2, :2].T + reconstruction.image_to_network[:2, 2]
    depth = _depth_at(reconstruction.depth, tracks.frame, pixels)
    inverses = np.linalg.inv(reconstruction.intrinsics)[tracks.frame]
    rays = np.einsum("mij,mj->mi", inverses, np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1))
    focal = float(np.median(reconstruction.image_intrinsics[:, 0, 0]))
    error = np.full(len(depth), max(_PIXEL_ERROR / tracks.resolution, _MIN_PIXEL_ERROR) / focal)
    sightings = Sightings(tracks.frame, tracks.point, rays, depth, error)
    return sightings.of(np.ones(len(depth), bool))


def _depth_at(depth: np.ndarray, frame: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Metres [M] between the pixels; 0 outside, where one of the four is unknown, and over an edge.

    Its inverse is interpolated, which is exact on planes.
    """
    height, width = depth.shape[1:]
    inside = ((pixels >= 0) & (pixels <= [width - 1, height - 1])).all(axis=1)
    left = np.clip(np.floor(pixels[:, 0]).astype(int), 0, max(width - 2, 0))
    top = np.clip(np.floor(pixels[:, 1]).astype(int), 0, max(height - 2, 0))
    right, low = pixels[:, 0] - left, pixels[:, 1] - top
    corners = [
        (0, 0, (1 - right) * (1 - low)),
        (0, 1, right * (1 - low)),
        (1, 0, (1 - right) * low),
        (1, 1, right * low),
    ]
    values = np.stack([depth[frame, top + y, left + x] for y, x, _ in corners]).astype(np.float64)
    smooth = (values.min(axis=0) > 0) & (values.max(axis=0) < (1 + _EDGE) ** 2 * values.min(axis=0))
    inverse = sum(weight / np.maximum(value, 1e-6) for value, (_, _, weight) in zip(values, corners, strict=True))
    return np.where(inside & smooth, 1 / np.maximum(inverse, 1e-9), 0.0)
