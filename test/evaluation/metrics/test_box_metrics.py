import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import grounding
from vidllm_ros.model.outputs import Box3D


def box(x=0.0, score=1.0, label="chair", yaw=0.0) -> Box3D:
    rotation = Rotation.from_euler("z", yaw).as_matrix()
    return Box3D(np.array([x, 0.0, 0.0]), np.ones(3), rotation, label, score)


def test_iou_of_axis_aligned_boxes_by_hand():
    a = np.array([[0, 0, 0, 2, 2, 2]])
    b = np.array([[1, 0, 0, 2, 2, 2], [0, 0, 0, 1, 1, 1], [9, 0, 0, 2, 2, 2], [2, 0, 0, 2, 2, 2]])
    np.testing.assert_allclose(grounding.box_iou(a, b), [[4 / 12, 1 / 8, 0, 0]], rtol=1e-15)
    assert grounding.box_iou(a, a)[0, 0] == 1.0
    assert grounding.box_iou(np.zeros((0, 6)), b).shape == (0, 4)
    assert grounding.box_iou(np.zeros((1, 6)), np.zeros((1, 6)))[0, 0] == 0.0


def test_exact_half_passes_unless_an_epsilon_is_asked_for():
    a, b = np.array([[0.0, 0, 0, 1, 1, 1]]), np.array([[0.0, 0, 0, 1, 1, 2]])
    assert grounding.accuracy(np.diag(grounding.box_iou(a, b)), 0.5) == 1.0
    assert grounding.accuracy(np.diag(grounding.box_iou(a, b, epsilon=1e-8)), 0.5) == 0.0


def test_oriented_iou_of_squares_turned_by_45_degrees():
    a = np.array([[0, 0, 0, 1, 1, 1, 0.0]])
    b = np.array([[0, 0, 0, 1, 1, 1, np.pi / 4]])
    octagon = 2 * (np.sqrt(2) - 1)
    assert grounding.oriented_box_iou(a, b)[0, 0] == pytest.approx(octagon / (2 - octagon), rel=1e-14)


numbers = st.floats(-1.5, 1.5)
sizes = st.floats(0.2, 2.0)
boxes = st.tuples(numbers, numbers, numbers, sizes, sizes, sizes, st.floats(-4, 4))


@settings(max_examples=30, deadline=None)
@given(boxes, boxes)
def test_oriented_iou_against_sampling(a, b):
    a, b = np.array(a), np.array(b)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (40_000, 3)) * a[3:6]
    world = points @ Rotation.from_euler("z", a[6]).as_matrix().T + a[:3]
    inside = np.abs((world - b[:3]) @ Rotation.from_euler("z", b[6]).as_matrix()) <= b[3:6] / 2
    common = inside.all(axis=1).mean() * a[3:6].prod()
    expected = common / (a[3:6].prod() + b[3:6].prod() - common)
    assert grounding.oriented_box_iou(a[None], b[None])[0, 0] == pytest.approx(expected, abs=0.012)


@settings(max_examples=50, deadline=None)
@given(boxes, boxes, st.floats(-3, 3))
def test_oriented_iou_is_symmetric_and_ignores_the_world(a, b, yaw):
    a, b = np.array([a]), np.array([b])
    iou = grounding.oriented_box_iou(a, b)
    np.testing.assert_allclose(grounding.oriented_box_iou(b, a), iou, atol=1e-12)
    turned = []
    for box7 in (a, b):
        t = box7.copy()
        t[:, :3] = t[:, :3] @ Rotation.from_euler("z", yaw).as_matrix().T + [3.0, -1.0, 2.0]
        t[:, 6] += yaw
        turned.append(t)
    np.testing.assert_allclose(grounding.oriented_box_iou(*turned), iou, atol=1e-12)
    np.testing.assert_allclose(np.diag(grounding.oriented_box_iou(a, a)), 1.0, atol=1e-12)


def test_without_turn_oriented_iou_is_the_axis_aligned_one():
    rng = np.random.default_rng(0)
    a, b = (np.hstack([rng.normal(size=(n, 3)), rng.uniform(0.2, 2, (n, 3))]) for n in (30, 20))
    oriented = grounding.oriented_box_iou(np.c_[a, np.zeros(30)], np.c_[b, np.zeros(20)])
    np.testing.assert_allclose(oriented, grounding.box_iou(a, b), atol=1e-14)
    quarter = grounding.oriented_box_iou(np.c_[a, np.full(30, np.pi / 2)], np.c_[b, np.zeros(20)])
    np.testing.assert_allclose(quarter, grounding.box_iou(a[:, [0, 1, 2, 4, 3, 5]], b), atol=1e-14)


def test_boxes_that_cannot_be_compared_say_so():
    leaning = Box3D(np.zeros(3), np.ones(3), Rotation.from_euler("x", 5, degrees=True).as_matrix(), "lamp")
    with pytest.raises(EvaluationError, match="'lamp' leans 5.00 degrees"):
        grounding.to_array([leaning])
    with pytest.raises(EvaluationError, match=r"\[N, 6\]"):
        grounding.box_iou(np.ones((2, 7)), np.ones((2, 6)))
    with pytest.raises(EvaluationError, match="finite"):
        grounding.box_iou(np.full((1, 6), np.nan), np.ones((1, 6)))
    with pytest.raises(EvaluationError, match="at least 0"):
        grounding.oriented_box_iou(-np.ones((1, 7)), np.ones((1, 7)))


def test_scanrefer_accuracy_counts_missing_predictions_as_wrong():
    truth = np.tile([0.0, 0, 0, 1, 1, 1], (4, 1))
    predicted = truth.copy()
    predicted[1, 5] = 1.9
    predicted[2, 0] = 0.5  # IoU 1/3
    predicted[3] = np.nan
    assert grounding.scanrefer_accuracy(predicted, truth) == {"Acc@0.25": 0.75, "Acc@0.5": 0.5}
    split = grounding.scanrefer_accuracy(predicted, truth, unique=[True, False, True, False])
    assert (split["Acc@0.25 unique"], split["Acc@0.5 unique"]) == (1.0, 0.5)
    assert (split["Acc@0.25 multiple"], split["Acc@0.5 multiple"]) == (0.5, 0.5)
    assert np.isnan(grounding.scanrefer_accuracy(predicted, truth, unique=[True] * 4)["Acc@0.5 multiple"])
    with pytest.raises(EvaluationError, match="names 1 items where there are 4"):
        grounding.scanrefer_accuracy(predicted, truth, unique=[True])


def test_scanrefer_misses_an_iou_of_exactly_one_half_as_its_evaluator_does():
    truth = np.tile([0.0, 0, 0, 1, 1, 1], (2, 1))
    predicted = truth * [[1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 4]]  # IoU 0.5 and 0.25
    assert grounding.scanrefer_accuracy(predicted, truth) == {"Acc@0.25": 0.5, "Acc@0.5": 0.0}
    assert grounding.scanrefer_accuracy(predicted, truth, epsilon=0.0) == {"Acc@0.25": 1.0, "Acc@0.5": 0.5}


def test_flat_and_far_boxes_share_nothing():
    flat, far = np.array([[0.0, 0, 0, 1, 1, 0]]), np.array([[1e6, 0, 0, 1, 1, 1]])
    solid = np.array([[0.0, 0, 0, 1, 1, 1]])
    for a, b in ((flat, flat), (flat, solid), (far, solid)):
        assert grounding.box_iou(a, b)[0, 0] == 0.0 and grounding.box_iou(a, b, 1e-8, np.float32)[0, 0] == 0.0
    assert grounding.box_iou(far, far)[0, 0] == 1.0


def test_average_precision_by_hand():
    truth = [[box(0.0), box(10.0)], [box(0.0)]]
    predicted = [[box(0.0, 0.9), box(0.05, 0.8), box(10.0, 0.3)], [box(50.0, 0.7)]]
    # by score: hit (1/1), second on the same box: miss (1/2), miss (1/3), hit (2/4); three true boxes
    assert grounding.average_precision(predicted, truth, 0.25) == pytest.approx((1.0 + 0.5) / 3)
    assert grounding.average_precision(truth, truth, 0.5) == 1.0
    assert grounding.average_precision([[], []], truth, 0.5) == 0.0
    assert np.isnan(grounding.average_precision(predicted, [[], []], 0.5))


def test_mean_average_precision_is_over_the_labels_of_the_truth():
    truth = [[box(0.0, label="chair"), box(5.0, label="table")]]
    predicted = [[box(0.0, label="chair"), box(5.0, label="chair"), box(9.0, label="lamp")]]
    assert grounding.mean_average_precision(predicted, truth) == {"chair": 1.0, "table": 0.0, "mAP": 0.5}


def test_merging_keeps_the_surest_of_what_overlaps():
    boxes = [box(0.0, 0.5), box(0.1, 0.9), box(0.2, 0.3, "table"), box(5.0, 0.2), box(0.45, 0.4)]
    kept = grounding.merged(boxes)
    assert [(b.label, b.score) for b in kept] == [("chair", 0.9), ("table", 0.3), ("chair", 0.2)]
    assert grounding.merged([]) == []
