"""``vidllm evaluate bag``: a replay that is held against the truth and against limits, for a team's own checks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vidllm_ros.evaluation.limits import parse
from vidllm_ros.replay import cli as replay_cli

EVERY_QUESTION = 1_000_000


def add_parser(subparsers: Any) -> None:
    """Add ``bag`` and its arguments: those of ``vidllm replay``, more truth, and limits."""
    parser = subparsers.add_parser(
        "bag",
        help="score the node on a recording of your own, over ROS 2",
        description="Play a recording through the real node in lock-step, so that the same bag gives the same numbers, "
        "and score trajectory, depth, map, boxes, answers, latency and drops. Writes what vidllm replay writes, with "
        "the plots of the errors in report.html, scores.json and path_errors.csv.",
        epilog="Exit code: 0; 1 when the run failed or something required is missing; 2 for wrong use; 3 when a limit "
        "is missed.",
    )
    replay_cli.add_arguments(parser)
    truth = parser.add_argument_group("ground truth, part by part")
    truth.add_argument(
        "--truth-odometry", default="", metavar="TOPIC", help="nav_msgs/Odometry in the bag as the true trajectory"
    )
    truth.add_argument("--truth-boxes", type=Path, metavar="FILE", help="JSON of label, center, size and yaw in world")
    truth.add_argument(
        "--truth-cloud",
        type=Path,
        metavar="FILE",
        help="mesh or cloud in the true world (default: depth lifted along the true poses, where both are known)",
    )
    truth.add_argument(
        "--questions", type=Path, metavar="FILE", help="YAML or JSON list of question and answers; all are asked"
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME<VALUE",
        help="a figure of scores.json that must hold, e.g. 'trajectory.ate_se3<0.1' or 'map.f_score>=0.5'; may be "
        "given several times",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay and score; see the epilog for the exit codes."""
    from vidllm_ros.evaluation.recordings.truth import TruthFiles
    from vidllm_ros.evaluation.scores import figure_names

    names = figure_names()
    limits = tuple(parse(text, names) for text in arguments.limit)
    files = TruthFiles(
        odometry=arguments.truth_odometry,
        boxes=arguments.truth_boxes,
        questions=arguments.questions,
        cloud=arguments.truth_cloud,
    )
    if arguments.questions:
        arguments.ask_known = EVERY_QUESTION
    if arguments.out is None:
        arguments.out = Path(f"evaluate_{arguments.recording.resolve().name}")
    return replay_cli.play(arguments, {"truth_files": files, "limits": limits})
