"""Tells a stream of frames that goes on from one that broke."""

from __future__ import annotations

from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.types import Frame

_NANOSECONDS = 1_000_000_000
_MESSAGES = {
    DropReason.GAP: "no frame came for {seconds:.3f} s, more than window.max_frame_gap ({limit} s)",
    DropReason.CLOCK_JUMP: "the stamp went back by {seconds:.3f} s, more than window.max_frame_gap ({limit} s)",
    DropReason.SIZE_CHANGED: "the image size changed from {before} to {after}",
    DropReason.CAMERA_CHANGED: "the frame_id changed from '{before}' to '{after}'",
}


class Continuity:
    """Compares each frame with the one before.

    One odd frame in a good stream (a corrupt stamp, another camera on the same topic) is refused and changes nothing. A
    second one that follows the first shows that the stream itself has changed: it is cut there and goes on from that
    frame.
    """

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._odd: Frame | None = None

    def follow(self, frame: Frame, max_gap: float) -> DropReason | None:
        """None when ``frame`` continues the stream, or the reason when a new stream starts with it.

        Args:
            frame: a checked frame.
            max_gap: seconds.

        Raises:
            FrameRejected: ``frame`` is neither.
        """
        last, odd = self._last, self._odd
        reason = None if last is None else _difference(last, frame, max_gap)
        if reason is None or (odd is not None and _difference(odd, frame, max_gap) is None):
            self._last, self._odd = frame, None
            return reason
        assert last is not None
        if reason in (DropReason.EQUAL_STAMP, DropReason.REVERSED_STAMP):
            problem = "repeats the stamp of" if reason is DropReason.EQUAL_STAMP else "is older than"
            raise FrameRejected(
                reason, f"the frame at {frame.stamp_ns} ns {problem} the frame before, at {last.stamp_ns} ns"
            )
        self._odd = frame
        raise FrameRejected(
            reason, f"{_describe(reason, last, frame, max_gap)}; the frame is left out, the next one decides"
        )


def _difference(last: Frame, frame: Frame, max_gap: float) -> DropReason | None:
    step = (frame.stamp_ns - last.stamp_ns) / _NANOSECONDS
    if frame.stamp_ns == last.stamp_ns:
        return DropReason.EQUAL_STAMP
    if step < 0:
        return DropReason.REVERSED_STAMP if -step <= max_gap else DropReason.CLOCK_JUMP
    if step > max_gap:
        return DropReason.GAP
    if frame.rgb.shape != last.rgb.shape:
        return DropReason.SIZE_CHANGED
    return DropReason.CAMERA_CHANGED if frame.frame_id != last.frame_id else None


def _describe(reason: DropReason, last: Frame, frame: Frame, max_gap: float) -> str:
    values: dict[str, object] = {"seconds": abs(frame.stamp_ns - last.stamp_ns) / _NANOSECONDS, "limit": max_gap}
    if reason is DropReason.SIZE_CHANGED:
        values |= {"before": _size(last), "after": _size(frame)}
    if reason is DropReason.CAMERA_CHANGED:
        values |= {"before": last.frame_id, "after": frame.frame_id}
    return _MESSAGES[reason].format(**values)


def _size(frame: Frame) -> str:
    height, width = frame.rgb.shape[:2]
    return f"{width} x {height}"
