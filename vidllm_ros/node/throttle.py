"""Keeps a repeated message from flooding the log."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

_MOST = 200  # kinds of messages remembered


class Throttle:
    """Lets a message through at once, and its repetitions only every ``period`` seconds.

    Messages that differ in their numbers only count as the same.

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

    def __call__(self, log: Callable[[str], object], message: str) -> bool:
        """Calls ``log(message)`` unless the same was logged less than a period ago; whether it did."""
        kind = re.sub(r"\d+", "#", message)
        with self._lock:
            now = self._clock()
            if now - self._last.get(kind, float("-inf")) < self._period:
                self._held[kind] = self._held.get(kind, 0) + 1
                return False
            self._last[kind] = now
            held = self._held.pop(kind, 0)
            if len(self._last) > _MOST:
                self._forget_oldest()
        log(f"{message} ({held} more like this since the last report)" if held and self._count else message)
        return True

    def clear(self) -> None:
        """Every message goes through at once again."""
        with self._lock:
            self._last.clear()
            self._held.clear()

    def _forget_oldest(self) -> None:
        for kind in sorted(self._last, key=self._last.__getitem__)[: _MOST // 2]:
            del self._last[kind]
            self._held.pop(kind, None)
