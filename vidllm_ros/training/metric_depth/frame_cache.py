"""Frames with depth on disk, in shards of plain arrays that are mapped into memory: drawing one costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: (height, width) in pixels of cached frames: what real clips have, and enough for crops of the network's size.
CACHED_SIZE = (126, 168)


@dataclass(frozen=True, eq=False)
class Frames:
    """Single frames with depth; arrays may be maps of files.

    Attributes:
        rgb: uint8 [N, H, W, 3].
        depth: float16 [N, H, W] metres along the optical axis, 0 where unknown.
        focal: float32 [N] focal length in image widths (fx / W).
    """

    rgb: np.ndarray
    depth: np.ndarray
    focal: np.ndarray

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.focal)


def shard_exists(folder: Path, index: int) -> bool:
    """Whether this shard was written to its end; the focal lengths are written last."""
    return (folder / f"focal_{index:05d}.npy").exists()


def write_shard(folder: Path, index: int, frames: Frames) -> None:
    """Write one shard; a kill leaves either nothing that counts or the whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values, kind in (
        ("rgb", frames.rgb, np.uint8),
        ("depth", frames.depth, np.float16),
        ("focal", frames.focal, np.float32),
    ):
        partial = folder / f"{name}_{index:05d}.partial.npy"
        np.save(partial, np.ascontiguousarray(values, dtype=kind))
        partial.replace(folder / f"{name}_{index:05d}.npy")


def read_shards(folder: Path) -> list[Frames]:
    """All whole shards of a folder, mapped, in order."""
    return list(_shards(folder))


def _shards(folder: Path) -> Iterator[Frames]:
    for path in sorted(folder.glob("focal_*.npy")):
        if ".partial" in path.name:
            continue
        rgb, depth = (
            np.load(path.with_name(path.name.replace("focal", name)), mmap_mode="r") for name in ("rgb", "depth")
        )
        yield Frames(rgb, depth, np.load(path))
