"""Keeps a repeated message from flooding the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """Lets a message through at once, and its repetitions only every ``period`` seconds.

    Messages are told apart by a key, so that one that holds a changing number still counts as the same.

    Args:
        period: seconds.
        count: add how many were kept back since the last one.
        clock: gives the time in seconds.
    """

    def __init__(self, period: float = 5.0, count: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._period = period
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def __call__(self, key: str, log: Callable[[str], object], message: str) -> bool:
        """Calls ``log(message)`` unless ``key`` was logged less than a period ago; whether it did."""
        with self._lock:
            now = self._clock()
            if now - self._last.get(key, float("-inf")) < self._period:
                self._held[key] = self._held.get(key, 0) + 1
                return False
            self._last[key] = now
            held = self._held.pop(key, 0)
        log(f"{message} ({held} more like this since the last report)" if held and self._count else message)
        return True

    def forget(self, key: str) -> None:
        """The next message with ``key`` goes through at once."""
        with self._lock:
            self._last.pop(key, None)
            self._held.pop(key, None)
