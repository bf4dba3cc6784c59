"""``vidllm replay``: what can be asked for; the work is in ``replay``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vidllm_ros.evaluation.results import PARTS
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.errors import ConfigError

MISSED = 3  # exit code when a limit is missed
SUMMARY = "Play a ROS 2 bag through the node, ask questions, write a report."


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its arguments."""
    parser = subparsers.add_parser(
        "replay",
        help=SUMMARY,
        description="Play a recording through the real node over ROS 2, ask questions about it and write map.ply, "
        "trajectory.tum, boxes.json, answers.json, windows.csv, config.json, a bag of the results and report.html.",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every replay can be told."""
    parser.add_argument("recording", type=Path, metavar="BAG", help="a ROS 2 bag, or a folder with frames.json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: replay_NAME)")
    parser.add_argument("--ask", action="append", default=[], metavar="QUESTION", help="may be given several times")
    parser.add_argument(
        "--ask-known",
        type=int,
        default=0,
        metavar="N",
        help="ask N questions of the ground truth as well, and score them",
    )
    parser.add_argument(
        "--scope", choices=("all", "window"), default="all", help="ask about everything seen or the newest window (all)"
    )
    parser.add_argument("--topic", default="", help="image topic (default: the only colour image topic)")
    parser.add_argument("--camera-info-topic", default="", metavar="TOPIC", help="default: beside the image topic")
    parser.add_argument("--publish-tf", action="store_true", help="play /tf too, so that the node may use it")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="PATH",
        help="TUM trajectory, or a folder with trajectory.tum, boxes.json and questions.json (default: what the "
        "recording has: a folder ground_truth, TF above the camera, depth)",
    )
    parser.add_argument(
        "--require",
        type=_parts,
        metavar="PARTS",
        help=f"fail unless there are {', '.join(PARTS)} (default: points,poses, and answers when something is asked)",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="play the first N frames only")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--lock-step",
        action="store_true",
        help="wait for the node at each window, so that nothing is dropped (default)",
    )
    pace.add_argument("--rate", type=float, metavar="X", help="play at X times the recorded speed instead")
    node = parser.add_argument_group("the node")
    node.add_argument("--checkpoint", help="folder of a checkpoint, or the name of a bundled one (nano)")
    node.add_argument("--device", help="cpu, cuda or cuda:N")
    node.add_argument("--labels", type=_words, metavar="LABELS", help="objects to locate, separated by commas")
    node.add_argument("--window-size", type=int, metavar="N", help="frames in a window")
    node.add_argument("--window-stride", type=int, metavar="N", help="new frames in a window")
    node.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any parameter of the node, e.g. map.voxel_size=0.1",
    )
    node.add_argument(
        "--use-running-node",
        metavar="NAME",
        nargs="?",
        const="/vidllm",
        help="play into a node that runs already (/vidllm) in this ROS domain instead of starting one; resets it first",
    )
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds one step may take (300)")


def run(arguments: argparse.Namespace) -> int:
    """Replay; 0, or 1 when something required is missing."""
    return play(arguments, {})


def play(arguments: argparse.Namespace, further: Mapping[str, Any]) -> int:
    """Replay with what an evaluation asks ``further``, fields of ``ReplayOptions``.

    Returns:
        0; 1 when something required is missing; 3 when a limit is missed.
    """
    parameters = node_parameters(arguments)
    if arguments.use_running_node and parameters:
        raise ConfigError(
            f"{', '.join(sorted(parameters))} cannot be set with --use-running-node: set it where that node is started"
        )
    if arguments.rate is not None and not arguments.rate > 0:
        raise ConfigError(f"--rate is {arguments.rate}; it must be positive")
    from vidllm_ros.replay.run import (
        ReplayOptions,
        replay,
    )  # ROS and torch, only once the arguments are known to be good

    name = arguments.recording.resolve().name
    required = arguments.require or (
        ["points", "poses"] + (["answers"] if arguments.ask or arguments.ask_known else [])
    )
    options = ReplayOptions(
        recording=arguments.recording,
        out=arguments.out or Path(f"replay_{name}"),
        questions=tuple(arguments.ask),
        known_questions=arguments.ask_known,
        scope=arguments.scope,
        topic=arguments.topic,
        camera_info_topic=arguments.camera_info_topic,
        publish_tf=arguments.publish_tf,
        truth=arguments.truth,
        frames=arguments.frames,
        rate=arguments.rate,
        parameters=parameters,
        running_node=arguments.use_running_node or "",
        timeout=arguments.timeout,
        required=tuple(required),
        command=shlex.join(["vidllm", *sys.argv[1:]]),
        **further,
    )
    made, missed = replay(options)
    for sentence in missed:
        print(f"vidllm: {sentence}", file=sys.stderr)
    if lacking := made.lacking(required):
        print(f"vidllm: error: {lacking}", file=sys.stderr)
        return 1
    return MISSED if missed else 0


def node_parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """Parameters of the node from all the options that set one, checked.

    Raises:
        ConfigError: an unknown name, a value that cannot be used, or one that two options set.
    """
    named = {
        "checkpoint": arguments.checkpoint,
        "device": arguments.device,
        "detection.labels": arguments.labels,
        "window.size": arguments.window_size,
        "window.stride": arguments.window_stride,
    }
    parameters = {name: value for name, value in named.items() if value is not None}
    known = {p.name: p for p in (*NodeConfig.parameters(), *PerceptionConfig.parameters())}
    for text in arguments.param:
        name, mark, value = text.partition("=")
        if not mark:
            raise ConfigError(f"--param {text!r} is not of the form NAME=VALUE, such as map.voxel_size=0.1")
        if name in parameters:
            raise ConfigError(f"{name} is set twice, by --param and by an option of its own or another --param")
        if name not in known:
            PerceptionConfig().replace({name: None})  # raises, and names the nearest
        parameters[name] = yaml.safe_load(value) if known[name].kind is not str else value
    checked = {name: known[name].check(value) for name, value in parameters.items()}
    own = {p.name for p in NodeConfig.parameters()}
    PerceptionConfig().replace({name: value for name, value in checked.items() if name not in own})
    return checked


def _parts(text: str) -> list[str]:
    parts = _words(text)
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown: use {', '.join(PARTS)}")
    return list(parts)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
