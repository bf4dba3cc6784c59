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
    """The shape of one batch.

    Args:
        windows: rooms in a batch.
        frames: frames of each.
        stride: range from which each room draws how many path steps lie between its frames.
        fresh: how many of the windows are newly rendered; the others are drawn from those rendered lately. Rendering
            would otherwise take as long as learning.
        tasks: questions per room.
    """

    windows: int
    frames: int
    stride: tuple[int, int] = (1, 3)
    fresh: int = 0
    tasks: int = 0

    @property
    def rendered(self) -> int:
        """Windows rendered for each batch."""
        return self.fresh or self.windows


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
            yield [self._sample(index * 4096 + window) for window in range(self.plan.rendered)]
            index += workers

    def _sample(self, seed: int) -> Sample:
        low, high = self.plan.stride
        stride = int(np.random.default_rng(seed).integers(low, high + 1))
        return room_sample(
            seed, self.split, frames=self.plan.frames, image_size=self.image_size, stride=stride, tasks=self.plan.tasks
        )


def batches(plan: BatchPlan, image_size: tuple[int, int], first_batch: int, workers: int = 1) -> Iterator[list[Sample]]:
    """Batches of ``plan`` from ``first_batch`` on, rendered by ``workers`` processes ahead of time."""
    fresh = ahead_of_time(RoomBatches(plan, image_size, first_batch), workers)
    return replay(fresh, plan, np.random.default_rng(first_batch))


def ahead_of_time(data: IterableDataset, workers: int) -> Iterator[list[Sample]]:
    """The batches of a data set, made by ``workers`` processes before they are asked for; by this one if 0."""
    # The default start method forks; Open3D and torch threads do not survive a fork.
    context = "spawn" if workers else None
    prefetch = 2 if workers else None
    loader = DataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=context, prefetch_factor=prefetch
    )
    return iter(loader)


def replay(
    fresh: Iterator[list[Sample]], plan: BatchPlan, rng: np.random.Generator, capacity: int = 2000
) -> Iterator[list[Sample]]:
    """Fill each batch up to ``plan.windows`` with windows of the last ``capacity``."""
    kept: list[Sample] = []
    for new in fresh:
        missing = plan.windows - len(new)
        while missing and len(kept) < missing:
            new += next(fresh)[: plan.windows - len(new)]
            missing = plan.windows - len(new)
            if not missing:
                break
        old = [kept[i] for i in rng.choice(len(kept), missing, replace=False)] if missing else []
        yield new + old
        if plan.rendered < plan.windows:
            kept += new
            del kept[: max(0, len(kept) - capacity)]
