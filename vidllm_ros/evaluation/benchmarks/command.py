"""What the commands of all benchmarks share: their arguments, and the way from scenes to a written report."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vidllm_ros.evaluation.benchmarks.benchmark import Report
    from vidllm_ros.model import VidLLM

Item = TypeVar("Item")
Rows = Sequence[dict[str, Any]]


def add_benchmark(subparsers: Any, name: str, about: str, data: str = "") -> argparse.ArgumentParser:
    """A subcommand with the arguments of every benchmark.

    Args:
        subparsers: of ``vidllm evaluate``.
        name: of the benchmark.
        about: what is measured.
        data: what ``--data`` names; empty for a benchmark that makes its scenes and takes no such argument.
    """
    parser = subparsers.add_parser(
        name,
        help=about,
        description=f"Score a checkpoint: {about}. Results are kept scene by scene in results.jsonl, and a run with "
        "the same --out continues where the last one ended. Processes of accelerate launch or torchrun share the "
        "scenes.",
    )
    if data:
        parser.add_argument("--data", type=Path, required=True, metavar="PATH", help=data)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder; the bundled nano when not given")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to write (default: evaluate_{name})")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu); launched processes share cuda")
    if data:
        parser.add_argument("--limit-scenes", type=int, metavar="N", help="evaluate the first N scenes only")
    parser.add_argument(
        "--shard", type=_shard, metavar="K/N", help="every N-th scene from the K-th on, counted from 0, by hand"
    )
    parser.set_defaults(name=name, limit_scenes=None)
    return parser


def load_model(arguments: argparse.Namespace) -> VidLLM:
    """The checkpoint on the device of this process."""
    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.evaluation.benchmarks import sharding
    from vidllm_ros.model import VidLLM

    device = sharding.share(arguments.shard).device(arguments.device)
    return VidLLM.from_pretrained(arguments.checkpoint or NANO, device=device)


def evaluate(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    scenes: Sequence[str],
    load: Callable[[str], Item],
    score: Callable[[Item], dict[str, Any]],
    report: Callable[[Rows, dict[str, Any]], Report],
) -> int:
    """Score the scenes, write the report and print its table; of launched processes the first one reports.

    Args:
        arguments: of ``add_benchmark``.
        settings: what decides the results; the checkpoint is added.
        scenes: their names.
        load: what is known of a scene.
        score: its result.
        report: of all results, given these and the settings.
    """
    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.evaluation.benchmarks import benchmark, sharding

    out = arguments.out or Path(f"evaluate_{arguments.name}")
    part = sharding.share(arguments.shard)
    settings = {"checkpoint": str(arguments.checkpoint or NANO), **settings}
    benchmark.same_run(out, {"benchmark": arguments.name, **settings})
    rows = sharding.run(scenes[: arguments.limit_scenes], load, score, out, part)
    if part.launched and part.index > 0:
        return 0
    made = report(rows, settings)
    made.write(out)
    print(made.table())
    print(f"written to {out}")
    return 0


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K/N, such as 0/4")
    return int(match[1]), int(match[2])
