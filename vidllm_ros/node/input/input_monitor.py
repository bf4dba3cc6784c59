"""How the images come in: how many, how fast, how old, and whether some get lost on the way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_REMEMBERED = 120
_PAUSE = 2.0  # seconds between two images that are no loss but a pause of the camera
_FEW = 10  # messages below which nothing is said about loss
_NANOSECONDS = 1e9


@dataclass(frozen=True)
class InputState:
    """What was seen of the input lately.

    Attributes:
        images: messages received.
        infos: camera_info messages received.
        rate: images per second over the last ones, by arrival.
        silence: seconds since the last image; None before the first.
        age: seconds from acquisition to arrival of the newest; None when not known.
        bytes: size of the last image.
        loss: estimated share of images lost on the way, 0 to 1; None when it cannot be told.
    """

    images: int
    infos: int
    rate: float
    silence: float | None
    age: float | None
    bytes: int
    loss: float | None


class InputMonitor:
    """Counts arrivals; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Starts anew, for a new subscription."""
        with self._lock:
            self._images = self._infos = self._bytes = 0
            self._age: float | None = None
            self._arrivals: deque[float] = deque(maxlen=_REMEMBERED)
            self._stamps: deque[int] = deque(maxlen=_REMEMBERED)
            self._info_arrivals: deque[float] = deque(maxlen=_REMEMBERED)

    def image(self, stamp_ns: int, size: int, age: float | None) -> None:
        """An image arrived."""
        with self._lock:
            self._images += 1
            self._bytes, self._age = size, age
            self._arrivals.append(self._clock())
            if self._stamps and stamp_ns <= self._stamps[-1]:
                self._stamps.clear()
            self._stamps.append(stamp_ns)

    def info(self) -> None:
        """A camera_info arrived."""
        with self._lock:
            self._infos += 1
            self._info_arrivals.append(self._clock())

    @property
    def state(self) -> InputState:
        """What was seen lately."""
        with self._lock:
            now = self._clock()
            arrivals = [t for t in self._arrivals if now - t <= 10.0]
            span = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0.0
            return InputState(
                images=self._images,
                infos=self._infos,
                rate=(len(arrivals) - 1) / span if span > 0 else 0.0,
                silence=now - self._arrivals[-1] if self._arrivals else None,
                age=self._age,
                bytes=self._bytes,
                loss=self._loss(now),
            )

    def _loss(self, now: float) -> float | None:
        """By camera_info, which is small and comes with every image; else by the gaps between stamps."""
        recent = [t for t in self._info_arrivals if now - t <= 10.0]
        if len(recent) >= _FEW:
            images = sum(recent[0] <= t for t in self._arrivals)
            return max(0.0, 1.0 - images / len(recent))
        if len(self._stamps) < _FEW:
            return None
        steps = np.diff(np.array(self._stamps)) / _NANOSECONDS
        steps = steps[steps <= _PAUSE]
        if len(steps) < _FEW:
            return None
        # The camera's own step is taken to be among the shortest; a longer one spans images that did not arrive.
        return 1.0 - len(steps) / float(np.maximum(np.round(steps / np.quantile(steps, 0.1)), 1).sum())
