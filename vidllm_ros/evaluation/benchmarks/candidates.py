"""Which boxes a description means: the network's own, or those chosen among given candidates.

Published grounding results come from two protocols. Either the network draws boxes, or it chooses among instances that
a segmentation gave (Mask3D's for ScanRefer and Multi3DRefer, the annotated ones for Nr3D and Sr3D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.overlap import box_iou, enclosing, moved, to_array
from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.language_types import QuestionError, ScenePrefix

WAYS = {
    "own": "the boxes that the network draws",
    "nearest": "the candidate that overlaps the network's box most, or the nearest one",
    "scored": "the candidates that the network's proposal head scores highest",
}
# How boxes are taken from scores by Video-3D-LLM and 3DRS: surest first, until their probabilities sum to this.
SUM_OF_PROBABILITIES = 0.4
MIN_SCORE = 0.5
_PHRASES_AT_ONCE = 32  # a pass over all of a scene's descriptions would need their squared length in memory


@dataclass(frozen=True)
class Reference:
    """A description of objects.

    Attributes:
        key: unique in the data set.
        phrase: as it is put to the network.
        objects: numbers of the objects that it means; none for a description of nothing.
        details: further fields of the annotation.
    """

    key: str
    phrase: str
    objects: tuple[int, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReferredScene:
    """A scene with its objects and their descriptions.

    Attributes:
        window: its frames.
        T_world_scene: [4, 4] the scene frame in world.
        objects: by number [6] the box along the world's axes, centre and full size, metres.
        references: what is asked.
        proposals: [M, 6] candidates in world; None for none.
        left_out: annotations that name an object which the scene does not have.
    """

    window: EvaluatedWindow
    T_world_scene: np.ndarray
    objects: Mapping[int, np.ndarray]
    references: tuple[Reference, ...]
    proposals: np.ndarray | None = None
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """What a phrase was taken to mean.

    Attributes:
        boxes: [K, 7] in world, best first: centre, full size, yaw.
        chosen: [K] which candidates they are; empty for the network's own.
    """

    boxes: np.ndarray
    chosen: tuple[int, ...] = ()


@torch.inference_mode()
def find(
    model: VidLLM,
    prefix: ScenePrefix,
    phrases: Sequence[str],
    T_world_scene: np.ndarray,
    candidates: np.ndarray | None = None,
    way: str = "own",
    several: bool = False,
    min_score: float = MIN_SCORE,
) -> list[Found]:
    """The boxes of each phrase.

    Args:
        model: the network.
        prefix: the scene as it read it.
        phrases: descriptions. One that is too long for the network finds nothing.
        T_world_scene: [4, 4].
        candidates: [M, 6] in world, for the ways that choose among them.
        way: see ``WAYS``.
        several: any number of boxes, those of ``min_score`` and more; else the best one whatever its score.
        min_score: of the network's own boxes, 0 to 1.

    Raises:
        EvaluationError: an unknown way, or one that needs candidates without them.
    """
    if way not in WAYS:
        raise EvaluationError(f"boxes {way!r} are unknown: use one of {', '.join(WAYS)}.")
    if way != "own" and candidates is None:
        raise EvaluationError(f"boxes {way!r} are chosen among candidates, and there are none.")
    found: list[Found] = []
    for start in range(0, len(phrases), _PHRASES_AT_ONCE):
        some = phrases[start : start + _PHRASES_AT_ONCE]
        states = _states(model, prefix, some)
        known = [k for k, state in enumerate(states) if state is not None]
        rows: list[Found] = [Found(np.zeros((0, 7)))] * len(some)
        if known:
            stacked = torch.stack([state for state in states if state is not None])
            if way == "scored":
                assert candidates is not None
                made = _scored(model, prefix, stacked, T_world_scene, candidates, several)
            else:
                made = _drawn(model, prefix, stacked, T_world_scene, several, min_score)
                if way == "nearest":
                    assert candidates is not None
                    made = [nearest(own.boxes, candidates) for own in made]
            for k, one in zip(known, made, strict=True):
                rows[k] = one
        found += rows
    return found


def nearest(own: np.ndarray, candidates: np.ndarray) -> Found:
    """For each own box [K, 7] the candidate [M, 6] of largest IoU; where none overlaps, that of the nearest centre."""
    if not len(own) or not len(candidates):
        return Found(np.zeros((0, 7)))
    iou = box_iou(enclosing(own), candidates)
    near = np.linalg.norm(own[:, None, :3] - candidates[None, :, :3], axis=2).argmin(axis=1)
    best = np.where(iou.max(axis=1) > 0, iou.argmax(axis=1), near)
    return _candidates(candidates, list(dict.fromkeys(best.tolist())))


def most_probable(logits: np.ndarray, several: bool) -> list[int]:
    """Candidates by their logits [M + 1], the last one "none of them", as Video-3D-LLM and 3DRS take them.

    Args:
        logits: similarities over the temperature.
        several: none when that is the likeliest, else the likeliest until their probabilities sum to 0.4. Otherwise
            the likeliest candidate.
    """
    if len(logits) < 2:
        return []
    if not several:
        return [int(np.argmax(logits[:-1]))]
    if int(np.argmax(logits)) == len(logits) - 1:
        return []
    probability = np.exp(logits - logits.max())
    probability = (probability / probability.sum())[:-1]
    order = np.argsort(-probability, kind="stable")
    count = int(np.searchsorted(np.cumsum(probability[order]), SUM_OF_PROBABILITIES)) + 1
    return [int(k) for k in order[:count]]


def _drawn(
    model: VidLLM,
    prefix: ScenePrefix,
    states: torch.Tensor,
    T_world_scene: np.ndarray,
    several: bool,
    min_score: float,
) -> list[Found]:
    labels = [str(k) for k in range(len(states))]
    boxes = model.grounding.locate(prefix.scene, states, labels, min_score if several else 0.0)
    made = []
    for label in labels:
        mine = [box for box in boxes if box.label == label]
        made.append(Found(moved(to_array(mine if several else mine[:1]), T_world_scene)))
    return made


def _scored(
    model: VidLLM,
    prefix: ScenePrefix,
    states: torch.Tensor,
    T_world_scene: np.ndarray,
    candidates: np.ndarray,
    several: bool,
) -> list[Found]:
    if not len(candidates) or not len(prefix.scene.positions):
        return [Found(np.zeros((0, 7)))] * len(states)
    level = np.concatenate([candidates, np.zeros((len(candidates), 1))], axis=1)
    in_scene = torch.from_numpy(moved(level, np.linalg.inv(T_world_scene))).float().to(model.device)
    logits = model.grounding.score_proposals(in_scene, prefix.scene, states).double().cpu().numpy()
    return [_candidates(candidates, most_probable(row, several)) for row in logits]


def _candidates(candidates: np.ndarray, chosen: Sequence[int]) -> Found:
    boxes = candidates[list(chosen)].reshape(-1, 6)
    return Found(np.concatenate([boxes, np.zeros((len(boxes), 1))], axis=1), tuple(chosen))


def _states(model: VidLLM, prefix: ScenePrefix, phrases: Sequence[str]) -> list[torch.Tensor | None]:
    """The ``<LOC>`` state of each phrase; None for one that the language model cannot read."""
    try:
        return list(model.language.loc_states(prefix, phrases))
    except QuestionError:
        if len(phrases) == 1:
            return [None]
        return [state for phrase in phrases for state in _states(model, prefix, [phrase])]
