"""``vidllm evaluate tum | clips | scannet | scanqa | sqa3d``: a checkpoint on data that the training sources read."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidllm_ros.evaluation.errors import EvaluationError

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
        parser = subparsers.add_parser(
            name,
            help=benchmark.about,
            description=f"Score a checkpoint: {benchmark.about}. One window of frames for each scene. Results are kept "
            "scene by scene in results.jsonl, and a run with the same --out continues where the last one ended.",
        )
        parser.add_argument("--data", type=Path, required=True, metavar="PATH", help=benchmark.data)
        parser.add_argument("--checkpoint", type=Path, help="checkpoint folder; the bundled nano when not given")
        parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to write (default: evaluate_{name})")
        parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
        parser.add_argument("--frames", type=int, metavar="N", help="frames in a window (default: the checkpoint's)")
        parser.add_argument("--limit-scenes", type=int, metavar="N", help="evaluate the first N scenes only")
        parser.add_argument(
            "--shard",
            type=_shard,
            default=(0, 1),
            metavar="K/N",
            help="every N-th scene from the K-th on, counted from 0; give each shard an --out of its own",
        )
        if benchmark.asks:
            parser.add_argument("--scans", type=Path, required=True, metavar="DIR", help="the folder of ScanNet scans")
        if name == "scanqa":
            parser.add_argument(
                "--dialects",
                default=MODELS_DIALECTS,
                help=f"ways to score, separated by commas ({MODELS_DIALECTS}); others: leo, chatscene",
            )
        parser.set_defaults(run=run, name=name)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from dataclasses import replace

    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.evaluation import benchmark, window_benchmarks
    from vidllm_ros.evaluation.dialects import dialect
    from vidllm_ros.model import VidLLM
    from vidllm_ros.training.data import open_data
    from vidllm_ros.training.data.scenes import SceneSource

    asks = BENCHMARKS[arguments.name].asks
    dialects = arguments.dialects.split(",") if arguments.name == "scanqa" else []
    for name in dialects:
        dialect(name)  # a wrong name is told before hours of work
    checkpoint, out = arguments.checkpoint or NANO, arguments.out or Path(f"evaluate_{arguments.name}")
    model = VidLLM.from_pretrained(checkpoint, device=arguments.device)
    config = replace(model.config, window_size=arguments.frames) if arguments.frames else model.config
    specification = f"{arguments.name}:{arguments.data}" + (f",scans={arguments.scans}" if asks else "")
    source = open_data(specification, config)
    if not isinstance(source, SceneSource):
        raise EvaluationError(f"{specification} is no list of scenes.")
    settings = {"checkpoint": str(checkpoint), "data": specification, "frames": config.window_size}
    benchmark.same_run(out, settings)
    scenes = source.scenes[: arguments.limit_scenes]
    evaluate = window_benchmarks.questions(model) if asks else window_benchmarks.geometry(model)
    bare = bare_questions(arguments.data) if arguments.name == "sqa3d" else frozenset()
    rows = benchmark.run(scenes, lambda scene: window_of(source.load(scene), bare), evaluate, out, arguments.shard)
    if arguments.name == "scanqa":
        report = window_benchmarks.scanqa_report(rows, settings, dialects)
    elif arguments.name == "sqa3d":
        report = window_benchmarks.sqa3d_report(rows, settings)
    else:
        report = window_benchmarks.geometry_report(arguments.name, rows, settings)
    report.write(out)
    print(report.table())
    print(f"written to {out}")
    return 0


def bare_questions(path: Path) -> frozenset[str]:
    """The questions of SQA3D's file without their situations: their beginnings decide their kinds."""
    from vidllm_ros.training.data.annotations import read_json

    return frozenset(str(row["question"]).strip() for row in read_json(path)["questions"])


def without_situation(text: str, questions: frozenset[str]) -> str:
    """The longest of the ``questions`` that ``text`` ends with; empty when there is none."""
    words = text.split(" ")
    return next((rest for k in range(len(words)) if (rest := " ".join(words[k:])) in questions), "")


def window_of(sample: Any, bare: frozenset[str] = frozenset()) -> Any:
    """A training sample as the benchmarks see it; a question's key is its scene and its number there."""
    from vidllm_ros.evaluation.benchmark import EvaluatedWindow, Question
    from vidllm_ros.training.rooms import scene_from_world

    questions = (
        Question(
            f"{sample.name}#{k}",
            task.question,
            (task.answer, *task.other_answers),
            without_situation(task.question, bare),
        )
        for k, task in enumerate(sample.tasks)
    )
    return EvaluatedWindow(
        name=sample.name,
        rgb=sample.rgb,
        depth=sample.depth,
        T_world_camera=sample.T_world_camera,
        T_scene_window=scene_from_world(sample.T_world_camera) @ sample.T_world_camera[0],
        questions=tuple(questions),
    )


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K/N, such as 0/4")
    return int(match[1]), int(match[2])
