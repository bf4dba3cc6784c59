"""An endless stream of room samples, rendered in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vidllm_ros.training.rooms import room_sample
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class BatchPlan:
    """The shape of one batch: ``windows`` rooms of ``frames`` frames, ``stride`` path steps apart (drawn from the range)."""

    windows: int
    frames: int
    stride: tuple[int, int] = (1, 3)


class RoomBatches(IterableDataset):
    """Batches of rooms that never repeat; batch ``i`` is the same in every run."""

    def __init__(self, plan: BatchPlan, image_size: tuple[int, int], first_batch: int, split: str = "train") -> None:
        self.plan = plan
        self.image_size = image_size
        self.first_batch = first_batch
        self.split = split

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield batches from ``first_batch`` on, dealt out over the workers."""
        torch.set_num_threads(1)
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        index = self.first_batch + worker
        while True:
            yield [self._sample(index * 4096 + window) for window in range(self.plan.windows)]
            index += workers

    def _sample(self, seed: int) -> Sample:
        low, high = self.plan.stride
        stride = int(np.random.default_rng(seed).integers(low, high + 1))
        return room_sample(seed, self.split, frames=self.plan.frames, image_size=self.image_size, stride=stride)


def batches(plan: BatchPlan, image_size: tuple[int, int], first_batch: int, workers: int = 1) -> Iterator[list[Sample]]:
    """Batches of ``plan`` from ``first_batch`` on, rendered by ``workers`` processes ahead of time."""
    data = RoomBatches(plan, image_size, first_batch)
    # The default start method forks; Open3D and torch threads do not survive a fork.
    context = "spawn" if workers else None
    prefetch = 2 if workers else None
    loader = DataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=context, prefetch_factor=prefetch
    )
    return iter(loader)
