"""Losses of the grounding decoder: box regression and matching (paper section 3.4).

The papers state neither the assignment nor the weights; both are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vidllm_ros.model.boxes import points_inside
from vidllm_ros.model.grounding import GroundingOutput
from vidllm_ros.training.box_loss import box_diou, box_l1, quarter_turned, yaw_error


@dataclass(frozen=True)
class GroundingWeights:
    """Weights of the terms.

    Args:
        l1: mean absolute error of centre and size.
        diou: 1 - DIoU.
        yaw: direction.
        match: InfoNCE between queries and ``<LOC>``.
        calibration: binary cross-entropy of each query against "no such object", which InfoNCE alone leaves open: with
            it a score is the probability that the query is on a named object.
        seeds_inside: queries whose seed lies within a target are positives beside the assigned one; suppression merges
            their boxes.
    """

    l1: float = 2.0
    diou: float = 1.0
    yaw: float = 0.5
    match: float = 1.0
    calibration: float = 5.0
    seeds_inside: bool = True


@dataclass(frozen=True)
class GroundingLoss:
    """The loss and its unweighted terms, means over layers.

    Attributes:
        loss: scalar, the weighted sum.
        terms: l1 in metres, diou, yaw, match, calibration.
    """

    loss: Tensor
    terms: dict[str, float]


def grounding_loss(
    output: GroundingOutput, targets: Sequence[Tensor], weights: GroundingWeights | None = None
) -> GroundingLoss:
    """The loss of one scene.

    Args:
        output: of the decoder, for P phrases.
        targets: for each phrase the boxes [G, 7] that it names, in the scene frame; none teaches the zero target.
        weights: of the terms.

    Raises:
        ValueError: targets and phrases differ in number.
    """
    weights = weights or GroundingWeights()
    phrases = output.none_logits.shape[1]
    if len(targets) != phrases:
        raise ValueError(f"{len(targets)} target sets for {phrases} phrases; give one, perhaps empty, to each")
    names = ("l1", "diou", "yaw", "match", "calibration")
    if phrases == 0:
        return GroundingLoss(output.boxes.sum(), dict.fromkeys(names, 0.0))
    terms: dict[str, list[Tensor]] = {name: [] for name in names}
    for boxes, logits, none_logits in zip(output.boxes, output.logits, output.none_logits, strict=True):
        matched, wanted = [], []
        positives = torch.zeros_like(logits, dtype=torch.bool)
        for phrase, target in enumerate(targets):
            margins = logits[phrase] - none_logits[phrase]
            queries, objects = assign(boxes[phrase], margins, output.query_positions, target, weights)
            positives[phrase, queries] = True
            matched.append(boxes[phrase, queries])
            wanted.append(target.to(boxes)[objects])
        for name, term in _box_terms(torch.cat(matched), torch.cat(wanted), weights).items():
            terms[name].append(term)
        terms["match"].append(info_nce(logits, none_logits, positives).mean())
        terms["calibration"].append(calibration(logits, none_logits, positives))
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    total = torch.stack([getattr(weights, name) * value for name, value in means.items()]).sum()
    return GroundingLoss(total, {name: float(value.detach()) for name, value in means.items()})


@torch.no_grad()
def assign(
    boxes: Tensor, margins: Tensor, seeds: Tensor, targets: Tensor, weights: GroundingWeights
) -> tuple[Tensor, Tensor]:
    """Which query answers for which target: the cheapest one-to-one assignment, then seeds inside a target.

    Args:
        boxes: [Q, 7] predicted.
        margins: [Q] matching logits above "no such object".
        seeds: [Q, 3] query positions.
        targets: [G, 7].
        weights: the cost uses the weights of the loss.

    Returns:
        Indices of queries and of their targets, each query at most once.
    """
    targets = targets.to(boxes)
    if len(targets) == 0 or len(boxes) == 0:
        empty = torch.zeros(0, dtype=torch.long, device=boxes.device)
        return empty, empty
    cost = _cheaper_writing(boxes.unsqueeze(1), targets.unsqueeze(0), weights)[0]
    cost = cost - weights.match * margins.sigmoid().unsqueeze(1)
    rows, columns = linear_sum_assignment(cost.float().cpu().numpy())
    owner = torch.full((len(boxes),), -1, device=boxes.device)
    if weights.seeds_inside:
        inside = points_inside(seeds, targets)
        # A seed within several targets belongs to the smallest: the lamp, not the table that it stands on.
        volume = targets[:, 3:6].prod(dim=-1, keepdim=True).masked_fill(~inside, torch.inf)
        owner = volume.argmin(dim=0).masked_fill(~inside.any(dim=0), -1)
    owner[torch.as_tensor(rows, device=boxes.device)] = torch.as_tensor(columns, device=boxes.device)
    queries = (owner >= 0).nonzero().squeeze(1)
    return queries, owner[queries]


def info_nce(logits: Tensor, none_logits: Tensor, positives: Tensor) -> Tensor:
    """-log(sum of the positives / sum of all), where "no such object" is the positive of a phrase that has none.

    Args:
        logits: [P, M] similarity over temperature.
        none_logits: [P] of the zero target.
        positives: bool [P, M].

    Returns:
        [P] nats.
    """
    everything = torch.cat([logits, none_logits.unsqueeze(1)], dim=1)
    chosen = torch.cat([positives, ~positives.any(dim=1, keepdim=True)], dim=1)
    return everything.logsumexp(dim=1) - everything.masked_fill(~chosen, -torch.inf).logsumexp(dim=1)


def calibration(logits: Tensor, none_logits: Tensor, positives: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query's score. Shapes as in ``info_nce``; a scalar, 0 without queries."""
    if logits.numel() == 0:
        return logits.sum()
    margins = logits - none_logits.unsqueeze(1)
    return torch.nn.functional.binary_cross_entropy_with_logits(margins, positives.to(margins.dtype))


def _box_terms(boxes: Tensor, targets: Tensor, weights: GroundingWeights) -> dict[str, Tensor]:
    if len(boxes) == 0:
        nothing = boxes.sum() * 0
        return {"l1": nothing, "diou": nothing, "yaw": nothing}
    written = _cheaper_writing(boxes, targets, weights)[1]
    return {
        "l1": box_l1(boxes, written).mean(),
        "diou": (1 - box_diou(boxes, written)).mean(),
        "yaw": yaw_error(boxes, written).mean(),
    }


def _cheaper_writing(boxes: Tensor, targets: Tensor, weights: GroundingWeights) -> tuple[Tensor, Tensor]:
    """Costs [...] and targets [..., 7], each target written whichever of two ways is nearer to the prediction."""
    writings = torch.stack(torch.broadcast_tensors(targets, quarter_turned(targets)))
    costs = (
        weights.l1 * box_l1(boxes, writings)
        + weights.diou * (1 - box_diou(boxes, writings))
        + weights.yaw * yaw_error(boxes, writings)
    )
    cost, choice = costs.min(dim=0)
    turned = choice.unsqueeze(-1) == 1
    return cost, torch.where(turned, writings[1], writings[0])
