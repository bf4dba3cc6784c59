"""How long the steps of a window take."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds between one call of ``lap`` and the next, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends the step ``name``; the next one begins."""
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now
