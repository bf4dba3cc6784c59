"""Which frames of a stream are taken: by rate, and only when the image has moved."""

from __future__ import annotations

import cv2
import numpy as np

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import DropReason
from vidllm_ros.perception.types import Frame

_WIDTH = 160  # pixels; motion is measured on a small grey copy
_CORNERS = 120
_MIN_CORNERS = 12  # below this the flow says nothing
_MIN_SIDE = 24  # pixels; the tracker's own window is 21
_NANOSECONDS = 1_000_000_000


class FrameSampler:
    """Decides frame by frame; the stamps must ascend."""

    def __init__(self) -> None:
        self._due_ns = 0
        self._previous_ns: int | None = None
        self._taken_ns: int | None = None
        self._taken_grey: np.ndarray | None = None

    def skip_reason(self, frame: Frame, config: WindowConfig) -> DropReason | None:
        """None when ``frame`` is taken, else why not.

        By rate: of the frames around a due time the nearest one is taken, so that a camera whose rate is no multiple of
        ``window.sample_rate``, or jitters, still gives that rate on average.

        By motion: the median displacement of corners tracked from the last frame taken (Lucas-Kanade), as a fraction
        of the image width, as keyframes are chosen in VGGT-SLAM (arXiv 2505.12549). Where too few corners survive, the
        view has changed or cannot be judged, and the frame is taken.
        """
        period = round(_NANOSECONDS / config.sample_rate)
        interval = 0 if self._previous_ns is None else min(frame.stamp_ns - self._previous_ns, period)
        self._previous_ns = frame.stamp_ns
        if self._taken_ns is not None and frame.stamp_ns + interval // 2 < self._due_ns:
            return DropReason.SAMPLE_RATE
        grey = _small_grey(frame.rgb) if config.min_motion > 0 else None
        if grey is not None and self._stands_still(frame, grey, config):
            return DropReason.NO_MOTION
        on_time = self._taken_ns is not None and frame.stamp_ns - self._due_ns < period
        self._due_ns = (self._due_ns if on_time else frame.stamp_ns) + period
        self._taken_ns, self._taken_grey = frame.stamp_ns, grey
        return None

    def _stands_still(self, frame: Frame, grey: np.ndarray, config: WindowConfig) -> bool:
        if self._taken_ns is None or self._taken_grey is None or self._taken_grey.shape != grey.shape:
            return False
        waited = (frame.stamp_ns - self._taken_ns) / _NANOSECONDS
        if 0 < config.max_wait <= waited:
            return False
        return image_motion(self._taken_grey, grey) < config.min_motion


def image_motion(before: np.ndarray, after: np.ndarray) -> float:
    """Median displacement between grey images uint8 [H, W], as a fraction of the width; infinite if it cannot be told.

    A picture without any texture that has not changed counts as no motion.
    """
    if min(before.shape) < _MIN_SIDE:
        return float("inf")
    corners = cv2.goodFeaturesToTrack(before, maxCorners=_CORNERS, qualityLevel=0.01, minDistance=4)
    if corners is None or len(corners) < _MIN_CORNERS:
        return 0.0 if float(cv2.absdiff(before, after).mean()) < 1.0 else float("inf")
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    kept = found.ravel() == 1
    if int(kept.sum()) < max(_MIN_CORNERS, len(corners) // 2):
        return float("inf")
    displacement = np.linalg.norm(moved[kept] - corners[kept], axis=-1)
    return float(np.median(displacement)) / before.shape[1]


def _small_grey(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    small_height = max(1, round(height * _WIDTH / width))
    return cv2.cvtColor(cv2.resize(rgb, (_WIDTH, small_height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
