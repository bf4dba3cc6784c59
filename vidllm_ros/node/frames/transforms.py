"""A buffer of transforms: the tree that /tf and /tf_static describe, and what it says about two frames at a time."""

from __future__ import annotations

import bisect
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vidllm_ros.perception.geometry.transforms import compose, invert

_NANOSECONDS = 1_000_000_000


class TransformError(LookupError):
    """TF cannot say; the text names both frames, the time and what is known."""


@dataclass
class _Edge:
    """The transforms of one child frame to its parent, by time."""

    parent: str
    static: np.ndarray | None = None
    stamps_ns: list[int] = field(default_factory=list)
    transforms: list[np.ndarray] = field(default_factory=list)

    def insert(self, stamp_ns: int, T_parent_child: np.ndarray, cache_ns: int) -> None:
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1] - cache_ns:  # the clock went back: a bag that loops
            self.stamps_ns, self.transforms = [], []
        index = bisect.bisect_left(self.stamps_ns, stamp_ns)
        if index < len(self.stamps_ns) and self.stamps_ns[index] == stamp_ns:
            self.transforms[index] = T_parent_child
        else:
            self.stamps_ns.insert(index, stamp_ns)
            self.transforms.insert(index, T_parent_child)
        first = bisect.bisect_left(self.stamps_ns, self.stamps_ns[-1] - cache_ns)
        del self.stamps_ns[:first], self.transforms[:first]

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Interpolated; None outside the times that are held. Time zero is the newest."""
        if self.static is not None:
            return self.static
        if not self.stamps_ns:
            return None
        if stamp_ns == 0:
            return self.transforms[-1]
        index = bisect.bisect_left(self.stamps_ns, stamp_ns)
        if index == len(self.stamps_ns):
            return None
        if self.stamps_ns[index] == stamp_ns:
            return self.transforms[index]
        if index == 0:
            return None
        before, after = self.stamps_ns[index - 1], self.stamps_ns[index]
        return interpolate(self.transforms[index - 1], self.transforms[index], (stamp_ns - before) / (after - before))


class TransformBuffer:
    """Transforms of the last seconds; every method may be called from any thread.

    Args:
        cache_seconds: how far back from the newest transform of a frame it is remembered.
    """

    def __init__(self, cache_seconds: float = 10.0) -> None:
        self._cache_ns = int(cache_seconds * _NANOSECONDS)
        self._changed = threading.Condition()
        self._edges: dict[str, _Edge] = {}

    def add(self, parent: str, child: str, stamp_ns: int, T_parent_child: np.ndarray, static: bool = False) -> None:
        """Takes in one transform; a frame that changes its parent forgets the old one."""
        if not parent or not child or parent == child:
            return
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent:
                edge = self._edges[child] = _Edge(parent)
            if static:
                edge.static = T_parent_child
            else:
                edge.insert(stamp_ns, T_parent_child, self._cache_ns)
            self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp_ns: int, timeout: float = 0.0) -> np.ndarray:
        """``T_target_source`` [4, 4] at a time (0: the newest), waiting up to ``timeout`` seconds for it.

        Raises:
            TransformError: a frame is unknown, the two are not connected, or the time is not covered.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    return self._lookup(target, source, stamp_ns)
                except TransformError:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise
                    self._changed.wait(left)

    def parent(self, frame: str) -> str | None:
        """The parent of a frame; None when it has none."""
        with self._changed:
            edge = self._edges.get(frame.lstrip("/"))
            return None if edge is None else edge.parent

    def frames(self) -> list[str]:
        """Every frame that is known."""
        with self._changed:
            return sorted({*self._edges, *(edge.parent for edge in self._edges.values())})

    def _lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.eye(4)
        known = {*self._edges, *(edge.parent for edge in self._edges.values())}
        for frame in (target, source):
            if frame not in known:
                raise TransformError(
                    f"no transform from '{source}' to '{target}': TF does not know '{frame}'; {_list_frames(known)}"
                )
        chains = {frame: self._ancestors(frame) for frame in (target, source)}
        common = next((frame for frame in chains[source] if frame in chains[target]), None)
        if common is None:
            raise TransformError(
                f"no transform from '{source}' to '{target}': they are not connected; {_list_frames(known)}"
            )
        T_common_source = self._climb(source, common, stamp_ns, target)
        T_common_target = self._climb(target, common, stamp_ns, source)
        return invert(T_common_target) @ T_common_source

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None and edge.parent not in chain:
            chain.append(edge.parent)
        return chain

    def _climb(self, frame: str, ancestor: str, stamp_ns: int, other: str) -> np.ndarray:
        transform = np.eye(4)
        while frame != ancestor:
            edge = self._edges[frame]
            step = edge.at(stamp_ns)
            if step is None:
                held = "nothing"
                if edge.stamps_ns:
                    held = f"{_seconds(edge.stamps_ns[0])} to {_seconds(edge.stamps_ns[-1])}"
                raise TransformError(
                    f"no transform between '{frame}' and '{other}' at {_seconds(stamp_ns)}: '{edge.parent}' to "
                    f"'{frame}' is known for {held}"
                )
            transform = step @ transform
            frame = edge.parent
        return transform


def interpolate(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Between two transforms: translation linearly, rotation along the shortest arc."""
    rotations = Rotation.from_matrix(np.stack([first[:3, :3], second[:3, :3]]))
    rotation = Slerp([0.0, 1.0], rotations)(share).as_matrix()
    return compose(rotation, (1 - share) * first[:3, 3] + share * second[:3, 3])


def _list_frames(known: set[str]) -> str:
    return f"it knows {', '.join(sorted(known))}" if known else "it knows no frame"


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / _NANOSECONDS:.3f} s"
