"""Which points of a window's images show the same point of the scene: keypoints, matched between pairs of frames."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.perception.config import RefineConfig
from vidllm_ros.perception.types import Frame

# How many frames lie between the two of a pair. Neighbours see nearly the same; the far ones keep a long window
# together.
GAPS = (1, 2, 4, 8, 16)

_MAX_ELONGATION = 4  # an image of 16 x 16384 pixels is not enlarged to 168 x 172032
_MAX_AMBIGUITY = 0.85  # distance of the best candidate over that of the second best (Lowe, IJCV 2004, section 7.1)
_MAX_MATCHES = 60  # of one pair
_MIN_MATCHES = 10  # below, epipolar geometry fits anything
_EPIPOLAR_ERROR = 0.012  # distance from the epipolar line over the focal length: one pixel of 84
_EPIPOLAR_TRIALS = 100


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Places of an image that can be found again.

    Attributes:
        points: float64 [N, 2] (u, v) in pixels of the image.
        descriptors: float32 [N, 128] of length 1.
    """

    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True, eq=False)
class PairMatches:
    """Points of two frames that show the same point of the scene.

    Attributes:
        first: index of a frame in the window.
        second: index of a later one.
        first_points: float64 [M, 2] (u, v) in pixels of the first frame's image.
        second_points: float64 [M, 2] of the second one's.
    """

    first: int
    second: int
    first_points: np.ndarray
    second_points: np.ndarray


def detect_keypoints(rgb: np.ndarray, config: RefineConfig) -> Keypoints:
    """SIFT keypoints with the square root of their descriptors (RootSIFT: Arandjelovic and Zisserman, CVPR 2012).

    Args:
        rgb: uint8 [H, W, 3].
        config: how large the image is looked at, and how many keypoints are kept.
    """
    scale = min(config.image_side / min(rgb.shape[:2]), _MAX_ELONGATION * config.image_side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    gray = cv2.resize(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), size, interpolation=interpolation)
    # OpenCV's own threshold, 0.04, finds next to nothing on furniture and walls.
    sift = cv2.SIFT_create(config.max_keypoints, contrastThreshold=0.004)  # type: ignore[attr-defined]
    found, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return Keypoints(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    enlarged = np.array(size) / rgb.shape[1::-1]
    points = (np.array([keypoint.pt for keypoint in found]) + 0.5) / enlarged - 0.5
    return Keypoints(points, np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)))


def match_keypoints(first: Keypoints, second: Keypoints) -> np.ndarray:
    """Pairs of keypoints that choose each other and no other one nearly as well, the clearest first: int [M, 2]."""
    if len(first.points) < 2 or len(second.points) < 2:
        return np.zeros((0, 2), int)
    similarity = first.descriptors @ second.descriptors.T
    rows = np.arange(len(similarity))
    best = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[best] == rows
    # The squared distance of vectors of length 1 is 2 - 2 x similarity.
    distance = 1 - similarity[rows, best]
    similarity[rows, best] = -1
    ambiguity = distance / np.maximum(1 - similarity.max(axis=1), 1e-9)
    chosen = np.flatnonzero(mutual & (ambiguity < _MAX_AMBIGUITY**2))
    chosen = chosen[np.argsort(ambiguity[chosen], kind="stable")]
    return np.stack([chosen, best[chosen]], axis=1)


class Correspondences:
    """Keypoints of every frame that is still of use, and the matches of every pair that was asked for.

    Consecutive windows share frames; what is known of those is not computed again. The lock is for ``keep_only``, which
    may be called from anywhere; the rest belongs to one thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keypoints: dict[Frame, Keypoints] = {}
        self._matches: dict[tuple[Frame, Frame], tuple[np.ndarray, np.ndarray]] = {}

    def detect(self, frames: Sequence[Frame], config: RefineConfig) -> list[Keypoints]:
        """The keypoints of each frame."""
        with self._lock:
            found = {frame: self._keypoints[frame] for frame in frames if frame in self._keypoints}
        fresh = {frame: detect_keypoints(frame.rgb, config) for frame in frames if frame not in found}
        with self._lock:
            self._keypoints.update(fresh)
        return [found.get(frame) or fresh[frame] for frame in frames]

    def match(self, frames: Sequence[Frame], intrinsics: np.ndarray, config: RefineConfig) -> list[PairMatches]:
        """The matches of all pairs of ``frames`` that lie one of ``GAPS`` apart, without those that no motion explains.

        Args:
            frames: S frames of a window.
            intrinsics: camera matrices float64 [S, 3, 3] in pixels of their images.
            config: how to look for keypoints.
        """
        keypoints = self.detect(frames, config)
        with self._lock:
            known = dict(self._matches)
        pairs, fresh = [], {}
        for gap in GAPS:
            for first in range(len(frames) - gap):
                second = first + gap
                key = (frames[first], frames[second])
                points = known.get(key)
                if points is None:
                    pair = (keypoints[first], keypoints[second])
                    points = fresh[key] = _explained_matches(pair, intrinsics[[first, second]])
                pairs.append(PairMatches(first, second, *points))
        with self._lock:
            self._matches.update(fresh)
        return [pair for pair in pairs if len(pair.first_points)]

    def keep_only(self, frames: Iterable[Frame]) -> None:
        """Frees what belongs to other frames."""
        wanted = set(frames)
        with self._lock:
            self._keypoints = {frame: held for frame, held in self._keypoints.items() if frame in wanted}
            self._matches = {pair: held for pair, held in self._matches.items() if wanted.issuperset(pair)}


def _explained_matches(pair: tuple[Keypoints, Keypoints], intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [M, 2] of both frames that agree with one motion of the camera (epipolar geometry); M may be 0."""
    chosen = match_keypoints(*pair)[:_MAX_MATCHES]
    first, second = pair[0].points[chosen[:, 0]], pair[1].points[chosen[:, 1]]
    inliers = np.zeros(len(chosen), bool)
    if len(chosen) >= _MIN_MATCHES:
        _, mask = cv2.findEssentialMat(
            pixels_to_rays(first, intrinsics[0])[:, :2],
            pixels_to_rays(second, intrinsics[1])[:, :2],
            np.eye(3),
            method=cv2.USAC_FAST,
            prob=0.99,
            threshold=_EPIPOLAR_ERROR,
            maxIters=_EPIPOLAR_TRIALS,
        )
        if mask is not None and mask.sum() >= _MIN_MATCHES:
            inliers = mask.ravel() > 0
    return first[inliers], second[inliers]


def pixels_to_rays(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels [M, 2] to (x / z, y / z, 1) [M, 3], by a camera matrix [3, 3] of their image."""
    return np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.linalg.inv(intrinsics).T
