"""Checks one frame, and counts what became of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.types import Frame

_MIN_SIDE = 16
_MAX_SIDE = 16384


def check_frame(frame: Frame) -> None:
    """Raises FrameRejected when a frame's image or camera matrix cannot be used."""
    rgb = frame.rgb
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        found = f"{rgb.dtype} {list(rgb.shape)}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise FrameRejected(DropReason.BAD_IMAGE, f"the image is {found}; it must be uint8 [height, width, 3], RGB")
    height, width = rgb.shape[:2]
    if not (_MIN_SIDE <= height <= _MAX_SIDE and _MIN_SIDE <= width <= _MAX_SIDE):
        raise FrameRejected(
            DropReason.BAD_IMAGE,
            f"the image is {width} x {height}; sides must be from {_MIN_SIDE} to {_MAX_SIDE} pixels",
        )
    if frame.intrinsics is not None:
        _check_intrinsics(np.asarray(frame.intrinsics), width, height)


def _check_intrinsics(matrix: np.ndarray, width: int, height: int) -> None:
    def reject(problem: str) -> FrameRejected:
        message = f"the camera matrix K {matrix.tolist()} {problem}; calibrate the camera or send no K"
        return FrameRejected(DropReason.BAD_INTRINSICS, message)

    if matrix.shape != (3, 3) or not np.issubdtype(matrix.dtype, np.number):
        raise reject("is not a 3 x 3 matrix of numbers")
    if not np.isfinite(matrix).all():
        raise reject("holds values that are not finite")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise reject("has a focal length that is not positive")
    if not np.array_equal(matrix[2], (0, 0, 1)) or matrix[1, 0] != 0:
        raise reject("is not of the form [fx s cx; 0 fy cy; 0 0 1]")
    if not (-width < matrix[0, 2] < 2 * width and -height < matrix[1, 2] < 2 * height):
        raise reject(f"has its principal point far outside the {width} x {height} image")


@dataclass(frozen=True)
class FrameCounts:
    """What became of every frame since the pipeline was made; ``received == used + waiting + dropped_total``.

    Attributes:
        received: frames handed in.
        used: frames that went through the network.
        waiting: frames that may still go through it.
        dropped: frames that will not, by reason.
    """

    received: int = 0
    used: int = 0
    waiting: int = 0
    dropped: dict[DropReason, int] = field(default_factory=dict)

    @property
    def dropped_total(self) -> int:
        """Frames dropped for any reason."""
        return sum(self.dropped.values())


class FrameLedger:
    """Book-keeping behind ``FrameCounts``: every received frame is at any time waiting, used or dropped, and only once.

    Not locked; its owner is.
    """

    def __init__(self) -> None:
        self._received = 0
        self._used = 0
        self._dropped: Counter[DropReason] = Counter()
        self._waiting: dict[Frame, None] = {}

    def reject(self, reason: DropReason) -> None:
        """A frame came and is not kept."""
        self._received += 1
        self._dropped[reason] += 1

    def keep(self, frame: Frame) -> None:
        """A frame came and waits."""
        self._received += 1
        self._waiting[frame] = None

    def use(self, frames: Iterable[Frame]) -> None:
        """Frames went through the network; those that went before are not counted again."""
        self._used += self._forget(frames)

    def drop(self, frames: Iterable[Frame], reason: DropReason) -> None:
        """Frames will not be used; those used before stay used."""
        count = self._forget(frames)
        if count:
            self._dropped[reason] += count

    def holds(self, frame: Frame) -> bool:
        """Whether ``frame`` waits."""
        return frame in self._waiting

    def waiting(self) -> tuple[Frame, ...]:
        """Frames that wait, oldest first."""
        return tuple(self._waiting)

    def counts(self) -> FrameCounts:
        """The sums as they are now."""
        return FrameCounts(self._received, self._used, len(self._waiting), dict(self._dropped))

    def _forget(self, frames: Iterable[Frame]) -> int:
        known = [frame for frame in frames if frame in self._waiting]
        for frame in known:
            self._waiting.pop(frame, None)
        return len(known)
