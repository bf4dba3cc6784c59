"""Held-out rooms: the network against baselines that see nothing, with confidence intervals over rooms."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from vidllm_ros.evaluation import depth as depth_metrics
from vidllm_ros.evaluation import poses as pose_metrics
from vidllm_ros.evaluation.grounding import mean_average_precision, oriented_box_iou, to_array
from vidllm_ros.evaluation.intervals import Interval, bootstrap, bootstrap_difference
from vidllm_ros.evaluation.qa import clean_answer
from vidllm_ros.evaluation.reconstruction import cloud_metrics
from vidllm_ros.model import Box3D, VidLLM
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.perception.images import to_tensor
from vidllm_ros.training.geometry_targets import unproject
from vidllm_ros.training.rooms import box_in_scene, room, room_sample, scene_from_world, visible_boxes
from vidllm_ros.training.sample import Sample

# Kinds whose answer is a word or a short phrase; descriptions and coordinates are reported beside them.
QUESTION_KINDS = ("count", "existence", "colour", "size", "distance", "relation", "location")
LOCATE_KIND = "locate"


@dataclass
class RoomScores:
    """Scores of one room; each list holds one number per frame, pair, question or box."""

    abs_rel: list[float] = field(default_factory=list)
    delta1: list[float] = field(default_factory=list)
    true_depths: list[np.ndarray] = field(default_factory=list)
    rotation: list[float] = field(default_factory=list)
    rotation_still: list[float] = field(default_factory=list)
    translation: list[float] = field(default_factory=list)
    translation_still: list[float] = field(default_factory=list)
    pairs: pose_metrics.PairErrors | None = None
    scale_error: list[float] = field(default_factory=list)
    f_score: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    correct: list[float] = field(default_factory=list)
    correct_blind: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    iou_random: list[float] = field(default_factory=list)
    located: list[Box3D] = field(default_factory=list)
    true_boxes: list[Box3D] = field(default_factory=list)
    seconds: float = 0.0


@cache
def mean_sizes(rooms: int = 200) -> dict[str, np.ndarray]:
    """Mean box size of each class over training rooms, [3] metres."""
    sizes: dict[str, list[np.ndarray]] = {}
    for seed in range(rooms):
        for thing in room(seed, "train").objects:
            sizes.setdefault(thing.box.label, []).append(np.asarray(thing.box.size))
    return {label: np.mean(values, axis=0) for label, values in sizes.items()}


def best_ious(predicted: Sequence[Box3D], truth: Sequence[Box3D]) -> list[float]:
    """For each true box the oriented IoU with its partner in the greedy one-to-one matching; 0 without one."""
    result = [0.0] * len(truth)
    if not predicted or not truth:
        return result
    iou = oriented_box_iou(to_array(predicted), to_array(truth))
    while iou.max() > 0:
        i, j = np.unravel_index(np.argmax(iou), iou.shape)
        result[int(j)] = float(iou[i, j])
        iou[i, :], iou[:, j] = 0, 0
    return result


def random_boxes(
    count: int, size: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> list[Box3D]:
    """Boxes of a class's mean size, standing somewhere on the floor of the scene, turned somehow."""
    boxes = []
    for _ in range(count):
        center = rng.uniform(*bounds)
        center[2] = bounds[0][2] + size[2] / 2
        yaw = rng.uniform(0, np.pi)
        c, s = np.cos(yaw), np.sin(yaw)
        boxes.append(Box3D(center, size, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])))
    return boxes


def score_room(model: VidLLM, sample: Sample, sizes: dict[str, np.ndarray], max_new_tokens: int = 32) -> RoomScores:
    """Run one window through the network and compare it with the truth."""
    scores = RoomScores()
    started = time.monotonic()
    images = to_tensor(list(sample.rgb), model.device)[None]
    output = model.reconstruct(images)
    T_scene_world = scene_from_world(sample.T_world_camera)
    prefix = model.read_scene(model.build_scene(output, T_scene_world @ sample.T_world_camera[0]))
    scores.seconds = time.monotonic() - started
    _score_geometry(scores, output, sample)
    blind = model.language.read_scene(prefix.scene, blind=True)
    for task in sample.tasks:
        if task.kind == LOCATE_KIND:
            continue
        scores.kinds.append(task.kind)
        for read, results in ((prefix, scores.correct), (blind, scores.correct_blind)):
            reply = model.language.generate(read, task.question, max_new_tokens).text
            results.append(float(clean_answer(reply) == clean_answer(task.answer)))
    _score_boxes(scores, model, prefix, sample, T_scene_world, sizes)
    return scores


def _score_geometry(scores: RoomScores, output: GeometryOutput, sample: Sample) -> None:
    depth, poses = output.depth[0].numpy(), output.camera_from_world[0].double().numpy()
    for predicted, truth in zip(depth, sample.depth, strict=True):
        errors = depth_metrics.metrics(predicted, truth, crop=None)
        scores.abs_rel.append(errors.abs_rel)
        scores.delta1.append(errors.delta1)
        scores.true_depths.append(truth[truth > 0])
    known = sample.depth > 0
    scores.scale_error.append(abs(float(np.median(depth[known] / sample.depth[known])) - 1))
    truth = np.linalg.inv(sample.T_world_camera) @ sample.T_world_camera[:1]
    scores.pairs = pose_metrics.relative_pose_errors(poses, truth)
    still = pose_metrics.relative_pose_errors(np.tile(np.eye(4), (len(truth), 1, 1)), truth)
    scores.rotation, scores.rotation_still = scores.pairs.rotation.tolist(), still.rotation.tolist()
    cloud = unproject(output.depth[0], output.intrinsics[0], output.camera_from_world[0]).numpy().reshape(-1, 3)
    surface = unproject(*(torch.from_numpy(x).double() for x in (sample.depth, sample.intrinsics, truth[:, :3])))
    errors = cloud_metrics(cloud, surface.numpy()[known])
    scores.f_score = [float(np.nan_to_num(errors.f_score))]  # not a number where no point is near any other
    centres = [-np.einsum("sji,sj->si", p[:, :3, :3], p[:, :3, 3]) for p in (poses, truth)]
    scores.translation = np.linalg.norm(centres[0] - centres[1], axis=1)[1:].tolist()
    scores.translation_still = np.linalg.norm(centres[1], axis=1)[1:].tolist()


def _score_boxes(scores, model, prefix, sample, T_scene_world, sizes) -> None:  # type: ignore[no-untyped-def]
    true = [box_in_scene(sample.boxes[i], T_scene_world) for i in visible_boxes(sample)]
    labels = sorted({box.label for box in true})
    rng = np.random.default_rng(0)
    corners = np.concatenate([box.corners() for box in true]) if true else np.zeros((1, 3))
    bounds = (corners.min(axis=0), corners.max(axis=0))
    found = model.locate(prefix, labels, min_score=0.0) if labels else []
    for label in labels:
        wanted = [box for box in true if box.label == label]
        # As many boxes as there are objects, so that neither side gains by guessing often.
        best = sorted((box for box in found if box.label == label), key=lambda box: -box.score)
        scores.iou += best_ious(best[: len(wanted)], wanted)
        scores.iou_random += best_ious(random_boxes(len(wanted), sizes[label], bounds, rng), wanted)
    scores.located += found
    scores.true_boxes += true


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is measured, with its unit.
        value: the network.
        baseline: the same for the baseline; None where there is none.
        baseline_name: what the baseline is.
        difference: network minus baseline, item by item; the network is better where it lies clear of 0 on the good
            side.
    """

    name: str
    value: Interval
    baseline: Interval | None = None
    baseline_name: str = ""
    difference: Interval | None = None


def summarize(rooms: list[RoomScores]) -> list[Row]:
    """The table."""
    constant = best_constant([frame for room in rooms for frame in room.true_depths])
    constant_errors = [[float(np.mean(np.abs(constant - d) / d)) for d in room.true_depths] for room in rooms]

    def row(name: str, values: list[list[float]], baseline: list[list[float]] | None = None, label: str = "") -> Row:
        if baseline is None:
            return Row(name, bootstrap(values))
        return Row(name, bootstrap(values), bootstrap(baseline), label, bootstrap_difference(values, baseline))

    def of_kinds(kinds: tuple[str, ...], results: str) -> list[list[float]]:
        return [
            [value for kind, value in zip(room.kinds, getattr(room, results), strict=True) if kind in kinds]
            for room in rooms
        ]

    def hits(ious: str, threshold: float) -> list[list[float]]:
        return [[float(value >= threshold) for value in getattr(room, ious)] for room in rooms]

    rows = [
        row("depth AbsRel", [r.abs_rel for r in rooms], constant_errors, f"best constant depth, {constant:.2f} m"),
        row("depth delta1", [r.delta1 for r in rooms]),
        row(
            "rotation error of a pair, degrees",
            [r.rotation for r in rooms],
            [r.rotation_still for r in rooms],
            "no motion",
        ),
        row("translation error, m", [r.translation for r in rooms], [r.translation_still for r in rooms], "no motion"),
        row("scale error of a window", [r.scale_error for r in rooms]),
        row("F-score of a window's points at 5 cm", [r.f_score for r in rooms]),
        row(
            "question exact match",
            of_kinds(QUESTION_KINDS, "correct"),
            of_kinds(QUESTION_KINDS, "correct_blind"),
            "same model, visual tokens blanked",
        ),
        row("box Acc@0.25", hits("iou", 0.25), hits("iou_random", 0.25), "random boxes of the mean size"),
        row("box mean IoU", [r.iou for r in rooms], [r.iou_random for r in rooms], "random boxes of the mean size"),
        row("box Acc@0.5", hits("iou", 0.5), hits("iou_random", 0.5), "random boxes of the mean size"),
    ]
    for kind in sorted({kind for scores in rooms for kind in scores.kinds}):
        rows.append(
            row(f"exact match: {kind}", of_kinds((kind,), "correct"), of_kinds((kind,), "correct_blind"), "blanked")
        )
    return rows


def best_constant(frames: list[np.ndarray]) -> float:
    """The constant depth in metres with the least mean AbsRel on these very frames: a baseline that may peek."""
    candidates = np.linspace(0.3, 6.0, 115)
    thinned = [frame[:: max(1, len(frame) // 500)] for frame in frames]
    errors = [np.mean([np.mean(np.abs(c - d) / d) for d in thinned]) for c in candidates]
    return float(candidates[int(np.argmin(errors))])


def evaluate_rooms(
    model: VidLLM, rooms: int = 50, frames: int = 32, first_seed: int = 0, split: str = "test", tasks: int = 24
) -> tuple[list[Row], dict[str, float]]:
    """Evaluate on held-out rooms.

    Returns:
        The table, and further figures without an interval: pose accuracies, mAP, seconds per window.
    """
    sizes = mean_sizes()
    scores = []
    for index in range(rooms):
        sample = room_sample(first_seed + index, split, frames=frames, image_size=model.config.image_size, tasks=tasks)
        scores.append(score_room(model, sample, sizes))
        print(f"\rroom {index + 1} of {rooms}", end="", flush=True)
    print()
    further = pose_metrics.summary([room.pairs for room in scores if room.pairs is not None])
    located = mean_average_precision([room.located for room in scores], [room.true_boxes for room in scores])
    further["mAP@0.25"] = located["mAP"]
    further["seconds per window"] = float(np.median([room.seconds for room in scores]))
    return summarize(scores), further


def table(rows: list[Row], further: dict[str, float]) -> str:
    """The results as text for a terminal or a Markdown page."""
    lines = [
        "| measure | network [95 % over rooms] | baseline | difference |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        baseline = f"{row.baseline} ({row.baseline_name})" if row.baseline else "-"
        lines.append(f"| {row.name} | {row.value} | {baseline} | {row.difference or '-'} |")
    lines += ["", *(f"{name}: {value:.3f}" for name, value in further.items())]
    return "\n".join(lines)


def write(rows: list[Row], further: dict[str, float], path: Path) -> None:
    """The results as JSON."""
    path.write_text(json.dumps({"rows": [asdict(row) for row in rows], "further": further}, indent=2) + "\n")
