"""``vidllm ask``: reconstruct a folder of images or a video file and answer questions about it, without ROS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.errors import ConfigError, FrameRejected

if TYPE_CHECKING:
    from vidllm_ros.perception.pipeline import Pipeline
    from vidllm_ros.perception.types import Answer, Box3D, WindowResult

BUNDLED_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "ask",
        help="Reconstruct a folder of images or a video and ask about it; no ROS.",
        description="Reconstructs a folder of images or a video file in metres, locates objects and answers questions.",
    )
    parser.add_argument("source", type=Path, metavar="FOLDER_OR_VIDEO", help="images in name order, or a video file")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="in plain language")
    parser.add_argument(
        "--checkpoint", type=Path, default=BUNDLED_CHECKPOINT, help="folder of the network (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:n] (%(default)s)")
    parser.add_argument("--everything", action="store_true", help="ask about everything seen, not the newest window")
    parser.add_argument("--locate", nargs="+", metavar="LABEL", help="objects to locate (default: detection.labels)")
    parser.add_argument(
        "--intrinsics",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="camera matrix in pixels, when known",
    )
    parser.add_argument("--rate", type=float, default=4.0, help="frames per second of a folder without stamps (4)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="e.g. --set window.stride=8"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write map.ply, trajectory.tum and answers.json here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; 0, or 1 when no window could be placed."""
    config = parse_settings(arguments.settings)
    # Only now: torch takes seconds to import, and wrong arguments should be told at once.
    from vidllm_ros.model import VidLLM
    from vidllm_ros.perception.pipeline import Pipeline

    pipeline = Pipeline(VidLLM.from_pretrained(arguments.checkpoint, device=arguments.device), config)
    for result in process_source(pipeline, arguments.source, arguments.rate, arguments.intrinsics):
        print(describe_window(result), flush=True)
    print(describe_frames(pipeline))
    window_id = "all" if arguments.everything else None
    speaks = pipeline.model.config.language is not None
    boxes = pipeline.locate(arguments.locate, window_id) if speaks or arguments.locate else []
    for box in boxes:
        print(describe_box(box))
    answers = []
    for question in arguments.questions:
        answers.append((question, pipeline.ask(question, window_id=window_id)))
        print(f"Q: {question}\nA: {answers[-1][1].text}  (confidence {answers[-1][1].confidence:.2f})")
    if arguments.out is not None:
        write_results(pipeline, arguments.out, boxes, answers)
    return 0


def process_source(
    pipeline: Pipeline, source: Path, rate: float, intrinsics: list[float] | None = None
) -> Iterator[WindowResult]:
    """Every window of a folder or video; frames that cannot be used are reported on stderr and left out.

    Args:
        pipeline: takes the frames.
        source: folder or video file.
        rate: frames per second of a folder without stamps.
        intrinsics: fx, fy, cx, cy in pixels, when known.
    """
    from vidllm_ros.perception.windows.sources import read_frames

    matrix = None
    if intrinsics is not None:
        fx, fy, cx, cy = intrinsics
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    for frame in read_frames(source, rate, matrix):
        try:
            window = pipeline.accept(frame)
        except FrameRejected as error:
            print(f"vidllm: frame left out: {error}", file=sys.stderr)
            continue
        if window is not None:
            yield pipeline.process(window)
    while (window := pipeline.flush()) is not None:
        yield pipeline.process(window)


def parse_settings(settings: list[str]) -> PerceptionConfig:
    """The configuration with ``name=value`` texts applied.

    Raises:
        ConfigError: an unknown name, or a value of a wrong type or out of range.
    """
    kinds = {parameter.name: parameter.kind for parameter in PerceptionConfig.parameters()}
    changes: dict[str, Any] = {}
    for setting in settings:
        name, mark, text = setting.partition("=")
        if not mark:
            raise ConfigError(f"--set {setting!r} is not of the form name=value, such as window.stride=8")
        kind = kinds.get(name, str)
        try:
            changes[name] = tuple(text.split(",")) if kind is tuple else text if kind is str else json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{name} is {text!r}; it must be a number, true or false") from error
    return PerceptionConfig().replace(changes)


def describe_window(result: WindowResult) -> str:
    """One line about a window, and one for each warning."""
    seconds = result.timings.encode + result.timings.reconstruct + result.timings.fuse
    line = (
        f"window {result.window_id}: {len(result.window.frames)} frames, {result.status.value}, "
        f"{len(result.points)} points, scale {result.scale_source.value} "
        f"(spread {result.reconstruction.scale_spread:.3f}, ratio {result.scale_ratio:.3f}), "
        f"up from {result.gravity_source}, {seconds:.2f} s"
    )
    notes = (result.reason, *result.warnings) if result.reason else result.warnings
    return "\n".join([line, *(f"  ! {note}" for note in notes)])


def describe_frames(pipeline: Pipeline) -> str:
    """One line about what became of the frames."""
    counts = pipeline.stats
    dropped = ", ".join(f"{count} {reason.value}" for reason, count in counts.dropped.items()) or "none"
    return f"frames: {counts.received} received, {counts.used} used, {counts.waiting} waiting, dropped: {dropped}"


def describe_box(box: Box3D) -> str:
    """One line about a box in map."""
    center, size = (", ".join(f"{value:.2f}" for value in values) for values in (box.center, box.size))
    return f"{box.label}: at ({center}) m, size ({size}) m, score {box.score:.2f}"


def write_results(pipeline: Pipeline, folder: Path, boxes: list[Box3D], answers: list[tuple[str, Answer]]) -> None:
    """Writes map.ply, trajectory.tum and answers.json into ``folder``, which is made when missing.

    Raises:
        SaveError: a file cannot be written.
    """
    from vidllm_ros.perception.mapping.save import save_cloud, save_trajectory, write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    comments = {"frame": "map (z up, metres)", **pipeline.config.values()}
    save_cloud(folder / "map.ply", *pipeline.map_points(), comments, overwrite=True)
    save_trajectory(folder / "trajectory.tum", *pipeline.path, overwrite=True)
    content = {
        "frame": "map",
        "boxes": [box_values(box) for box in boxes],
        "answers": [
            {
                "question": question,
                "answer": answer.text,
                "confidence": answer.confidence,
                "window_id": answer.window_id,
                "boxes": [box_values(box) for box in answer.boxes],
            }
            for question, answer in answers
        ],
    }
    write_atomically(folder / "answers.json", (json.dumps(content, indent=2) + "\n").encode(), overwrite=True)


def box_values(box: Box3D) -> dict[str, Any]:
    """A box as plain values for JSON; centre and size in metres, rotation row-major."""
    return {
        "label": box.label,
        "score": float(box.score),
        "center": np.asarray(box.center, float).tolist(),
        "size": np.asarray(box.size, float).tolist(),
        "rotation": np.asarray(box.rotation, float).tolist(),
    }
