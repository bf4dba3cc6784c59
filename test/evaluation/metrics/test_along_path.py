import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.along_path import errors_by_length, path_errors, write_path_errors
from vidllm_ros.evaluation.report import plots


def square_path(side: float = 4.0, step: float = 0.5) -> np.ndarray:
    """Once around a square, a pose every half metre, looking ahead."""
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side], [0, 0]], dtype=np.float64)
    poses = []
    for k in range(4):
        for t in np.arange(0, side, step):
            pose = np.eye(4)
            pose[:3, :3] = Rotation.from_euler("z", k * np.pi / 2).as_matrix()
            pose[:2, 3] = corners[k] + t / side * (corners[k + 1] - corners[k])
            poses.append(pose)
    return np.array(poses)


def test_another_world_has_no_error_and_an_outlier_has_its_own():
    truth = square_path()
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec([0.3, -1.0, 0.4]).as_matrix()
    world[:3, 3] = 7, -3, 1
    stamps = np.arange(len(truth)) * 10**8
    errors = path_errors(stamps, world @ truth, truth)
    assert errors.position.max() < 1e-9 and errors.rotation.max() < 1e-5
    np.testing.assert_allclose(errors.travelled, 0.5 * np.arange(len(truth)))
    np.testing.assert_allclose(errors.predicted, truth[:, :3, 3], atol=1e-9)
    turned = truth.copy()
    turned[5, :3, :3] = turned[5, :3, :3] @ Rotation.from_euler("x", 20, degrees=True).as_matrix()
    errors = path_errors(stamps, turned, truth)
    assert errors.rotation.argmax() == 5 and errors.rotation[5] == pytest.approx(20, abs=1e-6)


def test_errors_by_length_of_a_way_that_is_too_long():
    truth = square_path()
    predicted = truth.copy()
    predicted[:, :3, 3] *= 1.1
    rows = errors_by_length(predicted, truth, (0.5, 1.0, 2.0, 1000.0))
    assert [row.length for row in rows] == [0.5, 1.0, 2.0]
    assert [row.stretches for row in rows] == [31, 30, 28]  # of 32 poses, 31 steps of half a metre
    assert rows[0].translation == pytest.approx(0.05) and rows[0].rotation == pytest.approx(0, abs=1e-6)
    # a stretch of one metre around a corner is 0.71 m long as the crow flies: 3 of 30 go around one
    assert rows[1].translation == pytest.approx((27 * 0.1 + 3 * 0.1 * np.sqrt(0.5)) / 30)


def test_drift_grows_with_the_length():
    truth = square_path(20.0)
    predicted = truth.copy()
    for k in range(1, len(truth)):  # each step turns a little too far
        drift = np.eye(4)
        drift[:3, :3] = Rotation.from_euler("z", 0.2, degrees=True).as_matrix()
        predicted[k] = predicted[k - 1] @ np.linalg.inv(truth[k - 1]) @ truth[k] @ drift
    rows = errors_by_length(predicted, truth)
    assert [row.length for row in rows] == [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    for row in rows:
        assert row.rotation == pytest.approx(0.2 * max(1, row.length / 0.5), rel=1e-6)


def test_a_camera_that_stands_still_has_no_stretches():
    still = np.tile(np.eye(4), (5, 1, 1))
    assert errors_by_length(still, still) == ()
    with pytest.raises(EvaluationError, match="one line or in one place"):
        path_errors(np.arange(5), still, still)


def test_figures_and_table_hold_the_numbers(tmp_path):
    truth = square_path()
    predicted = truth.copy()
    predicted[3, 2, 3] += 0.4
    errors = path_errors(10**18 + np.arange(len(truth)) * 10**8, predicted, truth)
    write_path_errors(tmp_path / "errors.csv", errors)
    with (tmp_path / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert int(rows[3]["stamp_ns"]) == 10**18 + 3 * 10**8 and float(rows[3]["seconds"]) == pytest.approx(0.3)
    assert float(rows[3]["position_error_m"]) == pytest.approx(errors.position[3], abs=1e-6)
    true, ours = plots.way(errors)["data"]
    assert (true["name"], ours["name"]) == ("truth", "node") and len(true["x"]) == len(truth)
    position, orientation = plots.over_time(errors)["data"]
    assert np.argmax(position["y"]) == 3 and max(orientation["y"]) < 5 and position["x"][3] == pytest.approx(0.3)
    lengths = errors_by_length(predicted, truth)
    bars = plots.by_length(lengths)["data"][0]
    assert bars["x"][0] == "0.25 m" and bars["y"][0] == pytest.approx(400 * lengths[0].translation)


def test_long_ways_are_thinned_in_the_page_only():
    truth = np.tile(np.eye(4), (20_000, 1, 1))
    angle = np.linspace(0, 6, len(truth))
    truth[:, 0, 3], truth[:, 1, 3] = np.cos(angle), np.sin(angle)
    errors = path_errors(np.arange(len(truth)), truth, truth)
    assert len(errors.position) == 20_000
    drawn = plots.way(errors)["data"][0]
    assert len(drawn["x"]) == plots.MAX_POINTS and drawn["x"][-1] == pytest.approx(np.cos(6), abs=1e-4)
