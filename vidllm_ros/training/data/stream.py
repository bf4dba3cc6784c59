"""Endless shuffled batches out of any mixture of data sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.data import DataError, SceneSource, open_data
from vidllm_ros.training.data.room_stream import ahead_of_time
from vidllm_ros.training.data.rooms import RoomSource
from vidllm_ros.training.processes import process_index, world_size
from vidllm_ros.training.sample import Sample

_FIRST_ROOMS = 10_000_000  # rooms that each worker renders before it would meet the next one's


class MixedBatches(IterableDataset):
    """Batches whose samples come from the sources in turn.

    Finite sources are shuffled anew in every round and shared out among workers and processes; rooms never repeat.

    Args:
        specs: data sources as ``open_data`` reads them.
        config: image, patch and window sizes.
        windows: samples in a batch.
        seed: of the shuffling.
        first_room: room that the first worker of the first process starts with.
    """

    def __init__(
        self, specs: Sequence[str], config: VidLLMConfig, windows: int, seed: int = 0, first_room: int = 0
    ) -> None:
        if not specs:
            raise DataError("no data was given; name at least one source, such as rooms:train")
        self.sources = [open_data(spec, config) for spec in specs]
        self.windows = windows
        self.seed = seed
        self.first_room = first_room
        self.process = (process_index(), world_size())

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield batches without end."""
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        index, count = self.process
        place, places = index * workers + worker, count * workers
        streams = [self._samples(source, place, places) for source in self.sources]
        turn = place
        while True:
            batch = []
            for _ in range(self.windows):
                batch.append(next(streams[turn % len(streams)]))
                turn += 1
            yield batch

    def _samples(self, source: object, place: int, places: int) -> Iterator[Sample]:
        if isinstance(source, RoomSource):
            first = source.first_seed + self.first_room + place * _FIRST_ROOMS
            yield from RoomSource(source.split, source.config, first)
        assert isinstance(source, SceneSource)
        round_number = 0
        while True:
            # Every place shuffles alike and takes its share, so that a round shows each scene once.
            order = np.random.default_rng((self.seed, round_number)).permutation(len(source.scenes))
            own = [source.scenes[i] for i in order[place::places]] or [source.scenes[order[place % len(order)]]]
            yield from SceneSource(source.name, tuple(own), source.load)
            round_number += 1


def mixed_batches(
    specs: Sequence[str], config: VidLLMConfig, windows: int, seed: int = 0, first_room: int = 0, workers: int = 1
) -> Iterator[list[Sample]]:
    """Batches of ``windows`` samples, loaded by ``workers`` processes ahead of time; see ``MixedBatches``."""
    return ahead_of_time(MixedBatches(specs, config, windows, seed, first_room), workers)
