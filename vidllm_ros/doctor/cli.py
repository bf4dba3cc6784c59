"""``vidllm doctor``: what the node would say if it could be asked from outside, and also before there is one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from vidllm_ros.doctor.findings import Finding, Section, problem

SUMMARY = "Say what would keep the node from working: versions, device, checkpoint, topics, frames, state."


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help=SUMMARY,
        description="Look at this machine and at the ROS graph and say what would keep the node from working. Ends "
        "with 1 when something would. A node that runs is asked for its state and its parameters; without one, the "
        "options below say what it would be given.",
    )
    parser.add_argument("--node", default="", help="name with its namespace, such as /robot1/vidllm (default: all)")
    parser.add_argument("--image-topic", default="", metavar="TOPIC", help="default: what the node says, else /image")
    parser.add_argument("--checkpoint", default="nano", help="folder, or nano for the bundled one (nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16 (auto)")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="how long to listen to the topics (5)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints every section; 0 when nothing would keep the node from working, else 1."""
    from vidllm_ros.doctor.machine import checkpoint, versions

    sections = [Section("versions", versions())]
    print(sections[-1].text(), flush=True)
    graph, loaded = _graph(arguments)
    if not loaded:  # a node that has loaded its model needs no second one beside it
        sections.append(Section("model", checkpoint(arguments.checkpoint, arguments.device, arguments.dtype)))
        print(sections[-1].text(), flush=True)
    for section in graph:
        print(section.text(), flush=True)
    problems = sum(finding.is_problem for section in (*sections, *graph) for finding in section.findings)
    print("nothing that would keep the node from working" if not problems else _count(problems), flush=True)
    return 1 if problems else 0


def _graph(arguments: argparse.Namespace) -> tuple[Sequence[Section], bool]:
    """What the ROS graph shows, and whether a node has its model loaded."""
    try:
        from vidllm_ros.doctor.graph import examine
    except ImportError as error:  # also an rclpy whose shared libraries are not found
        return [Section("ROS 2", [_no_ros(error)])], False
    return examine(arguments.node, arguments.image_topic, arguments.seconds)


def _no_ros(error: ImportError) -> Finding:
    missing = (error.name or "").removeprefix("vidllm_ros.")
    if missing in ("msg", "srv", "action"):
        return problem(
            "the ROS interfaces of this package are not built here: run `colcon build` and source install/setup.bash"
        )
    return problem(
        f"ROS 2 is not here ({error}), so the node cannot run: source your ROS 2 installation. "
        "`vidllm ask` works without it"
    )


def _count(problems: int) -> str:
    return f"{problems} problem{'s' if problems > 1 else ''} that would keep the node from working"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.5 <= value <= 600:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 0.5 to 600")
    return value
