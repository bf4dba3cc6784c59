"""Boxes against the truth: referred objects (ScanRefer, Multi3DRefer, ReferIt3D) and detections (mAP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.overlap import box_iou, check_boxes, oriented_box_iou, to_array
from vidllm_ros.model.outputs import Box3D

__all__ = [
    "accuracy",
    "average_precision",
    "box_iou",
    "mean_average_precision",
    "merged",
    "multi3drefer_f1",
    "multi3drefer_scores",
    "oriented_box_iou",
    "referit3d_accuracy",
    "scanrefer_accuracy",
    "shares",
    "to_array",
]

SCANREFER_EPSILON = 1e-8  # what ScanRefer, Video-3D-LLM and Chat-Scene add to the union
# Words that make a ReferIt3D utterance depend on where one stands.
VIEW_WORDS = frozenset(
    ("front", "behind", "back", "right", "left", "facing", "leftmost", "rightmost", "looking", "across")
)


def accuracy(iou: np.ndarray, threshold: float) -> float:
    """Share of boxes whose ``iou`` [N] with their truth is at least ``threshold``; a missing box counts with IoU 0."""
    iou = np.asarray(iou, dtype=np.float64)
    if not len(iou):
        raise EvaluationError("no boxes to score.")
    return float(np.mean(iou >= threshold))


def shares(hits: Sequence[float] | np.ndarray, groups: Mapping[str, Sequence[bool] | np.ndarray]) -> dict[str, float]:
    """Mean of ``hits`` [N] within each group of items, NaN for an empty group.

    Args:
        hits: 0 to 1 for each item.
        groups: by name, for each of the N items whether it belongs to the group.
    """
    hits = np.asarray(hits, dtype=np.float64)
    result = {}
    for name, members in groups.items():
        chosen = np.asarray(members, dtype=bool)
        if chosen.shape != hits.shape:
            raise EvaluationError(f"group {name!r} names {chosen.size} items where there are {hits.size}.")
        result[name] = float(hits[chosen].mean()) if chosen.any() else float("nan")
    return result


def scanrefer_accuracy(
    predicted: np.ndarray,
    truth: np.ndarray,
    thresholds: tuple[float, ...] = (0.25, 0.5),
    unique: Sequence[bool] | None = None,
    epsilon: float = SCANREFER_EPSILON,
) -> dict[str, float]:
    """Acc@k of one predicted box per description, as ScanRefer scores it (Chen et al., ECCV 2020).

    Args:
        predicted: [N, 6] axis-aligned, centre and full size; a row of NaN stands for no prediction.
        truth: [N, 6].
        thresholds: of the IoU, inclusive.
        unique: for each description whether its object is the only one of its class in the scene (see
            ``scannet.unique_objects``); adds "Acc@k unique" and "Acc@k multiple".
        epsilon: added to the union, so that with the default, which the published evaluators use, a pair of exactly 0.5
            misses Acc@0.5. 0 for the true quotient.
    """
    predicted, truth = np.asarray(predicted, np.float64), check_boxes(truth, 6)
    if predicted.shape != truth.shape:
        raise EvaluationError(f"{predicted.shape} predicted and {truth.shape} true boxes: one of each per description.")
    missing = np.isnan(predicted).any(axis=1)
    pairs = zip(np.where(missing[:, None], 0.0, predicted), truth, strict=True)
    iou = np.array([box_iou(p[None], t[None], epsilon)[0, 0] for p, t in pairs])
    iou[missing] = 0.0
    result = {f"Acc@{threshold:g}": accuracy(iou, threshold) for threshold in thresholds}
    if unique is not None:
        groups = {"unique": np.asarray(unique, dtype=bool), "multiple": ~np.asarray(unique, dtype=bool)}
        for threshold in thresholds:
            found = shares(iou >= threshold, groups)
            result.update({f"Acc@{threshold:g} {name}": value for name, value in found.items()})
    return result


def multi3drefer_f1(
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    threshold: float = 0.5,
    epsilon: float = float(np.finfo(np.float32).eps),
    dtype: type = np.float32,
) -> float:
    """Mean F1@k over descriptions of any number of objects, see ``multi3drefer_scores``; 0 to 1."""
    return float(np.mean(multi3drefer_scores(predicted, truth, threshold, epsilon, dtype)))


def multi3drefer_scores(
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    threshold: float = 0.5,
    epsilon: float = float(np.finfo(np.float32).eps),
    dtype: type = np.float32,
) -> np.ndarray:
    """F1@k of each description, as Multi3DRefer scores it (Zhang et al., ICCV 2023).

    Boxes are paired so that the sum of their IoUs is largest, which may give fewer pairs above the threshold than
    another pairing would. A description of nothing scores 1 when nothing was predicted, else 0; a box that is predicted
    twice counts twice.

    Args:
        predicted: for each of Q descriptions [K, 6], centre and full size; K may be 0.
        truth: for each of Q descriptions [G, 6]; G may be 0.
        threshold: of the IoU, inclusive.
        epsilon: added to the union; with ``dtype`` the arithmetic of M3DRef-CLIP's evaluator. Video-3D-LLM computes
            with 1e-8 in float64 and rounds to float32.
        dtype: see ``epsilon``.

    Returns:
        float64 [Q]. ``shares`` gives the means by type of description.

    Raises:
        EvaluationError: no description, or lists of unequal length.
    """
    if len(predicted) != len(truth) or not len(truth):
        raise EvaluationError(f"{len(predicted)} lists of predicted and {len(truth)} of true boxes: one of each.")
    scores = np.zeros(len(truth))
    for k, (found, wanted) in enumerate(zip(predicted, truth, strict=True)):
        iou = box_iou(found, wanted, epsilon, dtype).astype(np.float32)
        if 0 in iou.shape:
            scores[k] = iou.shape == (0, 0)
            continue
        rows, columns = linear_sum_assignment(-iou)
        scores[k] = 2 * np.count_nonzero(iou[rows, columns] >= threshold) / sum(iou.shape)
    return scores


def referit3d_accuracy(
    predicted: Sequence[int],
    targets: Sequence[int],
    stimuli: Sequence[str] | None = None,
    tokens: Sequence[Sequence[str]] | None = None,
) -> dict[str, float]:
    """Share of utterances whose object was chosen among the given ones (Nr3D, Sr3D; Achlioptas et al., ECCV 2020).

    Args:
        predicted: chosen object id for each of N utterances; -1 for none.
        targets: true object ids.
        stimuli: ``stimulus_id`` of each utterance; adds "easy" and "hard" (see ``same_class_objects``).
        tokens: tokens of each utterance as a list; adds "view-dependent" and "view-independent".

    Returns:
        "overall" and the subsets, 0 to 1, NaN for an empty one.

    Raises:
        EvaluationError: lists of unequal length, none at all, or a stimulus that cannot be read.
    """
    counts = [len(given) for given in (predicted, targets, stimuli, tokens) if given is not None]
    if len(set(counts)) != 1 or not counts[0]:
        raise EvaluationError(f"lists of {', '.join(map(str, counts))} entries: all need the same length, at least 1.")
    groups: dict[str, Sequence[bool]] = {"overall": [True] * counts[0]}
    if stimuli is not None:
        groups["easy"] = [same_class_objects(stimulus) <= 2 for stimulus in stimuli]
        groups["hard"] = [not easy for easy in groups["easy"]]
    if tokens is not None:
        if any(isinstance(words, str) for words in tokens):
            raise EvaluationError("tokens must be lists of words; read the column with ast.literal_eval.")
        groups["view-dependent"] = [bool(VIEW_WORDS & set(words)) for words in tokens]
        groups["view-independent"] = [not dependent for dependent in groups["view-dependent"]]
    return shares(np.asarray(predicted) == np.asarray(targets), groups)


def same_class_objects(stimulus: str) -> int:
    """How many objects of the target's class its context holds, from ``scene-class-n-target-distractor-...``.

    Two or fewer is easy, more is hard.
    """
    fields = str(stimulus).split("-")
    if len(fields) < 4 or not fields[2].isdecimal():
        raise EvaluationError(f"stimulus {stimulus!r} is not of the form scene-class-n-target-distractor-....")
    return int(fields[2])


def average_precision(
    predicted: Sequence[Sequence[Box3D]], truth: Sequence[Sequence[Box3D]], threshold: float
) -> float:
    """Area under the precision-recall curve of one class over scenes (every-point interpolation, as in VOC 2010).

    In order of falling score each prediction is held against the true box it overlaps most; it is a hit when that IoU
    is at least ``threshold`` and no prediction before took the box. Labels are ignored.

    Args:
        predicted: boxes per scene with scores.
        truth: boxes per scene.
        threshold: of the oriented IoU, inclusive.

    Returns:
        0 to 1; NaN when there is no true box.
    """
    total = sum(len(boxes) for boxes in truth)
    if total == 0:
        return float("nan")
    scores, hits = [], []
    for boxes, true in zip(predicted, truth, strict=True):
        iou = oriented_box_iou(to_array(boxes), to_array(true))
        taken: set[int] = set()
        for i in np.argsort([-box.score for box in boxes], kind="stable"):
            j = int(np.argmax(iou[i])) if len(true) else -1
            hit = j >= 0 and iou[i, j] >= threshold and j not in taken
            if hit:
                taken.add(j)
            scores.append(boxes[i].score)
            hits.append(hit)
    if not hits:
        return 0.0
    ordered = np.array(hits, dtype=np.float64)[np.argsort(-np.array(scores), kind="stable")]
    found = np.cumsum(ordered)
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    return float(np.sum(precision * ordered) / total)


def mean_average_precision(
    predicted: Sequence[Sequence[Box3D]], truth: Sequence[Sequence[Box3D]], threshold: float = 0.25
) -> dict[str, float]:
    """Average precision for each label that occurs in the truth, and their mean under "mAP"."""
    result = {}
    for label in sorted({box.label for boxes in truth for box in boxes}):
        chosen = [[[box for box in boxes if box.label == label] for boxes in side] for side in (predicted, truth)]
        result[label] = average_precision(chosen[0], chosen[1], threshold)
    result["mAP"] = float(np.mean(list(result.values()))) if result else float("nan")
    return result


def merged(boxes: Sequence[Box3D], threshold: float = 0.25) -> list[Box3D]:
    """Boxes without those that overlap a surer one of the same label (non-maximum suppression).

    Args:
        boxes: in one frame.
        threshold: of the oriented IoU, above which two boxes are the same thing. A box whose centre lies inside a surer
            one is the same thing too.
    """
    kept: list[Box3D] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        rivals = [other for other in kept if other.label == box.label]
        inside = [_holds(other, box.center) for other in rivals]
        if not any(inside) and not (oriented_box_iou(to_array([box]), to_array(rivals)) > threshold).any():
            kept.append(box)
    return kept


def _holds(box: Box3D, point: np.ndarray) -> bool:
    offset = np.asarray(box.rotation).T @ (np.asarray(point) - np.asarray(box.center))
    return bool((np.abs(offset) <= np.asarray(box.size) / 2).all())
