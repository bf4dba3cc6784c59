"""What can go wrong in perception; every message names the value, the limit and what to do."""

from __future__ import annotations

from enum import Enum


class DropReason(Enum):
    """Why a received frame was not used."""

    BAD_IMAGE = "bad_image"  # not uint8 [H, W, 3], or too small
    BAD_INTRINSICS = "bad_intrinsics"  # not a finite camera matrix
    EQUAL_STAMP = "equal_stamp"  # same stamp as the frame before
    REVERSED_STAMP = "reversed_stamp"  # a little older than the frame before
    SAMPLE_RATE = "sample_rate"  # between two samples
    NO_MOTION = "no_motion"  # shows what the last accepted frame showed
    GAP = "gap"  # waited for a window when frames stopped for longer than window.max_frame_gap
    CLOCK_JUMP = "clock_jump"  # waited for a window when the clock went back (a bag that loops, a restarted /clock)
    SIZE_CHANGED = "size_changed"  # waited for a window when the image size changed
    CAMERA_CHANGED = "camera_changed"  # waited for a window when the frame_id changed
    WINDOW_REPLACED = "window_replaced"  # the worker was busy and newer frames took its place
    INFERENCE_FAILED = "inference_failed"  # its window raised
    OUT_OF_MEMORY = "out_of_memory"  # its window was tried again with half of its frames, and it was not among them
    NO_TRANSFORM = "no_transform"  # its window was left out because TF did not place it
    RESET = "reset"  # waited for a window at a reset


class PerceptionError(Exception):
    """Base of everything perception raises on purpose."""


class ConfigError(PerceptionError, ValueError):
    """A configuration value out of range, of the wrong type, or unknown."""


class FrameRejected(PerceptionError):  # noqa: N818  (an event of one frame, not a fault of the program)
    """A frame that cannot be used; the stream goes on without it.

    Attributes:
        reason: for the counters.
    """

    def __init__(self, reason: DropReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoWindowError(PerceptionError):
    """A question before any window is in the map."""


class StampNotHeldError(PerceptionError):
    """A question about a window, or a time, that the history does not hold."""


class InferenceError(PerceptionError):
    """The network returned something that is not geometry."""


class StaleWindowError(PerceptionError):
    """The pipeline was reset while this window was processed; its result is void."""


class SourceError(PerceptionError):
    """A folder or video file without readable frames."""


class SaveError(PerceptionError):
    """A file that could not be written; the old one, if any, is whole."""
