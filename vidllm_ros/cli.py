"""The ``vidllm`` command: one subcommand per room of the package.

Each subcommand lives in its room as ``add_parser(subparsers)``, which adds its arguments and sets ``run`` to a function
from the parsed arguments to an exit status (None: 0). Only the room that is named is imported: ``vidllm --help`` is
quick, and a command needs no packages but its own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives and what it does.

    Attributes:
        module: of its room.
        summary: one sentence for ``vidllm --help``.
        add_parser: the function in ``module`` that gets the subparsers.
    """

    module: str
    summary: str
    add_parser: str = "add_parser"


COMMANDS = {
    "replay": Command("vidllm_ros.replay.cli", "Play a ROS 2 bag through the node, ask questions, write a report."),
    "ask": Command("vidllm_ros.perception.cli", "Reconstruct a folder of images or a video and ask about it; no ROS."),
    "evaluate": Command(
        "vidllm_ros.cli", "Score a checkpoint on rooms or a data set, or the node on a bag.", "add_evaluate_parser"
    ),
    "train": Command("vidllm_ros.training.cli", "Train a network on procedural rooms."),
    "rooms": Command(
        "vidllm_ros.training.rooms.cli", "Make procedural rooms with exact ground truth, or a bag of one."
    ),
    "convert": Command(
        "vidllm_ros.model.convert.cli", "Turn VGGT, DINOv2 and language model weights into a checkpoint folder."
    ),
    "doctor": Command(
        "vidllm_ros.doctor.cli",
        "Say what would keep the node from working: versions, device, checkpoint, topics, frames, state.",
    ),
}

# What `vidllm evaluate` can evaluate on: functions of the rooms, each of which adds its benchmarks.
EVALUATIONS = (
    Command("vidllm_ros.training.evaluate.rooms", "held-out procedural rooms"),
    Command("vidllm_ros.training.evaluate.data", "data sets that training reads too", "add_parsers"),
    Command("vidllm_ros.training.evaluate.referring", "objects that words mean", "add_parsers"),
    Command("vidllm_ros.training.evaluate.surface", "reconstruction of scans", "add_parsers"),
    Command("vidllm_ros.evaluation.benchmarks.cli", "sets of images", "add_parsers"),
    Command("vidllm_ros.replay.evaluate", "a ROS 2 bag, through the real node"),
    Command("vidllm_ros.evaluation.compare", "two runs of one benchmark"),
)

# The extra of setup.py that brings a package which not every command needs.
EXTRAS = {
    "accelerate": "train",
    "peft": "train",
    "rosbags": "eval",
    "PIL": "eval",
    "jinja2": "viz",
    "plotly": "viz",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: arguments without the program name; None: those of the process.

    Returns:
        0, or 1 when the command failed, 2 when it was called wrongly, 130 when it was interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parsed = _parse(arguments)
        status = parsed.run(parsed) or 0
        sys.stdout.flush()
        return status
    except ModuleNotFoundError as error:
        hint = _missing_module(error.name or "")
        if hint is None:
            raise
        print(f"vidllm: error: {hint}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`vidllm ... | head`): keep the interpreter from failing again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not _raised_on_purpose(error):
            raise
        print(f"vidllm: error: {error}", file=sys.stderr)
    return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vidllm", description="Metric 3D perception and answers from one colour camera."
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # The program itself has no option with a value, so the first word that is not an option is the command.
    named = next((word for word in arguments if not word.startswith("-")), None)
    if named in COMMANDS:
        module = importlib.import_module(COMMANDS[named].module)
        getattr(module, COMMANDS[named].add_parser)(subparsers)
    else:
        for name, command in COMMANDS.items():
            subparsers.add_parser(name, help=command.summary)
    return parser.parse_args(arguments)


def add_evaluate_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``evaluate`` with one subcommand for each benchmark."""
    parser = subparsers.add_parser(
        "evaluate",
        help=COMMANDS["evaluate"].summary,
        description="Score a checkpoint on rooms or a data set, or the node on a bag.",
    )
    benchmarks = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for command in EVALUATIONS:
        getattr(importlib.import_module(command.module), command.add_parser)(benchmarks)


def _missing_module(name: str) -> str | None:
    """What to do about a module that cannot be imported; None when it is a fault of this package."""
    package = name.partition(".")[0]
    if name in ("vidllm_ros.action", "vidllm_ros.msg", "vidllm_ros.srv"):
        return (
            "the ROS interfaces of this package are not built here: run `colcon build` and source install/setup.bash."
        )
    if package == "rclpy" or package.endswith(("_msgs", "_srvs", "_interfaces")):
        return f"this command talks to ROS 2, and {package} cannot be imported: source your ROS 2 installation first."
    if package in EXTRAS:
        return f"{package} is not installed: pip install 'vidllm_ros[{EXTRAS[package]}]'"
    if package == "vidllm_ros":
        return None
    return f"{package} is not installed: pip install vidllm_ros brings what every command needs."


def _raised_on_purpose(error: Exception) -> bool:
    """Whether the message is meant for the user; any other exception is a bug, and its traceback says where."""
    return isinstance(error, OSError) or type(error).__module__.startswith("vidllm_ros.")


if __name__ == "__main__":
    raise SystemExit(main())
