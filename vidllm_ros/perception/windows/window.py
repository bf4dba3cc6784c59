"""Collects frames into windows that overlap the last window in the map, whatever the worker's speed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.types import Frame, Window
from vidllm_ros.perception.windows.continuity import Continuity
from vidllm_ros.perception.windows.frames import FrameCounts, FrameLedger, check_frame
from vidllm_ros.perception.windows.sampling import FrameSampler


class Outcome(Enum):
    """How the processing of a window ended."""

    PLACED = "placed"
    REJECTED = "rejected"  # went through the network but is not in the map
    FAILED = "failed"  # raised


@dataclass(frozen=True)
class _Taken:
    """The window in process: its frames that no placed window held, and the window it overlaps."""

    window: Window
    fresh: tuple[Frame, ...] = ()
    previous: tuple[Frame, ...] | None = None  # None: the stream has been cut since


class WindowBuffer:
    """Frames in, windows out; at most one complete window waits.

    A window is the last ``size - stride`` frames of the last placed window and ``stride`` fresh ones. While the worker
    is busy, newer frames replace those of the waiting window: the fresh ones are thinned to ``stride``, evenly in time
    and keeping the newest. The window that is taken in the end is as new as it can be, still overlaps the map, and
    nothing grows. The same happens after a window was rejected, so that the next one gets another chance to align with
    the map.

    Every method may be called from any thread.
    """

    def __init__(self, config: WindowConfig) -> None:
        self._changed = threading.Condition()
        self._config = config
        self._ledger = FrameLedger()
        self._taken: _Taken | None = None
        self._sealed: Window | None = None  # complete when the stream was cut
        self._start()

    def _start(self) -> None:
        self._continuity = Continuity()
        self._restart()

    def _restart(self) -> None:
        self._sampler = FrameSampler()
        self._overlap: tuple[Frame, ...] = ()  # frames of the last taken window
        self._fresh: list[Frame] = []
        self._new = 0  # frames since a window was last complete
        self._ready = False

    def configure(self, config: WindowConfig) -> None:
        """Other values from the next frame on."""
        with self._changed:
            self._config = config

    def add(self, frame: Frame) -> Window | None:
        """Takes in one frame; the window that it completes, if any.

        The window stays here until ``take`` or ``begin``.

        Raises:
            FrameRejected: the frame cannot be used; it is counted and the stream goes on.
        """
        with self._changed:
            try:
                check_frame(frame)
                cut = self._continuity.follow(frame, self._config.max_frame_gap)
            except FrameRejected as error:
                self._ledger.reject(error.reason)
                raise
            if cut is not None:
                self._cut(cut)
            skipped = self._sampler.skip_reason(frame, self._config)
            if skipped is not None:
                self._ledger.reject(skipped)
                return None
            if self._ledger.holds(frame):
                frame = dataclasses.replace(frame)
            self._ledger.keep(frame)
            self._fresh.append(frame)
            self._new += 1
            if len(self._fresh) < self._needed or self._new < min(self._config.stride, self._needed):
                return None
            return self._complete()

    def take(self, timeout: float | None = 0.0) -> Window | None:
        """The complete window that waits, now in process; None after ``timeout`` seconds (None: never).

        ``finish`` must be called for it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._sealed is not None, timeout)
            if self._taken is not None and (self._ready or self._sealed is not None):
                self.finish(self._taken.window, Outcome.FAILED)  # its worker has given up on it
            window = self._compose(self._needed) if self._ready else self._sealed
            if window is not None:
                self.begin(window)
            return window

    def flush(self) -> Window | None:
        """The window that waits, complete or not, now in process; None when no frame waits.

        For the end of a recording: call until None, with ``finish`` for each.
        """
        with self._changed:
            window = self.take()
            if window is None and any(self._ledger.holds(frame) for frame in self._fresh):
                self._thin(self._config.size)
                window = self._compose(len(self._fresh))
                self.begin(window)
            return window

    def begin(self, window: Window) -> None:
        """``window`` is in process; needed only for a window that came from ``add``."""
        with self._changed:
            if self._taken is not None:
                if self._taken.window is window:
                    return
                self.finish(self._taken.window, Outcome.FAILED)
            if self._sealed is not None and self._sealed.frames == window.frames:
                self._sealed, self._taken = None, _Taken(window)
                return
            members = set(window.frames)
            own = tuple(frame for frame in self._fresh if frame in members)
            if not own:
                self._taken = _Taken(window)
                return
            self._taken = _Taken(window, own, self._overlap)
            end = self._fresh.index(own[-1]) + 1
            self._drop([f for f in self._fresh[:end] if f not in members], DropReason.WINDOW_REPLACED)
            self._overlap, self._fresh = window.frames, self._fresh[end:]
            self._new, self._ready = len(self._fresh), False

    def is_in_process(self, window: Window) -> bool:
        """Whether ``window`` was begun and neither finished nor voided by a reset."""
        with self._changed:
            return self._taken is not None and self._taken.window is window

    def leave_out(self, frames: Iterable[Frame], reason: DropReason) -> None:
        """Frames of the window in process that do not go through the network after all."""
        with self._changed:
            self._ledger.drop(frames, reason)

    def finish(self, window: Window, outcome: Outcome, reason: DropReason = DropReason.INFERENCE_FAILED) -> bool:
        """How ``window`` ended, and why when it failed; False when a reset came in between and the window is void."""
        with self._changed:
            taken = self._taken
            if taken is None or taken.window is not window:
                return False
            self._taken = None
            if outcome is Outcome.FAILED:
                self._drop(window.frames, reason)
            else:
                self._ledger.use(window.frames)
            if outcome is not Outcome.PLACED and taken.previous is not None and self._overlap is window.frames:
                self._overlap = taken.previous
                if outcome is Outcome.REJECTED:
                    self._fresh[:0] = taken.fresh
                if self._ready and len(self._fresh) >= self._needed:
                    self._thin(self._needed)
                self._ready = self._ready and len(self._fresh) >= self._needed
            return True

    def reset(self) -> None:
        """Forgets every frame; a window in process is void."""
        with self._changed:
            self._taken = self._sealed = None
            self._ledger.drop(self._ledger.waiting(), DropReason.RESET)
            self._start()

    def frames(self) -> tuple[Frame, ...]:
        """Every frame that a window in process or a later one may use."""
        with self._changed:
            sealed = self._sealed.frames if self._sealed else ()
            taken = (*(self._taken.previous or ()), *self._taken.window.frames) if self._taken else ()
            return tuple(dict.fromkeys((*sealed, *taken, *self._overlap, *self._fresh)))

    @property
    def counts(self) -> FrameCounts:
        """What became of every frame received."""
        with self._changed:
            return self._ledger.counts()

    @property
    def _needed(self) -> int:
        return min(self._config.stride, self._config.size) if self._overlap else self._config.size

    def _complete(self) -> Window:
        sealed, self._sealed = self._sealed, None
        if sealed is not None:
            self._drop(sealed.frames, DropReason.WINDOW_REPLACED)
        self._thin(self._needed)
        self._new, self._ready = 0, True
        self._changed.notify_all()
        return self._compose(self._needed)

    def _compose(self, fresh: int) -> Window:
        shared = max(0, self._config.size - fresh)
        overlap = self._overlap[-shared:] if shared else ()
        return Window((*overlap, *self._fresh[:fresh]), shared=len(overlap))

    def _thin(self, count: int) -> None:
        """Leaves ``count`` fresh frames: the newest, or with a window to overlap those of the smallest gaps."""
        excess: list[Frame] = []
        if not self._overlap and len(self._fresh) > count:
            excess, self._fresh = self._fresh[:-count], self._fresh[-count:]
        while len(self._fresh) > count:
            stamps = [self._overlap[-1].stamp_ns, *(frame.stamp_ns for frame in self._fresh)]
            gaps = [after - before for before, after in zip(stamps, stamps[2:], strict=False)]
            excess.append(self._fresh.pop(gaps.index(min(gaps))))
        self._drop(excess, DropReason.WINDOW_REPLACED)

    def _cut(self, reason: DropReason) -> None:
        """Ends the stream; a complete window survives, the rest of the fresh frames cannot become one."""
        if self._ready:
            self._sealed = self._compose(self._needed)
        self._drop(self._fresh, reason)
        self._restart()

    def _drop(self, frames: Iterable[Frame], reason: DropReason) -> None:
        held = set(self._sealed.frames if self._sealed else ()) | set(self._taken.window.frames if self._taken else ())
        self._ledger.drop((frame for frame in frames if frame not in held), reason)
