"""Scenes shared among processes: those that ``accelerate launch`` or ``torchrun`` starts, or shards started by hand.

Both launchers tell a process its number and how many there are by ``RANK`` and ``WORLD_SIZE``, and where they meet by
``MASTER_ADDR`` and ``MASTER_PORT``; nothing of theirs needs to be imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from vidllm_ros.evaluation.benchmarks import benchmark
from vidllm_ros.evaluation.errors import EvaluationError

Item = TypeVar("Item")
_PATIENCE = timedelta(days=7)  # of a process for the slowest one; a process that dies ends the wait at once


@dataclass(frozen=True)
class Share:
    """The part of the scenes that this process does.

    Attributes:
        index: which part, from 0.
        count: how many parts there are.
        launched: whether a launcher started all of them, so that the first can wait for the others.
    """

    index: int = 0
    count: int = 1
    launched: bool = False

    def device(self, wanted: str) -> str:
        """The device of this process: with ``cuda`` and several processes, each takes its own."""
        if not self.launched or wanted != "cuda":
            return wanted
        return f"cuda:{os.environ.get('LOCAL_RANK', self.index)}"


def share(by_hand: tuple[int, int] | None = None) -> Share:
    """What this process does, from its launcher's environment or from ``--shard``.

    Raises:
        EvaluationError: both are given, or the environment cannot be understood.
    """
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE", "1")
    if size == "1" or rank is None:
        return Share(*benchmark.existing(by_hand or (0, 1)))
    if by_hand is not None:
        raise EvaluationError(f"the launcher shares the scenes among {size} processes already: leave --shard out.")
    if not rank.isdecimal() or not size.isdecimal() or int(rank) >= int(size):
        raise EvaluationError(f"RANK={rank!r} and WORLD_SIZE={size!r} do not name a process of a launcher.")
    return Share(int(rank), int(size), launched=True)


def run(
    scenes: Sequence[str],
    load: Callable[[str], Item],
    evaluate: Callable[[Item], dict[str, Any]],
    out: Path,
    part: Share,
) -> list[dict[str, Any]]:
    """``benchmark.run`` on this process's part, and then the results that are there of all parts.

    Launched processes wait for each other first, so that each then has every result. A shard started by hand has its
    own and those that others have finished; the last one to end, or a run without ``--shard``, has all.

    Raises:
        EvaluationError: no scene could be used at all, or as ``benchmark.run``.
    """
    failed: EvaluationError | None = None
    try:
        benchmark.run(scenes, load, evaluate, out, (part.index, part.count))
    except EvaluationError as error:
        failed = error  # a part of few scenes may have none that can be used, and the others still do
    if part.launched:
        _meet()
    rows = benchmark.read_folder(out, scenes)
    if failed and not (rows and part.count > 1):
        raise failed
    return rows


def _meet() -> None:
    """Wait until every process of the launcher is here."""
    from torch import distributed

    distributed.init_process_group("gloo", timeout=_PATIENCE)
    distributed.barrier()
    distributed.destroy_process_group()
