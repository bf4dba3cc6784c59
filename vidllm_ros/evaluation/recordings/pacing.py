"""How fast a recording may be played: which frames a node should take, and when it must be waited for.

In lock-step a frame is sent only when every window that the frames before it complete is finished. The node drops
nothing then, and the same recording gives the same windows on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import FrameRejected
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.window import Outcome, WindowBuffer

MIN_WINDOWS = 3  # a replay should show at least two windows that were stitched to one before
EVERY_FRAME = 60.0  # Hz, the largest sample rate


def sampling_for(stamps_ns: Sequence[int], config: WindowConfig) -> dict[str, Any]:
    """Parameters that let a short recording fill enough windows; nothing for a long one.

    Args:
        stamps_ns: of the frames, nanoseconds.
        config: what the node would do otherwise.

    Returns:
        ``window.sample_rate`` and ``window.min_motion`` such that enough frames are taken, every one if need be.
    """
    wanted = config.size + (MIN_WINDOWS - 1) * config.stride
    if len(stamps_ns) < 2:
        return {}
    duration = (max(stamps_ns) - min(stamps_ns)) / 1e9
    if min(len(stamps_ns), duration * config.sample_rate) >= wanted:
        return {}
    rate = wanted / duration if duration > 0 and len(stamps_ns) > wanted else EVERY_FRAME
    # a little faster than needed, since the frames taken are those nearest to the due times
    return {"window.sample_rate": float(np.clip(1.05 * rate, 0.1, EVERY_FRAME)), "window.min_motion": 0.0}


class LockStep:
    """Follows a node's window buffer frame by frame, with the same code and the same values.

    Args:
        config: of the node.
    """

    def __init__(self, config: WindowConfig) -> None:
        self._buffer = WindowBuffer(config)
        self.accepted = 0

    def send(self, frame: Frame) -> bool:
        """Whether this frame completes a window, which then has to be waited for and ``finish``-ed."""
        before = self._buffer.counts.waiting
        try:
            complete = self._buffer.add(frame) is not None
        except FrameRejected:
            return False
        self.accepted += self._buffer.counts.waiting > before
        return complete

    def finish(self, placed: bool) -> None:
        """The node has finished the window that was complete; ``placed`` when it is in the map."""
        window = self._buffer.take()
        if window is not None:
            self._buffer.finish(window, Outcome.PLACED if placed else Outcome.REJECTED)

    @property
    def waiting(self) -> int:
        """Accepted frames that no window has held yet."""
        return self._buffer.counts.waiting
