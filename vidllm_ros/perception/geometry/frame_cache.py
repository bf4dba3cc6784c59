"""What was computed of frames, for as long as the frames are of use."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from vidllm_ros.perception.types import Frame

Value = TypeVar("Value")


class FrameCache(Generic[Value]):
    """One value for each frame. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Frame, Value] = {}

    def held(self, frames: Iterable[Frame]) -> dict[Frame, Value]:
        """The values of those of ``frames`` that have one.

        The caller gets references of its own, so that a reset in another thread cannot take them away.
        """
        with self._lock:
            return {frame: self._held[frame] for frame in frames if frame in self._held}

    def hold(self, values: Mapping[Frame, Value]) -> None:
        """Adds values, until their frames are of no more use."""
        with self._lock:
            self._held.update(values)

    def keep_only(self, frames: Iterable[Frame]) -> None:
        """Frees what belongs to other frames."""
        wanted = set(frames)
        with self._lock:
            self._held = {frame: value for frame, value in self._held.items() if frame in wanted}

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)
