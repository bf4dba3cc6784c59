"""A replay held against ground truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.limits import flat
from vidllm_ros.evaluation.metrics import (
    depth,
    grounding,
    qa,
    trajectory,
)
from vidllm_ros.evaluation.metrics.along_path import LengthError, PathErrors, errors_by_length, path_errors
from vidllm_ros.evaluation.metrics.reconstruction import CloudErrors, cloud_metrics
from vidllm_ros.evaluation.metrics.trajectory import Similarity
from vidllm_ros.evaluation.recordings.truth import GroundTruth
from vidllm_ros.evaluation.results import Replay
from vidllm_ros.evaluation.timing import Timing, timing
from vidllm_ros.model.outputs import Box3D
from vidllm_ros.perception.geometry.images import image_to_network


@dataclass(frozen=True)
class TrajectoryScores:
    """Errors of the camera's way.

    Attributes:
        poses: associated pairs.
        ate_se3: RMSE in metres after rotation and translation: metric scale counts.
        ate_sim3: RMSE in metres after a similarity: scale is forgiven.
        scale: metres of the truth per metre of the map, from the similarity; 1 is right.
        rpe_translation: RMSE in metres from frame to frame.
        rpe_rotation: RMSE in degrees from frame to frame.
        true_length: metres the camera really went.
        length: metres it went according to the map.
    """

    poses: int
    ate_se3: float
    ate_sim3: float
    scale: float
    rpe_translation: float
    rpe_rotation: float
    true_length: float
    length: float


@dataclass(frozen=True)
class BoxScore:
    """What was found of one true object.

    Attributes:
        label: of the true box.
        iou: of the best predicted box with that label, 0 when there is none.
        distance: metres between their centres, NaN when there is none.
        iou_any: of the best predicted box whatever its label.
    """

    label: str
    iou: float
    distance: float
    iou_any: float


@dataclass(frozen=True, eq=False)
class Scores:
    """All that could be compared, and in ``notes`` why the rest could not.

    Attributes:
        sources: where the truth came from.
        trajectory: errors of the camera's way.
        depth: mean errors over frames with true depth, at the node's resolution, metric.
        depth_fitted: the same after each image's median was fitted to the truth.
        depth_frames: how many frames.
        boxes: one entry for each true box.
        answers: exact match of the questions whose answer is known.
        map: the map against the true cloud, laid over it by ``world_from_map``; threshold 5 cm, voxels of 2 cm.
        timing: latencies and losses.
        path: errors pose by pose.
        lengths: relative errors by length of the way.
        world_from_map: the turn about z and shift that lay the map over the true world.
        notes: sentences.
    """

    sources: dict[str, str] = field(default_factory=dict)
    trajectory: TrajectoryScores | None = None
    depth: depth.DepthErrors | None = None
    depth_fitted: depth.DepthErrors | None = None
    depth_frames: int = 0
    boxes: tuple[BoxScore, ...] = ()
    answers: qa.MatchScores | None = None
    map: CloudErrors | None = None
    timing: Timing | None = None
    path: PathErrors | None = None
    lengths: tuple[LengthError, ...] = ()
    world_from_map: Similarity | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values; NaN becomes None."""
        rows: dict[str, Any] = {"sources": self.sources, "notes": list(self.notes)}
        for name in ("trajectory", "depth", "depth_fitted", "answers", "map", "timing"):
            if (value := getattr(self, name)) is not None:
                rows[name] = _plain(asdict(value))
        if self.depth is not None:
            rows["depth_frames"] = self.depth_frames
        if self.boxes:
            rows["boxes"] = [_plain(asdict(b)) for b in self.boxes]
            rows["boxes_found"] = {f"IoU>={t}": float(np.mean([b.iou >= t for b in self.boxes])) for t in (0.25, 0.5)}
        if self.lengths:
            rows["errors_by_length"] = [_plain(asdict(row)) for row in self.lengths]
        return rows

    def figures(self) -> dict[str, float | None]:
        """Every single number by dotted name, such as ``trajectory.ate_se3``; None where it is not known."""
        return dict.fromkeys(figure_names()) | flat(self.to_json())


def figure_names() -> list[str]:
    """The names of ``Scores.figures`` that every evaluation has."""
    nan = float("nan")
    everything = Scores(
        trajectory=TrajectoryScores(0, *[nan] * 7),
        depth=depth.DepthErrors(*[nan] * 6, pixels=0),
        depth_fitted=depth.DepthErrors(*[nan] * 6, pixels=0),
        boxes=(BoxScore("", nan, nan, nan),),
        answers=qa.MatchScores(nan, nan, {}),
        map=CloudErrors(*[nan] * 5),
        timing=Timing(),
    )
    return list(flat(everything.to_json()))


def score(replay: Replay, truth: GroundTruth) -> Scores:
    """Compare everything that both sides have."""
    notes: list[str] = []
    result = Scores(sources=dict(truth.sources), timing=timing(replay))
    if len(truth.stamps_ns):
        i, j = trajectory.associate(replay.stamps_ns, truth.stamps_ns)
        if len(i):
            ours, true = replay.T_map_camera[i], truth.T_world_camera[j]
            result = replace(result, world_from_map=trajectory.align_level(ours, true))
            try:
                result = replace(
                    result,
                    trajectory=_trajectory(ours, true),
                    path=path_errors(replay.stamps_ns[i], ours, true),
                    lengths=errors_by_length(ours, true),
                )
            except EvaluationError as error:
                notes.append(f"Trajectory not scored: {error}")
        else:
            notes.append("Trajectory not scored: no pose lies within 0.01 s of a true one.")
    if truth.depth:
        result = replace(result, **_depth(replay, truth, notes))
    if truth.cloud is not None and len(replay.points):
        result = replace(result, map=_map(replay, truth, result.world_from_map, notes))
    if truth.boxes:
        if result.world_from_map is None:
            notes.append("Boxes not scored: without true poses the map cannot be laid over the true world.")
        else:
            found = [move(box, result.world_from_map) for box in all_boxes(replay)]
            try:
                result = replace(result, boxes=_boxes(found, truth.boxes))
            except EvaluationError as error:
                notes.append(f"Boxes not scored: {error}")
    asked = {a.question: a.answer for a in replay.asked if a.question in truth.answers}
    if asked:
        result = replace(result, answers=qa.exact_match(asked, {q: truth.answers[q] for q in asked}))
    return replace(result, notes=tuple(notes))


def all_boxes(replay: Replay) -> tuple[Box3D, ...]:
    """Boxes of the labels and of the answers."""
    return (*replay.boxes, *(box for asked in replay.asked for box in asked.boxes))


def move(box: Box3D, similarity: Similarity) -> Box3D:
    """A box in another world; scale is not applied."""
    return replace(
        box,
        center=similarity.rotation @ np.asarray(box.center) + similarity.translation,
        rotation=similarity.rotation @ np.asarray(box.rotation),
    )


def _trajectory(ours: np.ndarray, true: np.ndarray) -> TrajectoryScores:
    sim3 = trajectory.ate(ours, true, "sim3")
    relative = trajectory.rpe(ours, true, "se3") if len(ours) > 1 else None
    return TrajectoryScores(
        poses=len(ours),
        ate_se3=trajectory.ate(ours, true, "se3").rmse,
        ate_sim3=sim3.rmse,
        scale=sim3.alignment.scale,
        rpe_translation=relative.translation.rmse if relative else float("nan"),
        rpe_rotation=relative.rotation.rmse if relative else float("nan"),
        true_length=_length(true),
        length=_length(ours),
    )


def _length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


def _depth(replay: Replay, truth: GroundTruth, notes: list[str]) -> dict[str, Any]:
    raw, fitted = [], []
    for stamp, predicted in replay.depth.items():
        if stamp not in truth.depth:
            continue
        true = truth.depth[stamp]()
        sampled = np.where(np.isfinite(predicted), seen_by_network(true, predicted.shape), 0.0)
        raw.append(depth.metrics(predicted, sampled, crop=None))
        fitted.append(depth.metrics(predicted, sampled, crop=None, align="median"))
    if not any(errors.pixels for errors in raw):
        problem = "no pixel has both" if raw else "the node sent no depth of a frame whose true depth is known"
        notes.append(f"Depth not scored: {problem}.")
        return {}
    return {
        "depth": depth.summary(raw),
        "depth_fitted": depth.summary(fitted),
        "depth_frames": sum(errors.pixels > 0 for errors in raw),
    }


def seen_by_network(true: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A true depth image [H, W] at the network's pixels, ``size`` (height, width).

    The nearest neighbour is taken, so that no depth is invented across edges.
    """
    u, v = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(image_to_network(true.shape, size)).T
    columns = np.round(pixels[..., 0]).astype(int).clip(0, true.shape[1] - 1)
    rows = np.round(pixels[..., 1]).astype(int).clip(0, true.shape[0] - 1)
    return np.nan_to_num(true[rows, columns])


def _map(replay: Replay, truth: GroundTruth, world_from_map: Similarity | None, notes: list[str]) -> CloudErrors | None:
    assert truth.cloud is not None
    if world_from_map is None:
        notes.append("Map not scored: without true poses the map cannot be laid over the true world.")
        return None
    cloud = truth.cloud()
    points = replay.points[np.isfinite(replay.points).all(axis=1)]
    if not len(cloud) or not len(points):
        notes.append(f"Map not scored: it has {len(points)} finite points, the true cloud {len(cloud)}.")
        return None
    return cloud_metrics(world_from_map.points(points), cloud)


def _boxes(found: list[Box3D], true: tuple[Box3D, ...]) -> tuple[BoxScore, ...]:
    iou = grounding.oriented_box_iou(grounding.to_array(true), grounding.to_array(found))
    result = []
    for k, box in enumerate(true):
        same = [m for m, other in enumerate(found) if other.label.strip().lower() == box.label.strip().lower()]
        best = max(same, key=lambda m: (iou[k, m], -_distance(box, found[m])), default=None)
        result.append(
            BoxScore(
                label=box.label,
                iou=float(iou[k, best]) if best is not None else 0.0,
                distance=_distance(box, found[best]) if best is not None else float("nan"),
                iou_any=float(iou[k].max(initial=0.0)),
            )
        )
    return tuple(result)


def _distance(a: Box3D, b: Box3D) -> float:
    return float(np.linalg.norm(np.asarray(a.center) - np.asarray(b.center)))


def _plain(value: Any) -> Any:
    """The same with None for what is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
