"""Where the cameras are, found in the images and depths alone: a start that owes nothing to the network's poses.

Frame after frame is placed by the points that earlier frames gave a depth (PnP with RANSAC), and where too few of them
agree, by all pixels of two images (``dense``); where neither fits, the network's motion stands in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.perception.geometry.transforms import compose, invert
from vidllm_ros.perception.registration import dense
from vidllm_ros.perception.registration.sightings import Sightings

_SURE = 40  # points that agree, at which the images need not be compared as a whole
_FEWEST = 12  # points that must agree
_SHARE = 0.35  # of a frame's points that must agree
_REACH = 4.0  # standard deviations within which a point agrees
_ROUNDS = 100  # of RANSAC
EXACT_DEPTH = 0.02  # relative deviation of depth up to which images are compared as a whole
_FITS_WELL = 0.85  # share of pixels that agree, at which no other guess is tried
_DENSE_GAPS = (1, 2, 3)  # frames between those that are compared as a whole


@dataclass(frozen=True, eq=False)
class Start:
    """Poses found in images.

    Attributes:
        T_camera_window: float64 [S, 4, 4]; the first one is the identity.
        links: str [S]: what placed each frame: "points", "few" of them, "pixels" or "network"; the first one "points".
        motions: between frames compared as a whole, by (source, target).
    """

    T_camera_window: np.ndarray
    links: list[str]
    motions: dict[tuple[int, int], dense.Motion]


class Images:
    """The frames for ``dense``, made when they are needed.

    Args:
        rgb: uint8 [S, H, W, 3].
        depth: [S, H, W] metres.
        intrinsics: [S, 3, 3].
    """

    def __init__(self, rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> None:
        self._parts = rgb, depth, intrinsics
        self._made: dict[int, list[dense.Level]] = {}

    def levels(self, frame: int) -> list[dense.Level]:
        """Of one frame."""
        if frame not in self._made:
            rgb, depth, intrinsics = (part[frame] for part in self._parts)
            self._made[frame] = dense.levels(rgb, depth, intrinsics)
        return self._made[frame]


def find_start(T_camera_window: np.ndarray, sightings: Sightings, images: Images, depth_error: float) -> Start:
    """Places frame after frame.

    Args:
        T_camera_window: float64 [S, 4, 4], of the network.
        sightings: with depth.
        images: of the frames.
        depth_error: relative deviation of depth.
    """
    count = len(T_camera_window)
    poses = np.tile(np.eye(4), (count, 1, 1))
    links, motions = ["points"], {}
    places = _Places(sightings)
    places.add(0, poses[0])
    for frame in range(1, count):
        given = T_camera_window[frame] @ invert(T_camera_window[frame - 1])
        pose, agreeing = places.resect(frame)
        link = "points"
        if (pose is None or agreeing < _SURE) and depth_error > EXACT_DEPTH:
            # A network's depth does not lie on surfaces well enough to lay whole images over each other.
            pose, link = (given @ poses[frame - 1], "network") if pose is None else (pose, "few")
        elif pose is None or agreeing < _SURE:
            guesses = [given, np.eye(4)]
            if frame > 1:
                guesses.append(poses[frame - 1] @ invert(poses[frame - 2]))
            if pose is not None:
                guesses.insert(0, pose @ invert(poses[frame - 1]))
            motion = _best_motion(images, frame - 1, frame, guesses, depth_error)
            if motion is not None:
                pose, link = motion.T_target_source @ poses[frame - 1], "pixels"
                motions[frame - 1, frame] = motion
            elif pose is None:
                pose, link = given @ poses[frame - 1], "network"
        assert pose is not None
        poses[frame] = pose
        if link == "pixels":
            for gap in _DENSE_GAPS[1:]:
                if frame >= gap:
                    guess = pose @ invert(poses[frame - gap])
                    motion = _best_motion(images, frame - gap, frame, [guess], depth_error)
                    if motion is not None:
                        motions[frame - gap, frame] = motion
        links.append(link)
        places.add(frame, pose)
    return Start(poses, links, motions)


def _best_motion(
    images: Images, source: int, target: int, guesses: list[np.ndarray], depth_error: float
) -> dense.Motion | None:
    """The motion on which most pixels agree, from several guesses."""
    best: dense.Motion | None = None
    tried: list[np.ndarray] = []
    for guess in guesses:
        if any(np.abs(guess - other).max() < 0.01 for other in tried):
            continue
        tried.append(guess)
        motion = dense.align(images.levels(source), images.levels(target), guess, depth_error)
        if motion is not None and (best is None or motion.alike > best.alike):
            best = motion
            if best.alike > _FITS_WELL:
                break
    return best


class _Places:
    """Where the frames so far put the points: the mean of what their depths say."""

    def __init__(self, sightings: Sightings) -> None:
        self._sightings = sightings
        count = sightings.point.max() + 1 if len(sightings) else 0
        self._sums, self._counts = np.zeros((count, 3)), np.zeros(count)
        self._by_frame = np.argsort(sightings.frame, kind="stable")
        self._bounds = np.searchsorted(sightings.frame[self._by_frame], np.arange(sightings.frame.max() + 2))

    def _of(self, frame: int) -> np.ndarray:
        if frame + 1 >= len(self._bounds):
            return np.zeros(0, int)
        return self._by_frame[self._bounds[frame] : self._bounds[frame + 1]]

    def add(self, frame: int, T_camera_window: np.ndarray) -> None:
        """Adds what a placed frame says."""
        own = self._of(frame)
        own = own[self._sightings.depth[own] > 0]
        point = self._sightings.point[own]
        points = self._sightings.rays[own] * self._sightings.depth[own, None]
        pose = invert(T_camera_window)
        self._sums[point] += points @ pose[:3, :3].T + pose[:3, 3]
        self._counts[point] += 1

    def resect(self, frame: int) -> tuple[np.ndarray | None, int]:
        """T_camera_window [4, 4] by the points that earlier frames placed, and how many agree; None when too few do."""
        own = self._of(frame)
        own = own[self._counts[self._sightings.point[own]] > 0]
        if len(own) < _FEWEST:
            return None, 0
        point = self._sightings.point[own]
        places = self._sums[point] / self._counts[point, None]
        seen = np.ascontiguousarray(self._sightings.rays[own, :2])
        cv2.setRNGSeed(0)
        found, turn, shift, inliers = cv2.solvePnPRansac(
            places,
            seen,
            np.eye(3),
            None,
            iterationsCount=_ROUNDS,
            reprojectionError=_REACH * float(np.median(self._sightings.ray_error[own])),
            confidence=0.999,
            flags=cv2.SOLVEPNP_AP3P,
        )
        if not found or inliers is None or len(inliers) < max(_FEWEST, _SHARE * len(own)):
            return None, 0
        agreeing = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(places[agreeing], seen[agreeing], np.eye(3), None, turn, shift)
        rotation = cv2.Rodrigues(turn)[0]
        pose = compose(rotation, shift[:, 0])
        return (pose, len(agreeing)) if np.isfinite(pose).all() else (None, 0)
