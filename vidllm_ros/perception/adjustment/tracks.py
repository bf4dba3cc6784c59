"""Points followed from image to image, so that it is known where the frames of a window see the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.perception.config import RefineConfig
from vidllm_ros.perception.geometry.frame_cache import FrameCache
from vidllm_ros.perception.types import Frame

_MAX_ELONGATION = 4  # an image of 16 x 16384 pixels is not enlarged to 112 x 114688
_NEIGHBOURHOOD = 15  # pixels along a side of what is compared (Lucas and Kanade)
_SPACING = 5  # pixels between points, at least
_BORDER = 2  # pixels in which a point counts as lost
_MAX_RETURN_ERROR = 0.5  # pixels beside its start to which a point may come when it is followed back
_MIN_CORNER = 0.003  # quality of the weakest corner relative to the best one (Shi and Tomasi)
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """The points of one image.

    Attributes:
        gray: uint8 [h, w], the image as it was searched.
        ids: int64 [N]; the same point of the scene has the same number in every image.
        points: float32 [N, 2] (u, v) in pixels of ``gray``.
        scale: float64 [2], how much larger ``gray`` is than the image.
    """

    gray: np.ndarray
    ids: np.ndarray
    points: np.ndarray
    scale: np.ndarray

    @property
    def image_points(self) -> np.ndarray:
        """Float64 [N, 2] (u, v) in pixels of the image."""
        return (self.points.astype(np.float64) + 0.5) / self.scale - 0.5


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Where points of the scene appear in the images of a window. ``M`` sightings, those of a point in succession.

    Attributes:
        frame: int64 [M] index of the frame in the window.
        point: int64 [M] number of the point, from 0 on.
        pixels: float64 [M, 2] (u, v) in pixels of the frame's image.
    """

    frame: np.ndarray
    point: np.ndarray
    pixels: np.ndarray


class Tracks(FrameCache[TrackedPoints]):
    """Follows points through the frames of windows; those that windows share are not searched again.

    ``follow`` and ``find`` belong to one thread; the rest may be called from anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 0

    def find(self, frames: Sequence[Frame], config: RefineConfig) -> PointTracks:
        """The points that at least two of the frames see.

        Args:
            frames: consecutive frames of a window, oldest first.
            config: how large images are looked at, and how many points are followed.
        """
        tracked = self.follow(frames, config)
        frame = np.repeat(np.arange(len(frames)), [len(own.ids) for own in tracked])
        ids = np.concatenate([own.ids for own in tracked])
        pixels = np.concatenate([own.image_points for own in tracked])
        order = np.lexsort((frame, ids))
        _, point, counts = np.unique(ids[order], return_inverse=True, return_counts=True)
        several = counts[point] > 1
        order = order[several]
        _, point = np.unique(point[several], return_inverse=True)
        return PointTracks(frame[order], point, pixels[order])

    def follow(self, frames: Sequence[Frame], config: RefineConfig) -> list[TrackedPoints]:
        """The points of each frame, oldest first, following those of the frame before; arguments as in ``find``."""
        known = self.held(frames)
        previous: TrackedPoints | None = None
        for frame in frames:
            if frame not in known:
                gray, scale = _shrink(frame.rgb, config.image_side)
                ids, points = _follow_points(previous, gray)
                corners = _new_corners(gray, points, config.max_points)
                fresh = self._next_id + np.arange(len(corners))
                self._next_id += len(corners)
                ids, points = np.concatenate([ids, fresh]), np.concatenate([points, corners])
                known[frame] = TrackedPoints(gray, ids, points, scale)
            previous = known[frame]
        self.hold(known)
        return [known[frame] for frame in frames]


def _shrink(rgb: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The image in gray with ``side`` pixels along its shorter side, and how much larger that is, [2] (u, v)."""
    factor = min(side / min(rgb.shape[:2]), _MAX_ELONGATION * side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=interpolation)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.array(size) / rgb.shape[1::-1]


def _follow_points(previous: TrackedPoints | None, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N] and points [N, 2] of those that are found in ``gray`` and, from there, where they came from."""
    if previous is None or not len(previous.ids) or previous.gray.shape != gray.shape:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.float32)

    def flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        window = (_NEIGHBOURHOOD, _NEIGHBOURHOOD)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
            before, after, points[:, None], None, winSize=window, maxLevel=3, criteria=_STOP
        )
        return moved[:, 0], found.ravel() > 0

    there, found = flow(previous.gray, gray, previous.points)
    back, found_back = flow(gray, previous.gray, there)
    border = np.array(gray.shape[::-1]) - 1 - _BORDER
    inside = ((there > _BORDER) & (there < border)).all(axis=1)
    returned = np.linalg.norm(back - previous.points, axis=1) < _MAX_RETURN_ERROR
    kept = found & found_back & inside & returned
    return previous.ids[kept], there[kept]


def _new_corners(gray: np.ndarray, points: np.ndarray, most: int) -> np.ndarray:
    """Corners float32 [N, 2] (Shi and Tomasi) that lie apart from ``points`` and fill them up to ``most``."""
    if len(points) >= most or min(gray.shape) < 2 * _NEIGHBOURHOOD:
        return np.zeros((0, 2), np.float32)
    free = np.full(gray.shape, 255, np.uint8)
    for point in points:
        cv2.circle(free, (int(point[0]), int(point[1])), _SPACING, 0, -1)
    corners = cv2.goodFeaturesToTrack(gray, most - len(points), _MIN_CORNER, _SPACING, mask=free)
    return np.zeros((0, 2), np.float32) if corners is None else corners[:, 0]
