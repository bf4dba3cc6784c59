"""How long a node took and what it left out, from what a replay collected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vidllm_ros.evaluation.results import Replay

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Latency:
    """Seconds; NaN where there is nothing.

    Attributes:
        count: how many were measured.
        p50: median.
        p90: 90th percentile.
        p99: 99th percentile.
        max: largest.
    """

    count: int = 0
    p50: float = float("nan")
    p90: float = float("nan")
    p99: float = float("nan")
    max: float = float("nan")


@dataclass(frozen=True)
class Timing:
    """Speed and losses of one run.

    Attributes:
        windows: from sending a window's last frame to its description.
        answers: from asking to the answer.
        frames_published: sent to the node.
        frames_used: in at least one window.
        frames_unused: the rest, whatever became of them.
        dropped: frames the node counted as dropped, by reason, up to its last window.
        windows_rejected: windows that found no place in the map.
        real_time_factor: seconds recorded per second of the run; above 1 is faster than the camera.
    """

    windows: Latency = field(default_factory=Latency)
    answers: Latency = field(default_factory=Latency)
    frames_published: int = 0
    frames_used: int = 0
    frames_unused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    windows_rejected: int = 0
    real_time_factor: float = float("nan")


def timing(replay: Replay) -> Timing:
    """Speed and losses of a replay."""
    duration = float(replay.recording.get("duration", float("nan")))
    return Timing(
        windows=latency([row["latency"] for row in replay.windows if "latency" in row]),
        answers=latency([asked.latency for asked in replay.asked if not asked.error_code]),
        frames_published=replay.published,
        frames_used=replay.used_frames,
        frames_unused=replay.published - replay.used_frames,
        dropped=_dropped(str(replay.windows[-1].get("dropped", "")) if replay.windows else ""),
        windows_rejected=sum(row["status"] == "rejected" for row in replay.windows),
        real_time_factor=duration / replay.wall_time if replay.wall_time > 0 else float("nan"),
    )


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles of durations, interpolated linearly; NaN values are left out."""
    values = np.asarray(seconds, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Latency()
    p50, p90, p99 = np.percentile(values, PERCENTILES)
    return Latency(len(values), float(p50), float(p90), float(p99), float(values.max()))


def _dropped(text: str) -> dict[str, int]:
    """``reason=count`` pairs separated by blanks, as a window's row holds them."""
    return {reason: int(count) for reason, count in re.findall(r"(\S.*?)=(\d+)(?: |$)", text)}
