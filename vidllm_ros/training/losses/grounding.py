"""Losses of the grounding decoder: box regression and matching (paper section 3.4).

The papers state neither the assignment nor the weights; both are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vidllm_ros.model.reasoning.boxes import points_inside
from vidllm_ros.model.reasoning.grounding import GroundingOutput
from vidllm_ros.training.losses.boxes import box_l1, box_overlap, long_side_first, quarter_turned, yaw_error

_NEARLY_SQUARE = 0.8  # short over long side


@dataclass(frozen=True)
class GroundingWeights:
    """Weights of the terms.

    Args:
        l1: mean absolute error of centre and size.
        diou: 1 - DIoU.
        yaw: direction.
        match: InfoNCE between queries and ``<LOC>``.
        calibration: binary cross-entropy of each query's score against "no such object", which InfoNCE alone leaves
            open. The score to learn is 0 for a query on no named object and (1 + IoU) / 2 for one on an object, so that
            of two boxes on one object the better one survives the suppression.
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
class Surroundings:
    """What every seed shows, named by a phrase or not: ten times as many boxes to learn from.

    Attributes:
        boxes: [A, 7] all boxes of the scene.
        shown: int64 [Q] the box whose surface each query's seed lies on, -1 for walls, floor and ceiling. It comes from
            the rendered instances, so it is right even where predicted depth puts a seed beside its object.
        named: for each phrase the indices of its targets in ``boxes``.
    """

    boxes: Tensor
    shown: Tensor
    named: Sequence[Sequence[int]]

    def positives(self, phrase: int) -> Tensor:
        """int64 [Q] which of the phrase's targets each seed shows, -1 for none."""
        table = torch.full((len(self.boxes) + 1,), -1, device=self.shown.device)
        for position, index in enumerate(self.named[phrase]):
            table[index] = position
        return table[self.shown]  # -1 reads the table's last entry


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
    output: GroundingOutput,
    targets: Sequence[Tensor],
    weights: GroundingWeights | None = None,
    surroundings: Surroundings | None = None,
) -> GroundingLoss:
    """The loss of one scene.

    Args:
        output: of the decoder, for P phrases.
        targets: for each phrase the boxes [G, 7] that it names, in the scene frame; none teaches the zero target.
        weights: of the terms.
        surroundings: what the seeds show, where the ground truth tells.

    Raises:
        ValueError: targets and phrases differ in number.
    """
    weights = weights or GroundingWeights()
    phrases = output.none_logits.shape[1]
    if len(targets) != phrases:
        raise ValueError(f"{len(targets)} target sets for {phrases} phrases; give one, perhaps empty, to each")
    if phrases == 0:
        names = ("l1", "diou", "yaw", "match", "calibration")
        return GroundingLoss(output.boxes.sum(), dict.fromkeys(names, 0.0))
    wanted = torch.cat([target.to(output.boxes) for target in targets])
    owners = assign(output, wanted, [len(target) for target in targets], weights, surroundings)
    positives = owners >= 0
    if surroundings is not None:
        # A query on something that the phrase does not name still has a box to learn.
        shown = torch.where(surroundings.shown >= 0, surroundings.shown + len(wanted), -1)
        owners = torch.where(positives, owners, shown)
        wanted = torch.cat([wanted, surroundings.boxes.to(wanted)])
    fitted = owners >= 0
    boxes, directions = output.boxes[fitted], output.directions[fitted]
    written = _as_written(boxes, directions, wanted[owners[fitted]], weights)[1]
    iou, diou = box_overlap(boxes, written)
    quality = torch.zeros_like(output.logits)
    quality[fitted] = (1 + iou.detach()) / 2
    quality = quality * positives
    terms = {
        "l1": _mean(box_l1(boxes, written)),
        "diou": _mean(1 - diou),
        "yaw": _mean(yaw_error(directions, written)),
        "match": info_nce(output.logits.flatten(0, 1), output.none_logits.flatten(), positives.flatten(0, 1)).mean(),
        "calibration": calibration(output.logits, output.none_logits, quality),
    }
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return GroundingLoss(total, {name: float(value.detach()) for name, value in terms.items()})


@torch.no_grad()
def assign(
    output: GroundingOutput,
    targets: Tensor,
    counts: Sequence[int],
    weights: GroundingWeights,
    surroundings: Surroundings | None = None,
) -> Tensor:
    """Which query answers for which target: the cheapest one-to-one assignment, then seeds on a target.

    Args:
        output: of the decoder: L layers, P phrases, Q queries.
        targets: [G, 7] of all phrases, one phrase after the other.
        counts: how many belong to each phrase.
        weights: the cost uses the weights of the loss.
        surroundings: tells what the seeds show; without it those within a target's box count.

    Returns:
        [L, P, Q] indices into ``targets``, -1 where a query answers for none.
    """
    owners = torch.full(output.logits.shape, -1, device=targets.device)
    if len(targets) == 0 or owners.numel() == 0:
        return owners
    phrase = torch.repeat_interleave(torch.tensor(counts, device=targets.device))
    scores = (output.logits - output.none_logits.unsqueeze(-1)).sigmoid()
    boxes, directions = output.boxes[:, phrase], output.directions[:, phrase]
    costs = _as_written(boxes, directions, targets.unsqueeze(1), weights)[0] - weights.match * scores[:, phrase]
    ends = torch.tensor(counts).cumsum(0).tolist()
    if surroundings is not None:
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            shown = surroundings.positives(row)
            owners[:, row] = torch.where(shown >= 0, shown + end - count, -1)
    elif weights.seeds_inside:
        inside = points_inside(output.query_positions, targets)
        # A seed within several targets belongs to the smallest: the lamp, not the table that it stands on.
        volumes = targets[:, 3:6].prod(dim=-1, keepdim=True).where(inside, torch.inf)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count:
                smallest, index = volumes[end - count : end].min(dim=0)
                owners[:, row] = (index + end - count).where(smallest.isfinite(), -1)
    for layer, costs_of_layer in enumerate(costs.float().cpu().numpy()):
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            objects, queries = linear_sum_assignment(costs_of_layer[end - count : end])
            owners[layer, row, queries] = torch.as_tensor(objects + end - count, device=owners.device)
    return owners


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


def calibration(logits: Tensor, none_logits: Tensor, quality: Tensor) -> Tensor:
    """Mean binary cross-entropy of the scores; 0 without queries.

    Args:
        logits: [..., Q] similarity over temperature.
        none_logits: [...] of the zero target.
        quality: [..., Q] the score that each query should have, 0 to 1.
    """
    margins = logits - none_logits.unsqueeze(-1)
    return _mean(torch.nn.functional.binary_cross_entropy_with_logits(margins, quality, reduction="none"))


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() else values.sum()


@torch.no_grad()
def _as_written(boxes: Tensor, directions: Tensor, targets: Tensor, weights: GroundingWeights) -> tuple[Tensor, Tensor]:
    """Costs [...] and targets [..., 7], each target written as the network should have written it.

    A box can be written in two ways, a quarter turn apart. The long side comes first, so that all queries learn one
    convention; for a nearly square box, whose direction then rests on millimetres, either way is right.
    """
    first = long_side_first(targets).expand_as(boxes)
    writings = torch.stack([first, quarter_turned(first)])
    costs = (
        weights.l1 * box_l1(boxes, writings)
        + weights.diou * (1 - box_overlap(boxes, writings)[1])
        + weights.yaw * yaw_error(directions, writings)
    )
    elongated = first[..., 4] < _NEARLY_SQUARE * first[..., 3]
    turned = (costs[1] < costs[0]) & ~elongated
    return torch.where(turned, costs[1], costs[0]), torch.where(turned.unsqueeze(-1), writings[1], writings[0])
