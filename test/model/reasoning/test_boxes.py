"""Overlap of turned boxes against counting points."""

import numpy as np
import pytest
import torch

from vidllm_ros.model.reasoning.boxes import box_from_vector, box_vectors, points_inside, suppress, vote
from vidllm_ros.model.reasoning.overlap import oriented_box_iou


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(oriented_box_iou(first[None], second[None])[0, 0])


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    centres, sizes = rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(0.3, 1.5, (count, 3))
    return np.concatenate([centres, sizes, rng.uniform(-np.pi, np.pi, (count, 1))], axis=1)


def within(points: np.ndarray, vector: np.ndarray) -> np.ndarray:
    box = box_from_vector(vector)
    return (np.abs((points - box.center) @ box.rotation) <= box.size / 2).all(axis=1)


def test_iou_of_turned_boxes_agrees_with_counting_points():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.8, 1.8, (200_000, 3))
    for first, second in zip(random_boxes(rng, 20), random_boxes(rng, 20), strict=True):
        a, b = within(points, first), within(points, second)
        assert abs(box_iou(first, second) - (a & b).sum() / (a | b).sum()) < 0.03
        assert abs(box_iou(first, second) - box_iou(second, first)) < 1e-12


def test_iou_of_simple_pairs():
    unit = np.array([0, 0, 0, 1, 1, 1, 0.0])
    assert box_iou(unit, unit) == 1
    assert abs(box_iou(unit, unit + [0.5, 0, 0, 0, 0, 0, np.pi / 2]) - 1 / 3) < 1e-12
    octagon = 2 * (np.sqrt(2) - 1)
    assert abs(box_iou(unit, unit + [0, 0, 0, 0, 0, 0, np.pi / 4]) - octagon / (2 - octagon)) < 1e-12
    assert box_iou(unit, unit + [0, 0, 1.0, 0, 0, 0, 0]) == 0
    assert box_iou(unit, unit + [1.2, 1.2, 0, 0, 0, 0, 0.7]) == 0
    assert box_iou(unit, unit + [50.0, 0, 0, 0, 0, 0, 0]) == 0


def test_points_inside_agrees_with_the_rotation_matrix():
    rng = np.random.default_rng(1)
    boxes, points = random_boxes(rng, 6), rng.uniform(-1, 1, (300, 3))
    expected = np.stack([within(points, box) for box in boxes])
    assert expected.any() and not expected.all()
    assert np.array_equal(points_inside(torch.tensor(points), torch.tensor(boxes)).numpy(), expected)


def test_vectors_and_boxes_convert_both_ways():
    vectors = random_boxes(np.random.default_rng(2), 5)
    boxes = [box_from_vector(vector, "chair", 0.5) for vector in vectors]
    np.testing.assert_allclose(box_vectors(boxes), vectors, atol=1e-12)
    assert box_vectors([]).shape == (0, 7)
    assert boxes[0].label == "chair" and boxes[0].score == 0.5


def test_suppression_keeps_the_best_of_a_cluster():
    unit = np.array([0, 0, 0, 1, 1, 1, 0.0])
    boxes = np.stack([unit, unit + [0.1, 0, 0, 0, 0, 0, 0], unit + [3.0, 0, 0, 0, 0, 0, 0]])
    assert suppress(boxes, np.array([0.5, 0.9, 0.7]), 0.25) == [1, 2]
    assert suppress(boxes, np.array([0.5, 0.9, 0.7]), 1.0) == [1, 2, 0]
    assert suppress(np.zeros((0, 7)), np.zeros(0), 0.25) == []


def test_boxes_around_vote_however_they_are_written():
    """Half of the boxes are written the other way round: turned by a quarter, with length and width exchanged."""
    rng = np.random.default_rng(3)
    true = np.array([1.0, -2.0, 0.5, 1.6, 0.7, 0.9, 0.6])
    boxes = np.tile(true, (40, 1))
    boxes[:, :3] += rng.normal(0, 0.08, (40, 3))
    boxes[:, 3:6] *= np.exp(rng.normal(0, 0.15, (40, 3)))
    boxes[:, 6] += rng.normal(0, 0.15, 40)
    boxes[::2] = boxes[::2][:, [0, 1, 2, 4, 3, 5, 6]] + [0, 0, 0, 0, 0, 0, np.pi / 2]
    scores = rng.uniform(0.3, 1.0, 40)
    (voted,) = vote(boxes, scores, [7], 0.3)
    single = np.median([box_iou(box, true) for box in boxes])
    assert single < 0.7 and box_iou(voted, true) > 0.85
    assert voted[3] > voted[4]


def test_a_box_alone_or_among_worthless_ones_stays():
    boxes = np.array([[0, 0, 0.5, 1.0, 0.4, 1.0, 0.3], [2.0, 0, 0.5, 0.5, 0.5, 1.0, 0.0], [0.1, 0, 0.5, 3, 3, 3, 0.0]])
    (voted,) = vote(boxes, np.array([0.9, 0.9, 0.0]), [0], 0.3)
    assert box_iou(voted, boxes[0]) > 0.999
    np.testing.assert_array_equal(vote(boxes, np.ones(3), [2, 0], 0.0), boxes[[2, 0]])
    assert vote(np.zeros((0, 7)), np.zeros(0), [], 0.3).shape == (0, 7)


def test_two_things_side_by_side_stay_where_they_are():
    stools = np.array([[0, 0, 0.25, 0.34, 0.34, 0.5, 0.0], [0.35, 0, 0.25, 0.34, 0.34, 0.5, 0.0]])
    voted = vote(stools, np.array([0.9, 0.8]), [0, 1], 0.3)
    assert [box_iou(*pair) for pair in zip(voted, stools, strict=True)] == pytest.approx([1.0, 1.0])
    stools[:, 3:5] = 0.38  # estimates that touch a little move each other little
    voted = vote(stools, np.array([0.9, 0.8]), [0, 1], 0.3)
    assert np.abs(voted[:, :3] - stools[:, :3]).max() < 0.01
