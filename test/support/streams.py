"""Frames without pictures, fed to a window buffer one by one."""

from __future__ import annotations

import numpy as np

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.window import Outcome

STEP = 250_000_000
CONFIG = WindowConfig(size=8, stride=4, min_motion=0.0, sample_rate=4.0, max_frame_gap=1.0)
IMAGE = np.zeros((16, 16, 3), np.uint8)


def frame(index, **values):
    """The frame ``index`` quarters of a second after the start."""
    return Frame(values.pop("rgb", IMAGE), round(index * STEP), **values)


def indices(window):
    """Which frames a window holds."""
    return [round(f.stamp_ns / STEP) for f in window.frames]


def feed(buffer, numbers):
    """Feeds frames; the windows that were completed."""
    windows = [buffer.add(frame(number)) for number in numbers]
    return [window for window in windows if window is not None]


def process(buffer, outcome=Outcome.PLACED):
    """Takes the next window through."""
    window = buffer.take()
    assert buffer.finish(window, outcome)
    return window


def balanced(buffer):
    """Whether every frame is accounted for."""
    counts = buffer.counts
    return counts.received == counts.used + counts.waiting + sum(counts.dropped.values())
