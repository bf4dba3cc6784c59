"""Batches of augmented frames: rooms rendered ahead and real frames, mixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.training.metric_depth.augment import AugmentConfig, disturb, erase, match_colours, reframe
from vidllm_ros.training.metric_depth.frame_cache import Frames, read_shards

#: A room of real frames is drawn in proportion to this power of its number of frames: small rooms count too.
ROOM_POWER = 0.5


@dataclass(frozen=True)
class Batch:
    """Frames to learn from.

    Attributes:
        images: float32 [F, 3, H, W], RGB in [0, 1].
        depth: float32 [F, h, w] metres, 0 where unknown.
        focal: float32 [F] image widths.
    """

    images: Tensor
    depth: Tensor
    focal: Tensor


@dataclass
class Mixture:
    """Draws batches.

    Args:
        rooms: folders of caches and how often each is drawn, relative to the others.
        real: real frames by room.
        real_share: share of real frames in a batch.
        size: (height, width) of pictures.
        depth_size: of depth.
        augment: how far pictures are changed.
    """

    rooms: dict[Path, float]
    real: dict[str, Frames]
    real_share: float
    size: tuple[int, int]
    depth_size: tuple[int, int]
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        """Open the caches."""
        if not 0 <= self.real_share <= 1:
            raise ValueError(f"the share of real frames is {self.real_share}; it must lie between 0 and 1")
        if self.real_share > 0 and not self.real:
            raise ValueError("there are no real frames: give some, or a share of 0")
        self.refresh()
        sizes = np.array([len(frames) for frames in self.real.values()], dtype=float) ** ROOM_POWER
        self._real = list(self.real.values())
        self._chance = sizes / sizes.sum() if len(sizes) else sizes

    def refresh(self) -> None:
        """Look for shards that were written since."""
        self._shards = {folder: read_shards(folder) for folder in self.rooms}
        empty = [str(folder) for folder, shards in self._shards.items() if not shards]
        if empty and self.real_share < 1:
            raise ValueError(f"there are no rendered frames in {', '.join(empty)}")

    def counts(self) -> dict[str, int]:
        """Number of frames of each source."""
        rendered = {str(folder.name): sum(map(len, shards)) for folder, shards in self._shards.items()}
        return {**rendered, **{room: len(frames) for room, frames in self.real.items()}}

    def draw(self, count: int, rng: np.random.Generator) -> Batch:
        """A batch of ``count`` frames."""
        pictures, depths, focals = [], [], []
        for index in range(count):
            real = index < round(count * self.real_share + rng.uniform(-0.5, 0.5))
            rgb, depth, focal = self._real_frame(rng) if real else self._rendered(rng)
            rgb, depth, focal = reframe(rgb, depth, focal, self.size, self.depth_size, self.augment, rng)
            if not real and self._real and rng.random() < self.augment.colour_match_probability:
                rgb = match_colours(rgb, self._real_frame(rng)[0], float(rng.uniform(0.3, 1.0)))
            rgb, depth = disturb(rgb, self.augment, rng), depth.astype(np.float32)
            if rng.random() < self.augment.erase_probability:
                erase(rgb, depth, rng)
            pictures.append(rgb)
            depths.append(depth)
            focals.append(focal)
        return Batch(to_images(np.stack(pictures)), torch.from_numpy(np.stack(depths)), torch.tensor(focals).float())

    def _real_frame(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        frames = self._real[rng.choice(len(self._real), p=self._chance)]
        index = int(rng.integers(len(frames)))
        return frames.rgb[index], frames.depth[index], float(frames.focal[index])

    def _rendered(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        weights = np.array(list(self.rooms.values()), dtype=float)
        shards = self._shards[list(self.rooms)[rng.choice(len(weights), p=weights / weights.sum())]]
        frames = shards[int(rng.integers(len(shards)))]
        index = int(rng.integers(len(frames)))
        return frames.rgb[index], frames.depth[index], float(frames.focal[index])


def to_images(rgb: np.ndarray) -> Tensor:
    """uint8 [F, H, W, 3] to float32 [F, 3, H, W] in [0, 1], in the channels-last layout convolutions are fastest on."""
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
