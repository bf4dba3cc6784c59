import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import poses


def cameras(rng: np.random.Generator, count: int = 6) -> np.ndarray:
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
    T[:, :3, 3] = rng.normal(size=(count, 3))
    return T


def test_against_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    truth, predicted = cameras(rng), cameras(rng)
    rotation, translation = [], []
    for i in range(6):
        for j in range(i + 1, 6):
            a = predicted[i] @ np.linalg.inv(predicted[j])
            b = truth[i] @ np.linalg.inv(truth[j])
            rotation.append(np.degrees(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()))
            cosine = abs(a[:3, 3] @ b[:3, 3]) / np.linalg.norm(a[:3, 3]) / np.linalg.norm(b[:3, 3])
            translation.append(np.degrees(np.arccos(cosine)))
    errors = poses.relative_pose_errors(predicted, truth)
    np.testing.assert_allclose(errors.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(errors.translation, translation, atol=1e-5)


@pytest.mark.parametrize("order", ["vggt", "posediffusion"])
def test_another_world_and_scale_change_nothing(order):
    rng = np.random.default_rng(1)
    truth, predicted, world = cameras(rng), cameras(rng), cameras(rng, 1)[0]
    other = predicted @ world
    other[:, :3, 3] *= 7.0
    a = poses.relative_pose_errors(predicted, truth, order)
    b = poses.relative_pose_errors(other[:, :3], truth, order)
    np.testing.assert_allclose(a.rotation, b.rotation, atol=1e-5)
    np.testing.assert_allclose(a.translation, b.translation, atol=1e-5)
    assert poses.summary(poses.relative_pose_errors(truth, truth, order))["AUC@30"] == pytest.approx(100.0)


def test_the_order_matters_for_translation_only():
    rng = np.random.default_rng(2)
    truth, predicted = cameras(rng), cameras(rng)
    a = poses.relative_pose_errors(predicted, truth, "vggt")
    b = poses.relative_pose_errors(predicted, truth, "posediffusion")
    np.testing.assert_allclose(a.rotation, b.rotation, atol=1e-5)
    assert np.abs(a.translation - b.translation).max() > 1.0


def test_pure_rotation_and_undefined_poses():
    truth = np.tile(np.eye(4), (3, 1, 1))
    truth[:, :3, :3] = Rotation.from_euler("y", [[0], [20], [40]], degrees=True).as_matrix()
    errors = poses.relative_pose_errors(truth, truth)
    np.testing.assert_array_equal(errors.translation, [90.0, 90.0, 90.0])
    assert poses.summary(errors)["RRA@5"] == 100.0 and poses.summary(errors)["AUC@30"] == 0.0
    broken = truth.copy()
    broken[2, 0, 0] = np.nan
    np.testing.assert_array_equal(
        poses.relative_pose_errors(broken, truth).rotation > 1e5, [False, True, True]
    )  # pairs (0,1), (0,2), (1,2)


def test_summary_at_the_edges_of_bins():
    errors = poses.PairErrors(np.array([0.0, 5.0, 15.0, 30.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    result = poses.summary(errors)
    assert (result["RRA@5"], result["RRA@15"], result["RRA@30"]) == (25.0, 50.0, 75.0)
    # a whole degree opens its bin, so 5 counts from bin 5 on and 15 from bin 15 on; the last bin [29, 30] is closed
    assert result["AUC@30"] == pytest.approx(100 * (30 + 25 + 15 + 1) / 4 / 30)


def test_sets_are_pooled_by_pairs():
    good, bad = (poses.PairErrors(np.full(n, v), np.full(n, v)) for n, v in ((3, 0.5), (1, 80.0)))
    assert poses.summary([good, bad])["RRA@15"] == 75.0


def test_bad_input_says_so():
    T = np.tile(np.eye(4), (3, 1, 1))
    with pytest.raises(EvaluationError, match="at least 2"):
        poses.relative_pose_errors(T[:1], T[:1])
    with pytest.raises(EvaluationError, match=r"\[S, 4, 4\]"):
        poses.relative_pose_errors(T[0], T)
    with pytest.raises(EvaluationError, match="vgg"):
        poses.relative_pose_errors(T, T, "vgg")
    with pytest.raises(EvaluationError, match="no pair"):
        poses.summary([])
