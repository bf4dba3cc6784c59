"""Trajectory errors and association against evo 1.38.1 (constants, found with it) and the rule of the TUM tools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.metrics import trajectory
from vidllm_ros.evaluation.recordings.association import one_to_one

WORLD = Rotation.from_euler("xyz", [0.4, -0.2, 1.0]).as_matrix()


def monocular_path() -> tuple[np.ndarray, np.ndarray]:
    """A path of 25 poses and a noisy estimate of it, 0.6 times as large, in another world."""
    k = np.arange(25)
    truth = np.tile(np.eye(4), (25, 1, 1))
    ours = truth.copy()
    turns = np.stack([0.05 * k, np.sin(0.3 * k), 0.02 * k], 1)
    truth[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    truth[:, :3, 3] = np.stack([np.cos(0.2 * k), np.sin(0.25 * k), 0.1 * k], 1)
    noise = 0.02 * np.stack([np.sin(3.0 * k), np.cos(5.0 * k), np.sin(7.0 * k)], 1)
    ours[:, :3, :3] = WORLD @ truth[:, :3, :3] @ Rotation.from_rotvec(noise).as_matrix()
    ours[:, :3, 3] = 0.6 * truth[:, :3, 3] @ WORLD.T + [1.0, -2.0, 0.5]
    ours[:, :3, 3] += 0.03 * np.stack([np.sin(11.0 * k), np.cos(13.0 * k), np.sin(17.0 * k)], 1)
    return ours, truth


# ATE: RMSE, median, largest. RPE: RMSE with a delta of 1 frame, of 3 frames, of 3 frames from every start.
EVO = {
    "none": (
        (2.8780375980826087, 2.999409966271837, 3.2559426028757326),
        (0.10969749399079125, 0.2930683810754953, 0.2927151726246372),
    ),
    "se3": (
        (0.48795398840268545, 0.5082116611759486, 0.6456139840611378),
        (0.10969749399079125, 0.2930683810754952, 0.292715172624637),
    ),
    "sim3": (
        (0.060324317720317266, 0.06014774917939247, 0.08477921376748525),
        (0.07580806998833599, 0.07163241966562281, 0.07052935218230322),
    ),
}
EVO_ROTATION = (1.930139266745677, 2.567492475510013, 2.5371070742913293)  # degrees, whatever the alignment


@pytest.mark.parametrize("alignment", EVO)
def test_errors_of_a_monocular_estimate(alignment):
    ours, truth = monocular_path()
    absolute, relative = EVO[alignment]
    errors = trajectory.ate(ours, truth, alignment)
    assert (errors.rmse, errors.median, errors.max) == pytest.approx(absolute, rel=1e-10)
    for (delta, everywhere), translation, rotation in zip(
        ((1, False), (3, False), (3, True)), relative, EVO_ROTATION, strict=True
    ):
        found = trajectory.rpe(ours, truth, alignment, delta, everywhere)
        assert found.translation.rmse == pytest.approx(translation, rel=1e-10)
        assert found.rotation.rmse == pytest.approx(rotation, rel=1e-8)


def test_a_clock_offset_a_gap_and_a_denser_estimate():
    truth = np.array([0, 100, 200, 900, 1000, 1100]) * 10**6
    estimate = 2 * 10**9 + np.arange(40) * 30 * 10**6
    i, j = trajectory.associate(estimate, truth, 0.01, offset=2.0)
    # evo gives the same but for (1, 3): four pairs lie exactly on the limit, and its floats lose that one
    assert (j.tolist(), i.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 3, 7, 30, 33, 37])
    i, j = one_to_one(estimate, truth, 0.02, offset=2.0)
    assert (j.tolist(), i.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 3, 7, 30, 33, 37])
    assert len(trajectory.associate(estimate, truth)[0]) == len(one_to_one(estimate, truth)[0]) == 0


def test_each_stamp_serves_once_and_the_limit_is_exclusive():
    ms = 10**6
    i, j = one_to_one(np.array([0, 5, 10]) * ms, np.array([4]) * ms)
    assert (i.tolist(), j.tolist()) == ([1], [0])  # the nearest wins, the others stay alone
    assert len(one_to_one(np.array([0]), np.array([20 * ms]))[0]) == 0
    assert len(one_to_one(np.array([0]), np.array([20 * ms - 1]))[0]) == 1
    assert len(one_to_one(np.zeros(0), np.array([1]))[0]) == 0


stamps = st.lists(st.integers(0, 200), max_size=10, unique=True).map(
    lambda rows: np.array(rows, dtype=np.int64) * 10**6
)


@settings(max_examples=80, deadline=None)
@given(stamps, stamps)
def test_one_to_one_against_all_pairs(predicted, truth):
    found = one_to_one(predicted, truth)
    every = sorted((abs(a - b), a, b) for a in predicted for b in truth if abs(a - b) < 20 * 10**6)
    left_a, left_b, expected = set(predicted.tolist()), set(truth.tolist()), []
    for _, a, b in every:
        if a in left_a and b in left_b:
            left_a.remove(a)
            left_b.remove(b)
            expected.append((a, b))
    assert list(zip(predicted[found[0]], truth[found[1]], strict=True)) == sorted(expected)
