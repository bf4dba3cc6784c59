"""What a network makes of one held-out room, beside the truth and beside baselines that see nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch

from vidllm_ros.evaluation.metrics import depth as depth_metrics
from vidllm_ros.evaluation.metrics import poses as pose_metrics
from vidllm_ros.evaluation.metrics.grounding import oriented_box_iou, to_array
from vidllm_ros.evaluation.metrics.qa import clean_answer
from vidllm_ros.evaluation.metrics.reconstruction import cloud_metrics
from vidllm_ros.model import Box3D, VidLLM
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reasoning.boxes import box_from_vector, box_vectors
from vidllm_ros.perception.geometry.images import to_tensor
from vidllm_ros.training.losses.targets import unproject
from vidllm_ros.training.rooms import box_in_scene, room, scene_from_world, visible_boxes
from vidllm_ros.training.sample import Sample
from vidllm_ros.training.stages.adjusted_cameras import adjust_cameras

LOCATE_KIND = "locate"
# Constant depths in metres, the best of which is the baseline for depth.
CONSTANTS = np.linspace(0.3, 6.0, 115)
WrittenBox = tuple[str, float, list[float]]  # label, score, box vector


@dataclass
class RoomScores:
    """Scores of one room in values that JSON can hold; a list has one for each frame, pair, question or box.

    Those that begin with ``adjusted_`` are after bundle adjustment, which questions and boxes see too, as in the node.
    """

    abs_rel: list[float] = field(default_factory=list)
    delta1: list[float] = field(default_factory=list)
    constant: list[list[float]] = field(default_factory=list)  # AbsRel of each of ``CONSTANTS``
    rotation_still: list[float] = field(default_factory=list)
    translation: list[float] = field(default_factory=list)
    translation_still: list[float] = field(default_factory=list)
    pair_rotation: list[float] = field(default_factory=list)
    pair_translation: list[float] = field(default_factory=list)
    scale_error: list[float] = field(default_factory=list)
    f_score: list[float] = field(default_factory=list)
    adjusted_abs_rel: list[float] = field(default_factory=list)
    adjusted_scale_error: list[float] = field(default_factory=list)
    adjusted_translation: list[float] = field(default_factory=list)
    adjusted_pair_rotation: list[float] = field(default_factory=list)
    adjusted_pair_translation: list[float] = field(default_factory=list)
    adjusted_f_score: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    correct: list[float] = field(default_factory=list)
    correct_blind: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    iou_random: list[float] = field(default_factory=list)
    located: list[WrittenBox] = field(default_factory=list)
    true_boxes: list[WrittenBox] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def pairs(self) -> pose_metrics.PairErrors:
        """Errors of all pairs of views."""
        return pose_metrics.PairErrors(np.array(self.pair_rotation), np.array(self.pair_translation))

    @property
    def adjusted_pairs(self) -> pose_metrics.PairErrors:
        """The same after bundle adjustment."""
        return pose_metrics.PairErrors(np.array(self.adjusted_pair_rotation), np.array(self.adjusted_pair_translation))


def write_boxes(boxes: Sequence[Box3D]) -> list[WrittenBox]:
    """Boxes as JSON can hold them."""
    return [
        (box.label, float(box.score), vector.tolist()) for box, vector in zip(boxes, box_vectors(boxes), strict=True)
    ]


def read_boxes(boxes: Sequence[WrittenBox]) -> list[Box3D]:
    """Boxes as ``write_boxes`` gave them."""
    return [box_from_vector(np.array(vector), label, score) for label, score, vector in boxes]


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
    adjusted = adjust_cameras(output, [sample.rgb])
    prefix = model.read_scene(model.build_scene(adjusted, T_scene_world @ sample.T_world_camera[0]))
    scores.seconds = time.monotonic() - started
    _score_geometry(scores, output, adjusted, sample)
    blind = model.language.read_scene(prefix.scene, blind=True)
    for task in sample.tasks:
        if task.kind == LOCATE_KIND:
            continue
        scores.kinds.append(task.kind)
        for scene, results in ((prefix, scores.correct), (blind, scores.correct_blind)):
            reply = model.language.generate(scene, task.question, max_new_tokens).text
            results.append(float(clean_answer(reply) == clean_answer(task.answer)))
    _score_boxes(scores, model, prefix, sample, T_scene_world, sizes)
    return scores


def _score_geometry(scores: RoomScores, output: GeometryOutput, adjusted: GeometryOutput, sample: Sample) -> None:
    errors = _depth_errors(output, sample)
    scores.abs_rel, scores.delta1 = [e.abs_rel for e in errors], [e.delta1 for e in errors]
    scores.adjusted_abs_rel = [e.abs_rel for e in _depth_errors(adjusted, sample)]
    scores.constant = [_constant_errors(truth[truth > 0]) for truth in sample.depth]
    scores.scale_error = [_scale_error(output, sample)]
    scores.adjusted_scale_error = [_scale_error(adjusted, sample)]
    known = sample.depth > 0
    truth = np.linalg.inv(sample.T_world_camera) @ sample.T_world_camera[:1]
    surface = unproject(*(torch.from_numpy(x).double() for x in (sample.depth, sample.intrinsics, truth[:, :3])))
    visible = surface.numpy()[known]
    pairs, scores.translation, scores.f_score = _score_cameras(output, truth, visible)
    scores.pair_rotation, scores.pair_translation = pairs
    pairs, scores.adjusted_translation, scores.adjusted_f_score = _score_cameras(adjusted, truth, visible)
    scores.adjusted_pair_rotation, scores.adjusted_pair_translation = pairs
    still = np.tile(np.eye(4), (len(truth), 1, 1))
    scores.rotation_still = pose_metrics.relative_pose_errors(still, truth).rotation.tolist()
    scores.translation_still = _distances(still, truth)


def _depth_errors(output: GeometryOutput, sample: Sample) -> list[depth_metrics.DepthErrors]:
    """Of each frame."""
    frames = zip(output.depth[0].numpy(), sample.depth, strict=True)
    return [depth_metrics.metrics(predicted, truth, crop=None) for predicted, truth in frames]


def _scale_error(output: GeometryOutput, sample: Sample) -> float:
    """How far the median ratio of predicted and true depth is from 1."""
    known = sample.depth > 0
    return abs(float(np.median(output.depth[0].numpy()[known] / sample.depth[known])) - 1)


def _score_cameras(
    output: GeometryOutput, truth: np.ndarray, visible: np.ndarray
) -> tuple[tuple[list[float], list[float]], list[float], list[float]]:
    """Errors of pairs (rotation, translation), distances of the cameras from the truth, F-score of the points.

    Args:
        output: with the cameras to score.
        truth: world-to-camera poses [S, 4, 4].
        visible: points [P, 3] of the true surface.
    """
    poses = output.camera_from_world[0].double().numpy()
    pairs = pose_metrics.relative_pose_errors(poses, truth)
    cloud = unproject(output.depth[0], output.intrinsics[0], output.camera_from_world[0]).numpy().reshape(-1, 3)
    errors = cloud_metrics(cloud, visible)
    f_score = float(np.nan_to_num(errors.f_score))  # not a number where no point is near any other
    return (pairs.rotation.round(3).tolist(), pairs.translation.round(3).tolist()), _distances(poses, truth), [f_score]


def _distances(poses: np.ndarray, truth: np.ndarray) -> list[float]:
    """Of the camera centres after the first one, by world-to-camera poses [S, 3 or 4, 4]; metres."""
    centres = [-np.einsum("sji,sj->si", p[:, :3, :3], p[:, :3, 3]) for p in (poses, truth)]
    return np.linalg.norm(centres[0] - centres[1], axis=1)[1:].tolist()


def _constant_errors(depths: np.ndarray) -> list[float]:
    """AbsRel of each of ``CONSTANTS`` on known depths [P]."""
    inverse = 1 / depths[:: max(1, len(depths) // 2000)]
    return [round(float(np.mean(np.abs(c * inverse - 1))), 5) for c in CONSTANTS]


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
    scores.located, scores.true_boxes = write_boxes(found), write_boxes(true)
