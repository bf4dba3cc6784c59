"""Grounding losses against counting points, brute force and hand computation."""

import itertools
import math

import numpy as np
import pytest
import torch

from vidllm_ros.model.reasoning.grounding import GroundingOutput
from vidllm_ros.model.reasoning.overlap import oriented_box_iou
from vidllm_ros.training.losses.boxes import box_l1, box_overlap, long_side_first, quarter_turned, yaw_error
from vidllm_ros.training.losses.grounding import (
    GroundingWeights,
    Surroundings,
    assign,
    calibration,
    grounding_loss,
    info_nce,
)


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(oriented_box_iou(first[None], second[None])[0, 0])


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre, size = torch.rand(count, 3, generator=generator), 0.3 + torch.rand(count, 3, generator=generator)
    return torch.cat([centre, size, 6 * torch.rand(count, 1, generator=generator) - 3], dim=1).double()


def corners(box: np.ndarray) -> np.ndarray:
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * box[3:6]
    cosine, sine = np.cos(box[6]), np.sin(box[6])
    return signs @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) + box[:3]


def test_diou_is_iou_minus_the_share_of_the_enclosing_diagonal():
    first, second = random_boxes(30, 0), random_boxes(30, 1)
    first[:, 6] = second[:, 6]
    iou, diou = (value.tolist() for value in box_overlap(first, second))
    for overlap, value, a, b in zip(iou, diou, first.numpy(), second.numpy(), strict=True):
        assert overlap == pytest.approx(box_iou(a, b), abs=1e-9)
        cosine, sine = np.cos(b[6]), np.sin(b[6])
        along = np.concatenate([corners(a), corners(b)]) @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        diagonal = np.linalg.norm(along.max(axis=0) - along.min(axis=0))
        expected = box_iou(a, b) - (np.linalg.norm(a[:3] - b[:3]) / diagonal) ** 2
        assert value == pytest.approx(expected, abs=1e-9)


def test_diou_pulls_a_box_from_afar():
    box = torch.tensor([5.0, 5, 0, 1, 1, 1, 0], requires_grad=True)
    target = torch.tensor([0.0, 0, 0, 1, 1, 1, 0])
    value = box_overlap(box, target)[1]
    value.backward()
    assert -1 < value < 0 and (box.grad[:2] < 0).all() and box.grad.isfinite().all()
    assert box_overlap(target, target) == (1, 1)


def directions(boxes: torch.Tensor) -> torch.Tensor:
    return torch.stack([(2 * boxes[..., 6]).sin(), (2 * boxes[..., 6]).cos()], dim=-1)


def test_yaw_error_has_a_period_of_half_a_turn_and_no_flat_spot():
    target = random_boxes(1)
    for turn, expected in ((0, 0), (math.pi, 0), (math.pi / 2, 1), (-math.pi / 4, 0.5)):
        turned = target + torch.tensor([0, 0, 0, 0, 0, 0, turn])
        assert float(yaw_error(directions(turned), target)) == pytest.approx(expected, abs=1e-6)
    opposite = -directions(target).requires_grad_()
    (gradient,) = torch.autograd.grad(yaw_error(opposite, target).sum(), opposite)
    torch.testing.assert_close(gradient, -directions(target))


def test_a_quarter_turned_box_is_the_same_box():
    for box in random_boxes(10):
        assert box_iou(box.numpy(), quarter_turned(box).numpy()) == pytest.approx(1)


def test_long_side_first_keeps_the_box():
    boxes = random_boxes(10, 9)
    written = long_side_first(boxes)
    assert (written[:, 3] >= written[:, 4]).all() and not torch.equal(written, boxes)
    assert all(box_iou(a.numpy(), b.numpy()) == pytest.approx(1) for a, b in zip(boxes, written, strict=True))


def test_l1_is_the_mean_of_six():
    assert float(box_l1(torch.zeros(7), torch.tensor([1.0, 2, 3, 4, 5, 6, 99]))) == pytest.approx(3.5)


def test_info_nce_against_the_written_formula():
    generator = torch.Generator().manual_seed(0)
    logits, none = 5 * torch.randn(4, 6, generator=generator), 5 * torch.randn(4, generator=generator)
    positives = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0], [0] * 6, [1] * 6]).bool()
    found = info_nce(logits, none, positives).tolist()
    for row in range(4):
        exponents = np.exp(logits[row].double().numpy())
        zero = math.exp(float(none[row]))
        top = exponents[positives[row].numpy()].sum() if positives[row].any() else zero
        assert found[row] == pytest.approx(-math.log(top / (exponents.sum() + zero)), abs=1e-5)


def test_calibration_is_binary_cross_entropy_of_the_score():
    logits, none, quality = torch.tensor([[2.0, -1.0]]), torch.tensor([0.5]), torch.tensor([[0.8, 0.0]])
    scores = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(1.5))]
    first = 0.8 * math.log(scores[0]) + 0.2 * math.log(1 - scores[0])
    expected = -(first + math.log(1 - scores[1])) / 2
    assert float(calibration(logits, none, quality)) == pytest.approx(expected, abs=1e-6)


def test_the_better_of_two_boxes_on_an_object_is_to_score_higher():
    target = torch.tensor([[0.0, 0, 0, 2, 1, 1, 0]]).double()
    boxes = torch.cat([target, target + torch.tensor([0.5, 0, 0, 0, 0, 0, 0])])
    logits = torch.tensor([3.0, 3.0]).double().requires_grad_()
    weights = GroundingWeights(match=0)
    grounding_loss(output_for(boxes, logits), [target], weights).loss.backward()
    score = 1 / (1 + math.exp(-3))
    expected = [weights.calibration * (score - (1 + iou) / 2) / 2 for iou in (1, 0.6)]
    assert logits.grad.tolist() == pytest.approx(expected)


def output_for(boxes: torch.Tensor, logits: torch.Tensor, none: float = 0.0) -> GroundingOutput:
    """One layer, one phrase; queries sit at the centres of their boxes."""
    angles = directions(boxes)[None, None]
    return GroundingOutput(
        boxes[:, :3], boxes[None, None], angles, logits[None, None], torch.full((1, 1), none).double()
    )


def test_assignment_is_the_cheapest_of_all():
    weights = GroundingWeights(seeds_inside=False)
    boxes, targets, margins = random_boxes(5, 2), random_boxes(3, 3), torch.randn(5).double()
    owners = assign(output_for(boxes, margins), targets, [3], weights)[0, 0].tolist()

    def cost(query: int, target: int) -> float:
        def written(one: torch.Tensor) -> float:
            shape = weights.l1 * box_l1(boxes[query], one) + weights.diou * (1 - box_overlap(boxes[query], one)[1])
            return float(shape + weights.yaw * yaw_error(directions(boxes[query]), one))

        first = long_side_first(targets[target])
        square = first[4] >= 0.8 * first[3]
        shape = min(written(first), written(quarter_turned(first))) if square else written(first)
        return shape - weights.match / (1 + math.exp(-float(margins[query])))

    choices = itertools.permutations(range(5), 3)
    best = min(choices, key=lambda chosen: sum(cost(q, t) for t, q in enumerate(chosen)))
    assert owners == [best.index(query) if query in best else -1 for query in range(5)]


def test_each_phrase_and_layer_is_assigned_by_itself():
    layers, counts = 2, [1, 0, 2]
    boxes = torch.stack([torch.stack([random_boxes(6, 10 * layer + p) for p in range(3)]) for layer in range(layers)])
    logits, none = torch.randn(layers, 3, 6).double(), torch.randn(layers, 3).double()
    seeds, targets = random_boxes(6, 40)[:, :3], random_boxes(3, 41)
    output = GroundingOutput(seeds, boxes, directions(boxes), logits, none)
    owners = assign(output, targets, counts, GroundingWeights())
    assert (owners[:, 1] == -1).all()
    for layer in range(layers):
        for row, offset, own in ((0, 0, targets[:1]), (2, 1, targets[1:])):
            one = GroundingOutput(
                seeds,
                boxes[layer : layer + 1, row : row + 1],
                output.directions[layer : layer + 1, row : row + 1],
                logits[layer : layer + 1, row : row + 1],
                none[layer : layer + 1, row : row + 1],
            )
            alone = assign(one, own, [len(own)], GroundingWeights())[0, 0]
            assert owners[layer, row].tolist() == [k + offset if k >= 0 else -1 for k in alone.tolist()]


def test_seeds_inside_a_target_are_positives_of_the_smallest():
    table, lamp = [0.0, 0, 0, 2, 2, 2, 0], [0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0]
    targets = torch.tensor([table, lamp])
    seeds = torch.tensor([[0.5, 0.5, 0.5], [0.45, 0.5, 0.5], [-0.5, 0, 0], [0, -0.5, 0], [9, 9, 9]])
    output = output_for(torch.cat([seeds, torch.full((5, 3), 0.5), torch.zeros(5, 1)], dim=1), torch.zeros(5))
    assert assign(output, targets, [2], GroundingWeights())[0, 0].tolist() == [1, 1, 0, 0, -1]
    # Where no seed is inside, the assignment still finds one.
    far = targets + torch.tensor([20.0, 0, 0, 0, 0, 0, 0])
    assert sorted(assign(output, far, [2], GroundingWeights())[0, 0].tolist()) == [-1, -1, -1, 0, 1]


def test_a_perfect_prediction_costs_nothing():
    targets = random_boxes(2, 4)
    far = random_boxes(1, 5) + torch.tensor([30.0, 0, 0, 0, 0, 0, 0])
    for given in (targets, quarter_turned(targets)):
        output = output_for(torch.cat([long_side_first(targets), far]), torch.tensor([60.0, 60, -60]).double(), 0.0)
        result = grounding_loss(output, [given])
        assert max(result.terms.values()) < 1e-6 and float(result.loss) < 1e-5


def test_only_a_nearly_square_box_may_be_written_either_way():
    for width, free in ((0.9, True), (0.5, False)):
        target = torch.tensor([[0.0, 0, 0, 1, width, 1, 0.3]]).double()
        output = output_for(quarter_turned(target), torch.tensor([60.0]).double(), 0.0)
        assert (float(grounding_loss(output, [target]).loss) < 1e-5) == free


def test_the_loss_is_the_weighted_sum_of_its_terms():
    boxes, targets = random_boxes(4, 6), random_boxes(2, 7)
    weights = GroundingWeights(l1=3, diou=2, yaw=0.5, match=0.7, calibration=1.1)
    result = grounding_loss(output_for(boxes, torch.randn(4).double(), 0.3), [targets], weights)
    expected = sum(getattr(weights, name) * value for name, value in result.terms.items())
    assert float(result.loss) == pytest.approx(expected, rel=1e-6)
    assert all(value > 0 for value in result.terms.values())


def test_an_absent_object_trains_the_zero_target_only():
    boxes = random_boxes(3, 8).requires_grad_()
    logits = torch.tensor([1.0, 0, -1]).double().requires_grad_()
    none = torch.zeros(1, 1).double().requires_grad_()
    output = GroundingOutput(boxes[:, :3], boxes[None, None], directions(boxes)[None, None], logits[None, None], none)
    result = grounding_loss(output, [torch.zeros(0, 7)])
    result.loss.backward()
    assert result.terms["l1"] == 0 and not boxes.grad.any()
    assert (logits.grad > 0).all() and (none.grad < 0).all()


def test_no_phrases_cost_nothing_and_a_mismatch_is_named():
    empty = GroundingOutput(*(torch.zeros(shape) for shape in ((3, 3), (1, 0, 3, 7), (1, 0, 3, 2), (1, 0, 3), (1, 0))))
    assert float(grounding_loss(empty, []).loss) == 0
    with pytest.raises(ValueError, match="1 target sets for 0 phrases"):
        grounding_loss(empty, [torch.zeros(0, 7)])


def test_what_a_seed_shows_decides_which_query_answers():
    boxes = random_boxes(3, 12)
    # Seeds far outside every box: only the rendered instances know what they show.
    output = output_for(random_boxes(5, 13) + 50, torch.zeros(5).double())
    around = Surroundings(boxes, torch.tensor([2, -1, 0, 2, 1]), [[0, 2]])
    owners = assign(output, boxes[[0, 2]], [2], GroundingWeights(), around)[0, 0].tolist()
    expected = [1, -1, 0, 1, -1]
    # The assignment may move one query for each target, no more.
    assert sum(a != b for a, b in zip(owners, expected, strict=True)) <= 2
    assert around.positives(0).tolist() == expected


def test_queries_on_unnamed_objects_learn_their_box_but_no_match():
    boxes = random_boxes(2, 14)
    seeds = boxes[[0, 1, 1]]
    predicted = (seeds + 0.1).detach().requires_grad_()
    logits = torch.zeros(3).double().requires_grad_()
    output = GroundingOutput(
        seeds[:, :3], predicted[None, None], directions(predicted)[None, None], logits[None, None], torch.zeros(1, 1)
    )
    for around, touched in (
        (None, [True, False, False]),
        (Surroundings(boxes, torch.tensor([0, 1, 1]), [[0]]), [True] * 3),
    ):
        predicted.grad = logits.grad = None
        grounding_loss(output, [boxes[:1]], GroundingWeights(), around).loss.backward(retain_graph=True)
        assert [bool(row.any()) for row in predicted.grad] == touched
        # The phrase's score rises on its own object only.
        assert (logits.grad < 0).tolist() == [True, False, False]
