"""Which boxes a description means, with a real network of random weights and a decoder that knows the answer."""

import numpy as np
import pytest
import torch
from miniature import vidllm, window
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.benchmarks.candidates import find, most_probable, nearest
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.overlap import enclosing, moved
from vidllm_ros.model.reasoning.boxes import box_from_vector


def upright(yaw: float, *shift: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("z", yaw).as_matrix(), shift
    return pose


def test_boxes_move_with_their_corners():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.normal(size=(5, 3)), rng.uniform(0.2, 2, (5, 3)), rng.uniform(-3, 3, (5, 1))], axis=1)
    pose = upright(0.7, 1.0, -2.0, 0.3)
    for before, after, around in zip(boxes, moved(boxes, pose), enclosing(moved(boxes, pose)), strict=True):
        corners = box_from_vector(before).corners() @ pose[:3, :3].T + pose[:3, 3]
        np.testing.assert_allclose(box_from_vector(after).corners(), corners, atol=1e-12)
        low, high = corners.min(axis=0), corners.max(axis=0)
        np.testing.assert_allclose(around, [*(low + high) / 2, *(high - low)], atol=1e-12)


def test_the_nearest_candidate_overlaps_most_or_is_closest():
    candidates = np.array([[0, 0, 0, 1, 1, 1], [0.3, 0, 0, 1, 1, 1], [5, 0, 0, 1, 1, 1]], float)
    own = np.array([[0.25, 0, 0, 1, 1, 1, 0], [0.3, 0, 0, 1, 1, 1, 0], [9, 0, 0, 1, 1, 1, 0]], float)
    found = nearest(own, candidates)
    assert found.chosen == (1, 2) and found.boxes[:, 0].tolist() == [0.3, 5]  # the first two mean the same one
    assert nearest(own[:0], candidates).chosen == () and nearest(own, candidates[:0]).chosen == ()


@pytest.mark.parametrize(
    ("probabilities", "one", "any_number"),
    [
        ([0.5, 0.2, 0.2, 0.1], [0], [0]),
        ([0.2, 0.35, 0.3, 0.15], [1], [1, 2]),
        ([0.2, 0.1, 0.1, 0.6], [0], []),  # "none of them" is likeliest
        ([0.3, 0.3, 0.1, 0.3], [0], [0, 1]),
        ([1.0], [], []),
    ],
)
def test_candidates_by_probability(probabilities, one, any_number):
    logits = np.log(probabilities) + 3.0
    assert most_probable(logits, several=False) == one
    assert most_probable(logits, several=True) == any_number


@pytest.fixture(scope="module")
def model():
    return vidllm(seed=1)


@pytest.fixture(scope="module")
def prefix(model):
    return model.read_scene(model.build_scene(model.reconstruct(window())))


def test_own_boxes_come_back_in_world(model, prefix, monkeypatch):
    pose = upright(1.1, 3.0, 4.0, 1.5)
    truth = np.array([[3.5, 4.2, 1.0, 0.6, 0.4, 0.8, 0.0], [2.0, 3.0, 0.5, 1.0, 1.0, 1.0, 0.0]])
    seen = moved(truth, np.linalg.inv(pose))

    def locate(scene, states, labels, min_score):
        scores = ([0.9, 0.6], [0.3, 0.2])  # of both phrases
        return [
            box_from_vector(box, label, score)
            for label, given in zip(labels, scores, strict=True)
            for box, score in zip(seen, given, strict=True)
            if score >= min_score
        ]

    monkeypatch.setattr(model.grounding, "locate", locate)
    first, second = find(model, prefix, ["the chair", "the table"], pose)
    np.testing.assert_allclose(enclosing(first.boxes), truth[:1, :6], atol=1e-9)
    assert len(second.boxes) == 1  # the best one, however low its score
    first, second = find(model, prefix, ["the chair", "the table"], pose, several=True)
    np.testing.assert_allclose(enclosing(first.boxes), truth[:, :6], atol=1e-9)
    assert len(second.boxes) == 0
    first, _ = find(model, prefix, ["the chair", "the table"], pose, truth[::-1, :6], "nearest", several=True)
    assert first.chosen == (1, 0)


def test_the_proposal_head_sees_candidates_in_the_scene_frame(model, prefix, monkeypatch):
    pose = upright(-0.4, 1.0, 2.0, 1.0)
    candidates = np.array([[0, 0, 0, 1, 2, 1], [1, 1, 0.5, 1, 1, 1]], float)
    given = []
    score = model.grounding.score_proposals

    def spy(boxes, scene, states):
        given.append(boxes)
        return score(boxes, scene, states)

    monkeypatch.setattr(model.grounding, "score_proposals", spy)
    phrases = ["the chair", "it is brown"]
    found = find(model, prefix, phrases, pose, candidates, "scored")
    expected = moved(np.c_[candidates, [0, 0]], np.linalg.inv(pose))
    np.testing.assert_allclose(given[0].numpy(), expected, atol=1e-6)
    with torch.inference_mode():
        logits = score(given[0], prefix.scene, model.language.loc_states(prefix, phrases))
    assert [f.chosen[0] for f in found] == logits[:, :-1].argmax(dim=1).tolist()
    assert find(model, prefix, phrases, pose, candidates[:0], "scored")[0].chosen == ()


def test_many_phrases_and_one_that_cannot_be_read(model, prefix):
    phrases = [f"the chair {k}" for k in range(40)]
    phrases[5] = "word " * 400
    found = find(model, prefix, phrases, np.eye(4))
    assert len(found) == 40 and len(found[5].boxes) == 0
    assert all(len(f.boxes) == 1 for k, f in enumerate(found) if k != 5)
    alone = find(model, prefix, [phrases[39]], np.eye(4))[0]
    np.testing.assert_allclose(found[39].boxes, alone.boxes, atol=1e-4)


def test_what_cannot_be_done_says_so(model, prefix):
    with pytest.raises(EvaluationError, match="boxes 'best' are unknown: use one of own, nearest, scored"):
        find(model, prefix, ["a"], np.eye(4), way="best")
    with pytest.raises(EvaluationError, match="there are none"):
        find(model, prefix, ["a"], np.eye(4), way="nearest")
