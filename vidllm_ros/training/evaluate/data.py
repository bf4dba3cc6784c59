"""``vidllm evaluate tum | clips | scannet | scanqa | sqa3d``: a checkpoint on data that the training sources read."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidllm_ros.evaluation.benchmarks import command
from vidllm_ros.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow, Question
    from vidllm_ros.model.config import VidLLMConfig
    from vidllm_ros.training.data.scannet.annotations import AnnotatedScan
    from vidllm_ros.training.data.scannet.scenes import SceneSource
    from vidllm_ros.training.sample import Sample

MODELS_DIALECTS = "scanqa,video3dllm,llava3d"


@dataclass(frozen=True)
class Benchmark:
    """A data set and where its data is.

    Attributes:
        about: what is measured, for the help.
        data: what ``--data`` names.
        asks: whether questions are asked; else geometry is compared.
    """

    about: str
    data: str
    asks: bool = False


BENCHMARKS = {
    "tum": Benchmark("depth, poses and trajectory on TUM RGB-D", "a sequence, or a folder of sequences"),
    "clips": Benchmark("depth, poses and trajectory on clips with frames.json", "a clip, or a folder of clips"),
    "scannet": Benchmark("depth, poses and trajectory on ScanNet", "the folder of scans"),
    "scanqa": Benchmark("question answering on ScanQA", "the annotations, ScanQA_v1.0_val.json", asks=True),
    "sqa3d": Benchmark(
        "situated question answering on SQA3D", "the questions, v1_balanced_questions_test_scannetv2.json", asks=True
    ),
}


def add_parsers(subparsers: Any) -> None:
    """Add one subcommand for each benchmark."""
    for name, benchmark in BENCHMARKS.items():
        parser = command.add_benchmark(subparsers, name, benchmark.about, benchmark.data)
        add_scene_arguments(parser, scans=benchmark.asks, scannet=benchmark.asks or name == "scannet")
        if name == "scanqa":
            add_dialects(parser, MODELS_DIALECTS, "leo, chatscene")
        parser.set_defaults(run=run)


def add_scene_arguments(parser: argparse.ArgumentParser, scans: bool, scannet: bool) -> None:
    """Add which frames of which scenes; ``scans``: --data holds annotations only, ``scannet``: they are ScanNet's."""
    parser.add_argument("--frames", type=int, metavar="N", help="frames in a window (default: the checkpoint's)")
    if scans:
        parser.add_argument("--scans", type=Path, required=True, metavar="DIR", help="the folder of ScanNet scans")
    if scannet:
        parser.add_argument("--list", type=Path, metavar="FILE", help="scans of a split, such as scannetv2_val.txt")
        parser.add_argument(
            "--exported", type=Path, metavar="DIR", help="frames of the scans, where they lie apart from --scans"
        )


def add_dialects(parser: argparse.ArgumentParser, default: str, others: str) -> None:
    """Add the choice of dialects."""
    parser.add_argument(
        "--dialects", default=default, help=f"ways to score, separated by commas ({default}); others: {others}"
    )


def open_scenes(arguments: argparse.Namespace, config: VidLLMConfig) -> SceneSource:
    """The source that ``--data`` and its companions name, with windows of ``--frames``."""
    from vidllm_ros.training.data import open_data
    from vidllm_ros.training.data.scannet.scenes import SceneSource

    if arguments.frames:
        config = replace(config, window_size=arguments.frames)
    options = {"scans": "scans", "list": "list", "frames": "exported"}
    given = {key: getattr(arguments, name, None) for key, name in options.items()}
    specification = f"{arguments.name}:{arguments.data}"
    specification += "".join(f",{key}={value}" for key, value in given.items() if value is not None)
    source = open_data(specification, config)
    if not isinstance(source, SceneSource):
        raise EvaluationError(f"{specification} is no list of scenes.")
    return source


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from vidllm_ros.evaluation.benchmarks import windows as window_benchmarks
    from vidllm_ros.evaluation.metrics.dialects import dialect

    name = arguments.name
    dialects = arguments.dialects.split(",") if name == "scanqa" else []
    for one in dialects:
        dialect(one)  # a wrong name is told before hours of work
    model = command.load_model(arguments)
    source = open_scenes(arguments, model.config)
    annotated = source.annotated
    settings = {"data": source.name, "frames": arguments.frames or model.config.window_size}

    def load(scene: str) -> EvaluatedWindow:
        return asked_window(annotated(scene)) if annotated else window_of(source.load(scene))

    def report(rows: command.Rows, settings: dict[str, Any]) -> Any:
        if name == "scanqa":
            return window_benchmarks.scanqa_report(rows, settings, dialects)
        if name == "sqa3d":
            return window_benchmarks.sqa3d_report(rows, settings)
        return window_benchmarks.geometry_report(name, rows, settings)

    score = window_benchmarks.questions(model) if annotated else window_benchmarks.geometry(model)
    return command.evaluate(arguments, settings, source.scenes, load, score, report)


def asked_window(scan: AnnotatedScan) -> EvaluatedWindow:
    """A scan with every question about it; a question's key is its scene and its number there."""
    from vidllm_ros.evaluation.benchmarks.benchmark import Question

    questions = []
    for k, asked in enumerate(scan.annotations):
        accepted, bare = (asked.answer, *asked.other_answers), asked.details.get("question", "")
        questions.append(Question(f"{scan.sample.name}#{k}", asked.question, accepted, bare))
    return window_of(scan.sample, tuple(questions))


def window_of(sample: Sample, questions: tuple[Question, ...] = ()) -> EvaluatedWindow:
    """A training sample as the benchmarks see it."""
    from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow
    from vidllm_ros.training.rooms import scene_from_world

    return EvaluatedWindow(
        name=sample.name,
        rgb=sample.rgb,
        depth=sample.depth,
        T_world_camera=sample.T_world_camera,
        T_scene_window=scene_from_world(sample.T_world_camera) @ sample.T_world_camera[0],
        questions=questions,
    )
