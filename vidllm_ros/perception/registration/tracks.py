"""Points followed from image to image, so that it is known where the frames of a window see the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidllm_ros.perception.config import RegisterConfig
from vidllm_ros.perception.geometry.frame_cache import FrameCache
from vidllm_ros.perception.registration import patches
from vidllm_ros.perception.registration.descriptors import DescribedPoints, describe, match
from vidllm_ros.perception.types import Frame

_MIN_SIDE = 112  # pixels along the shorter side below which an image is enlarged
_MAX_ELONGATION = 4  # an image of 16 x 16384 pixels is not enlarged to 112 x 114688
_NEIGHBOURHOOD = 21  # pixels along a side of what is compared (Lucas and Kanade)
_LEVELS = 4  # times that the image is halved, at most, so that steps of an eighth of the image can be followed
_BORDER = 2  # pixels in which a point counts as lost
_MAX_RETURN_ERROR = 1.0  # pixels beside its start to which a point may come when it is followed back
_MAX_DRIFT = 3.0  # pixels between where a point was followed to and where the patch of its beginning is found
_MIN_CORNER = 0.001  # quality of the weakest corner relative to the best one (Shi and Tomasi)
_WEAKEST = 3e-4  # smaller eigenvalue of a corner, as OpenCV scales it, below which it is noise of the sensor
_MIN_FOLLOWED = 0.4  # share of an image's points, below which its descriptors are matched too
_ENOUGH = 80  # points that went on, at which descriptors are not needed
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """The points of one image.

    Attributes:
        gray: uint8 [h, w], the image as it was searched.
        ids: int64 [N]; the same point of the scene has the same number in every image.
        points: float32 [N, 2] (u, v) in pixels of ``gray``.
        patches: uint8 [N, 31, 31], how each point looked where it began.
        scale: float64 [2], how much larger ``gray`` is than the image.
    """

    gray: np.ndarray
    ids: np.ndarray
    points: np.ndarray
    patches: np.ndarray
    scale: np.ndarray

    @property
    def image_points(self) -> np.ndarray:
        """Float64 [N, 2] (u, v) in pixels of the image."""
        return (self.points.astype(np.float64) + 0.5) / self.scale - 0.5

    def some(self, kept: np.ndarray) -> TrackedPoints:
        """Those of a mask or of indices."""
        return replace(self, ids=self.ids[kept], points=self.points[kept], patches=self.patches[kept])

    def and_begin(self, ids: np.ndarray, points: np.ndarray) -> TrackedPoints:
        """These and others that begin in this image, at whole pixels."""
        whole = np.rint(points).astype(np.float32).reshape(-1, 2)
        return replace(
            self,
            ids=np.concatenate([self.ids, ids]),
            points=np.concatenate([self.points, whole]),
            patches=np.concatenate([self.patches, patches.cut(self.gray, whole)]),
        )


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Where points of the scene appear in the images of a window. ``M`` sightings, those of a point in succession.

    Attributes:
        frame: int64 [M] index of the frame in the window.
        point: int64 [M] number of the point, from 0 on.
        pixels: float64 [M, 2] (u, v) in pixels of the frame's image.
        resolution: how much larger the images were that were searched; sightings are as exact as their pixels.
    """

    frame: np.ndarray
    point: np.ndarray
    pixels: np.ndarray
    resolution: float = 1.0


class Tracks(FrameCache[TrackedPoints]):
    """Follows points through the frames of windows; those that windows share are not searched again.

    ``follow`` and ``find`` belong to one thread; the rest may be called from anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 0

    def find(self, frames: Sequence[Frame], config: RegisterConfig) -> PointTracks:
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
        return PointTracks(frame[order], point, pixels[order], float(tracked[0].scale.mean()))

    def follow(self, frames: Sequence[Frame], config: RegisterConfig) -> list[TrackedPoints]:
        """The points of each frame, oldest first, following those of the frame before; arguments as in ``find``."""
        known = self.held(frames)
        previous: Frame | None = None
        described: dict[Frame, DescribedPoints] = {}
        for frame in frames:
            if frame not in known:
                gray, scale = _gray(frame.rgb, config.image_side)
                nothing = np.zeros((0, 2), np.float32)
                own = TrackedPoints(gray, np.zeros(0, np.int64), nothing, patches.cut(gray, nothing), scale)
                if previous is not None and known[previous].gray.shape == gray.shape:
                    followed = _follow_points(known[previous], gray)
                    own = replace(followed, scale=scale)
                    if len(own.ids) < min(_ENOUGH, _MIN_FOLLOWED * len(known[previous].ids)):
                        known[previous], own = self._bridge(previous, frame, known[previous], own, described)
                corners = _new_corners(gray, own.points, config.max_points)
                known[frame] = own.and_begin(self._fresh_ids(len(corners)), corners)
            previous = frame
        self.hold(known)
        return [known[frame] for frame in frames]

    def _bridge(
        self,
        previous: Frame,
        frame: Frame,
        before: TrackedPoints,
        after: TrackedPoints,
        described: dict[Frame, DescribedPoints],
    ) -> tuple[TrackedPoints, TrackedPoints]:
        """Both images with the points that their descriptors match; ``described`` remembers descriptors."""
        for key, image in ((previous, before.gray), (frame, after.gray)):
            if key not in described:
                described[key] = describe(image)
        first, second = match(described[previous], described[frame])
        ids = self._fresh_ids(len(first))
        starts = described[previous].points[first]
        whole = np.rint(starts).astype(np.float32)
        looks = patches.cut(before.gray, whole)
        # Descriptors find the place, patches the fraction of a pixel.
        places, found = patches.locate(looks, after.gray, described[frame].points[second] + whole - starts)
        inside = found & _inside(places, after.gray)
        fresh = TrackedPoints(after.gray, ids, places, looks, after.scale).some(inside)
        joined = replace(
            after,
            ids=np.concatenate([after.ids, fresh.ids]),
            points=np.concatenate([after.points, fresh.points]),
            patches=np.concatenate([after.patches, fresh.patches]),
        )
        return before.and_begin(fresh.ids, whole[inside]), joined

    def _fresh_ids(self, count: int) -> np.ndarray:
        self._next_id += count
        return np.arange(self._next_id - count, self._next_id)


def _gray(rgb: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The image in gray with ``side`` pixels along its shorter side at most, and how much larger that is, [2]."""
    shorter, longer = min(rgb.shape[:2]), max(rgb.shape[:2])
    wanted = min(side, max(shorter, _MIN_SIDE))
    factor = min(wanted / shorter, _MAX_ELONGATION * wanted / longer)
    gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
    if size != gray.shape[::-1]:
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return gray, np.array(size) / rgb.shape[1::-1]


def _inside(points: np.ndarray, gray: np.ndarray) -> np.ndarray:
    border = np.array(gray.shape[::-1]) - 1 - _BORDER
    return np.asarray(((points > _BORDER) & (points < border)).all(axis=1))


def _follow_points(previous: TrackedPoints, gray: np.ndarray) -> TrackedPoints:
    """Those that are found in ``gray``, from there where they came from, and against the patches they began as."""
    if not len(previous.ids):
        return replace(previous, gray=gray)

    def flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        window = (_NEIGHBOURHOOD, _NEIGHBOURHOOD)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
            before, after, points[:, None], None, winSize=window, maxLevel=_LEVELS, criteria=_STOP
        )
        return moved[:, 0], found.ravel() > 0

    there, found = flow(previous.gray, gray, previous.points)
    back, found_back = flow(gray, previous.gray, there)
    returned = np.linalg.norm(back - previous.points, axis=1) < _MAX_RETURN_ERROR
    kept = previous.some(found & found_back & returned & _inside(there, gray))
    guesses = there[found & found_back & returned & _inside(there, gray)]
    places, alike = patches.locate(kept.patches, gray, guesses)
    alike &= (np.linalg.norm(places - guesses, axis=1) < _MAX_DRIFT) & _inside(places, gray)
    return replace(kept.some(alike), gray=gray, points=places[alike])


def _new_corners(gray: np.ndarray, points: np.ndarray, most: int) -> np.ndarray:
    """Corners float32 [N, 2] (Shi and Tomasi) that lie apart from ``points`` and fill them up to ``most``."""
    if len(points) >= most or min(gray.shape) < 2 * _NEIGHBOURHOOD:
        return np.zeros((0, 2), np.float32)
    # Half of what evenly spread points would keep between them.
    spacing = max(4, round(0.5 * float(np.sqrt(gray.size / most))))
    free = np.full(gray.shape, 255, np.uint8)
    for point in points:
        cv2.circle(free, (int(point[0]), int(point[1])), spacing, 0, -1)
    corners = cv2.goodFeaturesToTrack(gray, most - len(points), _MIN_CORNER, spacing, mask=free, blockSize=5)
    if corners is None:
        return np.zeros((0, 2), np.float32)
    strength = cv2.cornerMinEigenVal(gray, 5)
    points = corners[:, 0]
    return points[strength[points[:, 1].astype(int), points[:, 0].astype(int)] > _WEAKEST]
