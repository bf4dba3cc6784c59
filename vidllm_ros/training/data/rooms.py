"""Procedural rooms as a data source: endless, seeded, rendered while they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.rooms import SPLITS, room_sample
from vidllm_ros.training.sample import Sample

__all__ = ["SPLITS", "RoomSource"]

_STRIDE = 2  # steps of the path between frames, so that a window goes around more of the room


@dataclass(frozen=True)
class RoomSource:
    """One room after another; the same specification always gives the same rooms.

    Attributes:
        split: train, val or test; their rooms never coincide.
        config: sizes of images and windows.
        first_seed: the first room.
    """

    split: str
    config: VidLLMConfig
    first_seed: int = 0

    def __iter__(self) -> Iterator[Sample]:
        """Render rooms without end."""
        for seed in count(self.first_seed):
            yield room_sample(seed, self.split, self.config.window_size, self.config.image_size, stride=_STRIDE)
