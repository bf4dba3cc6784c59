"""``vidllm evaluate scan2cap | scanrefer | multi3drefer | nr3d | sr3d``: a checkpoint on objects that words mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidllm_ros.evaluation.benchmarks import command
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.training.evaluate.data import add_dialects, add_scene_arguments, open_scenes, window_of

if TYPE_CHECKING:
    from vidllm_ros.evaluation.benchmarks.candidates import Reference, ReferredScene
    from vidllm_ros.training.data.scannet.annotations import AnnotatedScan

ABOUT = {
    "scan2cap": ("captions of objects on Scan2Cap", "ScanRefer's annotations, ScanRefer_filtered_val.json"),
    "scanrefer": ("visual grounding on ScanRefer", "the annotations, ScanRefer_filtered_val.json"),
    "multi3drefer": ("visual grounding on Multi3DRefer", "the annotations, multi3drefer_val.json"),
    "nr3d": ("choice of an annotated object on Nr3D", "the utterances, nr3d.csv; give the --list of a split"),
    "sr3d": ("choice of an annotated object on Sr3D", "the utterances, sr3d.csv; give the --list of a split"),
}
AMONG_OBJECTS = ("nr3d", "sr3d")
CAPTION_DIALECTS = "scan2cap,video3dllm"


def add_parsers(subparsers: Any) -> None:
    """Add one subcommand for each benchmark."""
    for name, (about, data) in ABOUT.items():
        parser = command.add_benchmark(subparsers, name, about, data)
        add_scene_arguments(parser, scans=True, scannet=True)
        if name not in AMONG_OBJECTS:
            parser.add_argument(
                "--proposals", type=Path, metavar="DIR", help="Mask3D's instances, SCENE.mask.npz (LEO's archive)"
            )
        if name == "scan2cap":
            add_dialects(parser, CAPTION_DIALECTS, "leo, chatscene")
        else:
            parser.add_argument(
                "--boxes",
                choices=("nearest", "scored") if name in AMONG_OBJECTS else ("own", "nearest", "scored"),
                help="own: what the network draws (default without --proposals); nearest: the given instance that its "
                "box overlaps most (default otherwise); scored: by the network's proposal head",
            )
        if name == "scanrefer":
            parser.add_argument(
                "--labels", type=Path, metavar="FILE", help="scannetv2-labels.combined.tsv, for unique and multiple"
            )
        if name == "multi3drefer":
            parser.add_argument("--min-score", type=float, default=0.5, help="of a box of the network's own (0.5)")
        parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from vidllm_ros.evaluation.benchmarks import referring as benchmarks
    from vidllm_ros.evaluation.benchmarks import scannet
    from vidllm_ros.evaluation.metrics.dialects import caption_dialect
    from vidllm_ros.training.data.scannet.scan2cap import QUESTION

    name = arguments.name
    proposals = getattr(arguments, "proposals", None)
    settings: dict[str, Any] = {} if name in AMONG_OBJECTS else {"proposals": str(proposals) if proposals else None}
    dialects = arguments.dialects.split(",") if name == "scan2cap" else []
    for one in dialects:
        caption_dialect(one)  # a wrong name is told before hours of work
    classes = scannet.read_class_table(arguments.labels) if getattr(arguments, "labels", None) else None
    if name != "scan2cap":
        settings["boxes"] = _way(arguments)
    if name == "multi3drefer":
        settings["min_score"] = arguments.min_score
    model = command.load_model(arguments)
    source = open_scenes(arguments, model.config)
    assert source.annotated is not None
    annotated = source.annotated
    settings = {"data": source.name, "frames": arguments.frames or model.config.window_size, **settings}

    def load(scene: str) -> ReferredScene:
        return referred_scene(annotated(scene), scene, proposals, by_object=name == "scan2cap")

    def report(rows: command.Rows, settings: dict[str, Any]) -> Any:
        if name == "scan2cap":
            return benchmarks.scan2cap_report(rows, settings, dialects)
        if name == "scanrefer":
            return benchmarks.scanrefer_report(rows, settings, classes)
        if name == "multi3drefer":
            return benchmarks.multi3drefer_report(rows, settings)
        return benchmarks.referit3d_report(name, rows, settings)

    if name == "scan2cap":
        score = benchmarks.object_captions(model, QUESTION)
    else:
        several = name == "multi3drefer"
        least = arguments.min_score if several else 0.0
        score = benchmarks.references(model, settings["boxes"], several, name in AMONG_OBJECTS, least)
    return command.evaluate(arguments, settings, source.scenes, load, score, report)


def referred_scene(scan: AnnotatedScan, scene: str, proposals: Path | None, by_object: bool) -> ReferredScene:
    """A scan as the benchmarks see it.

    Args:
        scan: with objects and annotations.
        scene: its name.
        proposals: folder of Mask3D's instances.
        by_object: one reference for each object with all its descriptions, as Scan2Cap scores them; else one for each
            annotation.
    """
    import numpy as np

    from vidllm_ros.evaluation.benchmarks.candidates import ReferredScene
    from vidllm_ros.training.data.scannet.mask3d import read_proposals
    from vidllm_ros.training.rooms import scene_from_world

    assert scan.objects is not None
    boxes = scan.objects.boxes
    objects = {n: np.concatenate([boxes[k].center, boxes[k].size]) for n, k in scan.objects.index.items()}
    known = [(k, one) for k, one in enumerate(scan.annotations) if set(one.objects) <= set(objects)]
    make = _by_object if by_object else _by_annotation
    return ReferredScene(
        window=window_of(scan.sample),
        T_world_scene=np.linalg.inv(scene_from_world(scan.sample.T_world_camera)),
        objects=objects,
        references=make(scene, known),
        proposals=read_proposals(proposals, scene, scan.objects.vertices) if proposals else None,
        left_out=len(scan.annotations) - len(known),
    )


def _by_annotation(scene: str, known: list[tuple[int, Any]]) -> tuple[Reference, ...]:
    from vidllm_ros.evaluation.benchmarks.candidates import Reference

    made = []
    for k, one in known:
        details = {key: value for key, value in one.details.items() if key != "phrase"}
        made.append(Reference(f"{scene}#{k}", one.details["phrase"], one.objects, details))
    return tuple(made)


def _by_object(scene: str, known: list[tuple[int, Any]]) -> tuple[Reference, ...]:
    """One for each object and name of it, the key of the published scripts."""
    from vidllm_ros.evaluation.benchmarks.candidates import Reference

    gathered: dict[str, Reference] = {}
    for _, one in known:
        key = f"{scene}|{one.objects[0]}|{one.details.get('object_name', '')}"
        made = gathered.setdefault(key, Reference(key, "", one.objects, {"descriptions": [], "tokens": []}))
        made.details["descriptions"].append(one.answer)
        made.details["tokens"].append(one.details.get("token") or one.answer.split())
    return tuple(gathered.values())


def _way(arguments: argparse.Namespace) -> str:
    """How boxes are chosen; refused where candidates lack."""
    if arguments.name in AMONG_OBJECTS:
        return arguments.boxes or "nearest"
    way = arguments.boxes or ("nearest" if arguments.proposals else "own")
    if way != "own" and arguments.proposals is None:
        raise EvaluationError(f"--boxes {way} chooses among given instances: name their folder with --proposals.")
    return way
