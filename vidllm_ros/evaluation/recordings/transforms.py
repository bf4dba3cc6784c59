"""Where a camera was according to TF: the chain of recorded transforms above it, interpolated at a stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vidllm_ros.evaluation.recordings.bags import stamp_ns

MAX_GAP_NS = 200_000_000  # neighbouring transforms further apart are not interpolated
MAX_DEPTH = 64  # of the chain; deeper means a loop


class TransformTree:
    """The transforms of a recording.

    Args:
        dynamic: ``TransformStamped`` messages of /tf.
        static: those of /tf_static, valid at every time.
    """

    def __init__(self, dynamic: Iterable[Any], static: Iterable[Any] = ()) -> None:
        self._parents: dict[str, str] = {}
        self._static: dict[str, np.ndarray] = {}
        moving: dict[str, dict[int, np.ndarray]] = {}
        for transform in static:
            child = self._link(transform)
            self._static[child] = _matrix(transform)
        for transform in dynamic:
            child = self._link(transform)
            moving.setdefault(child, {})[stamp_ns(transform)] = _matrix(transform)
        self._moving = {child: sorted(samples.items(), key=lambda s: s[0]) for child, samples in moving.items()}

    def root(self, frame: str) -> str:
        """The frame at the top of the chain above ``frame``."""
        chain = self._chain(frame)
        return self._parents[chain[-1]] if chain else frame.strip("/")

    def moves(self, frame: str) -> bool:
        """Whether anything in the chain above ``frame`` changes with time."""
        return any(child in self._moving for child in self._chain(frame))

    def lookup(self, frame: str, stamp: int) -> np.ndarray | None:
        """``T_root_frame`` [4, 4] at ``stamp`` in nanoseconds; None where a part of the chain is not known then."""
        result = np.eye(4)
        for child in self._chain(frame):
            step = self._static[child] if child not in self._moving else self._interpolate(child, stamp)
            if step is None:
                return None
            result = step @ result
        return result

    def _link(self, transform: Any) -> str:
        child = str(transform.child_frame_id).strip("/")
        self._parents[child] = str(transform.header.frame_id).strip("/")
        return child

    def _chain(self, frame: str) -> list[str]:
        """The frames from ``frame`` up that have a parent."""
        chain, child = [], frame.strip("/")
        while child in self._parents and len(chain) < MAX_DEPTH:
            chain.append(child)
            child = self._parents[child]
        return chain

    def _interpolate(self, child: str, stamp: int) -> np.ndarray | None:
        samples = self._moving[child]
        after = bisect_left(samples, stamp, key=lambda s: s[0])
        if after < len(samples) and samples[after][0] == stamp:
            return samples[after][1]
        if after in (0, len(samples)) or samples[after][0] - samples[after - 1][0] > MAX_GAP_NS:
            return None
        (t0, a), (t1, b) = samples[after - 1], samples[after]
        share = (stamp - t0) / (t1 - t0)
        result = np.eye(4)
        result[:3, :3] = Slerp([0, 1], Rotation.from_matrix([a[:3, :3], b[:3, :3]]))(share).as_matrix()
        result[:3, 3] = (1 - share) * a[:3, 3] + share * b[:3, 3]
        return result


def _matrix(transform: Any) -> np.ndarray:
    t, q = transform.transform.translation, transform.transform.rotation
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    result[:3, 3] = t.x, t.y, t.z
    return result
