"""``vidllm evaluate rooms``: a checkpoint on held-out procedural rooms."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vidllm_ros.evaluation.benchmarks import command

if TYPE_CHECKING:
    from vidllm_ros.training.evaluate.rooms_report import RoomsReport
    from vidllm_ros.training.sample import Sample


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = command.add_benchmark(subparsers, "rooms", "held-out procedural rooms against baselines that see nothing")
    parser.add_argument("--rooms", type=int, default=50, help="number of rooms (50)")
    parser.add_argument("--frames", type=int, metavar="N", help="frames in a window (default: the checkpoint's)")
    parser.add_argument("--first-seed", type=int, default=0, help="first room of the test split (0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from vidllm_ros.perception.config import RefineConfig
    from vidllm_ros.training.evaluate.room_scores import RoomScores, mean_sizes, score_room
    from vidllm_ros.training.evaluate.rooms_report import TASKS, RoomsReport, further_figures, summarize
    from vidllm_ros.training.rooms import room_sample

    model = command.load_model(arguments)
    frames = arguments.frames or model.config.window_size

    def load(scene: str) -> Sample:
        return room_sample(int(scene), "test", frames=frames, image_size=model.config.image_size, tasks=TASKS)

    def score(sample: Sample) -> dict[str, Any]:
        return asdict(score_room(model, sample, mean_sizes()))

    def report(rows: command.Rows, settings: dict[str, Any]) -> RoomsReport:
        scores = [RoomScores(**{key: value for key, value in row.items() if key != "scene"}) for row in rows]
        return RoomsReport(summarize(scores), further_figures(scores), settings)

    seeds = range(arguments.first_seed, arguments.first_seed + arguments.rooms)
    settings = {"frames": frames, "refine": asdict(RefineConfig())}
    return command.evaluate(arguments, settings, [str(seed) for seed in seeds], load, score, report)
