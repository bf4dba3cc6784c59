"""Referred objects: Multi3DRefer's F1 and ReferIt3D's accuracy, by hand and by brute force."""

import ast
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import grounding

UNIT = [0.0, 0, 0, 1, 1, 1]


def boxes(*positions: float) -> np.ndarray:
    """Unit boxes along x."""
    return np.array([[x, 0, 0, 1, 1, 1] for x in positions], dtype=np.float64).reshape(-1, 6)


def test_descriptions_of_nothing():
    scores = grounding.multi3drefer_scores([boxes(), boxes(0)], [boxes(), boxes()])
    assert scores.tolist() == [1.0, 0.0]
    assert grounding.multi3drefer_scores([np.zeros((0, 6))], [boxes(0)]).tolist() == [0.0]


def test_more_predictions_than_targets_and_duplicates_cost_precision():
    assert grounding.multi3drefer_f1([boxes(0, 5, 9)], [boxes(0)]) == pytest.approx(2 / 4)
    assert grounding.multi3drefer_f1([boxes(0, 0)], [boxes(0)]) == pytest.approx(2 / 3)
    assert grounding.multi3drefer_f1([boxes(0)], [boxes(0, 5)]) == pytest.approx(2 / 3)


def test_the_sum_of_ious_is_maximised_and_not_the_number_of_hits():
    # IoUs of predictions (rows) with targets (columns): one pairing has two hits above 0.25, the other the larger sum
    predicted, truth = boxes(0.0, 0.55), boxes(0.0, -0.55)
    iou = grounding.box_iou(predicted, truth)
    hits_there = (iou[[0, 1], [1, 0]] >= 0.25).sum()
    hits_here = (iou[[0, 1], [0, 1]] >= 0.25).sum()
    assert (hits_there, hits_here) == (2, 1) and iou[0, 0] + iou[1, 1] > iou[0, 1] + iou[1, 0]
    assert grounding.multi3drefer_f1([predicted], [truth], 0.25) == pytest.approx(0.5)
    # a greedy pairing would take the best pair first and lose the others
    predicted, truth = boxes(0.0, 0.4), boxes(0.3, -0.5)
    best_first = grounding.box_iou(predicted, truth)
    assert best_first.argmax() == 2 and grounding.multi3drefer_f1([predicted], [truth], 0.3) == 1.0


places = st.lists(st.floats(-2, 2).map(lambda x: round(x, 2)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(places, places, st.sampled_from([0.25, 0.5]))
def test_against_every_pairing(ours, theirs, threshold):
    a, b = boxes(*ours), boxes(*theirs)
    score = grounding.multi3drefer_f1([a], [b], threshold)
    if not len(a) or not len(b):
        assert score == float(len(a) == len(b))
        return
    iou = grounding.box_iou(a, b, float(np.finfo(np.float32).eps), np.float32)
    iou = iou if len(a) <= len(b) else iou.T
    rows = range(len(iou))
    pairings = [iou[rows, list(columns)] for columns in permutations(range(iou.shape[1]), len(iou))]
    largest = max(float(pairing.sum()) for pairing in pairings)
    possible = {int((p >= threshold).sum()) for p in pairings if float(p.sum()) >= largest - 1e-5}
    assert any(score == pytest.approx(2 * hits / (len(a) + len(b))) for hits in possible)
    assert grounding.multi3drefer_f1([a[::-1]], [b], threshold) == pytest.approx(score) or len(possible) > 1


def test_an_iou_of_exactly_one_half_in_the_arithmetic_of_each_evaluator():
    predicted, truth = [np.array([[0.0, 0, 0, 1, 1, 2]])], [np.array([UNIT])]
    assert grounding.multi3drefer_f1(predicted, truth, 0.5) == 1.0  # float32: the epsilon drowns in a union of 2
    assert grounding.multi3drefer_f1(predicted, truth, 0.5, 1e-8, np.float64) == 1.0  # rounded to float32 before >=
    smaller = [np.array([[0.0, 0, 0, 0.5, 1, 1]])]
    # the same IoU, but a union of 1, in whose float32 the epsilon survives
    assert grounding.multi3drefer_f1(smaller, truth, 0.5) == 0.0
    assert grounding.multi3drefer_f1(smaller, truth, 0.5, 1e-8, np.float64) == 1.0


def test_scores_by_type():
    scores = grounding.multi3drefer_scores([boxes(), boxes(0), boxes(0)], [boxes(), boxes(0), boxes(5)])
    kinds = np.array(["zt_wo_d", "st_w_d", "st_w_d"])
    result = grounding.shares(scores, {kind: kinds == kind for kind in ("zt_wo_d", "st_w_d", "mt")})
    assert result["zt_wo_d"] == 1.0 and result["st_w_d"] == 0.5 and np.isnan(result["mt"])


def test_referit3d_subsets():
    stimuli = [
        "scene0011_00-office_chair-2-7-9",
        "scene0011_00-door-1-3",  # the only one of its class: no distractor
        "scene0015_00-window-3-1-2-4",
        "scene0015_00-shower_curtain-24-1",
    ]
    tokens = [
        ast.literal_eval(text)
        for text in (
            "['the', 'chair', 'on', 'the', 'left']",
            "['the', 'door', \"that\", \"'s\", 'leftmost']",
            "['the', 'window', 'over', 'there']",
            "['Left', 'lefty', \"don't\"]",  # exact words in lower case only
        )
    ]
    result = grounding.referit3d_accuracy([7, 3, 9, -1], [7, 3, 1, 1], stimuli, tokens)
    assert result["overall"] == 0.5
    assert (result["easy"], result["hard"]) == (1.0, 0.0)
    assert (result["view-dependent"], result["view-independent"]) == (1.0, 0.0)
    assert grounding.referit3d_accuracy([1], [1]) == {"overall": 1.0}
    assert np.isnan(grounding.referit3d_accuracy([1], [1], stimuli[:1])["hard"])


def test_unusable_requests_say_so():
    with pytest.raises(EvaluationError, match="0 lists of predicted and 1 of true"):
        grounding.multi3drefer_f1([], [boxes(0)])
    with pytest.raises(EvaluationError, match="finite"):
        grounding.multi3drefer_f1([np.full((1, 6), np.nan)], [boxes(0)])
    with pytest.raises(EvaluationError, match="lists of 1, 2 entries"):
        grounding.referit3d_accuracy([1], [1, 2])
    with pytest.raises(EvaluationError, match="lists of 0, 0 entries"):
        grounding.referit3d_accuracy([], [])
    with pytest.raises(EvaluationError, match="'scene-chair' is not of the form"):
        grounding.referit3d_accuracy([1], [1], ["scene-chair"])
    with pytest.raises(EvaluationError, match="ast.literal_eval"):
        grounding.referit3d_accuracy([1], [1], None, ["['left']"])
