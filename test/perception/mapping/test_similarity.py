"""The robust similarity fit against transforms known exactly and against independent solvers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.geometry.transforms import invert, is_rigid, nearest_rotation, rotation_angle
from vidllm_ros.perception.mapping.similarity import fit_similarity, mean_rotation

TRUE_ROTATION = Rotation.from_euler("xyz", [20, -50, 130], degrees=True).as_matrix()
TRUE_TRANSLATION = np.array([1.5, -2.0, 0.7])


def angle_between(a, b):
    """Independent of the code under test: the angle by scipy, in degrees."""
    return np.degrees(Rotation.from_matrix(a @ b.T).magnitude())


def pairs(count, scale, seed=0, noise=0.0):
    random = np.random.default_rng(seed)
    source = random.uniform(-3, 3, (count, 3))
    target = scale * source @ TRUE_ROTATION.T + TRUE_TRANSLATION
    return source, target + noise * random.normal(size=target.shape)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.3, 7.0])
def test_exact_pairs_give_the_exact_transform(scale):
    source, target = pairs(500, scale)
    fit = fit_similarity(source, target, TRUE_ROTATION[None])
    assert fit.scale == pytest.approx(scale, rel=1e-9)
    assert angle_between(fit.rotation, TRUE_ROTATION) < 1e-6
    np.testing.assert_allclose(fit.translation, TRUE_TRANSLATION, atol=1e-9)
    assert fit.residual < 1e-9


def test_a_kept_scale_is_kept():
    source, target = pairs(500, 1.02)
    fit = fit_similarity(source, target, TRUE_ROTATION[None], scale=1.0)
    assert fit.scale == 1.0
    assert angle_between(fit.rotation, TRUE_ROTATION) < 0.1


def test_gross_outliers_do_not_move_it():
    source, target = pairs(1000, 1.3, noise=0.01)
    random = np.random.default_rng(1)
    wrong = random.random(1000) < 0.3
    target[wrong] += random.uniform(-5, 5, (wrong.sum(), 3))
    fit = fit_similarity(source, target, TRUE_ROTATION[None])
    assert fit.scale == pytest.approx(1.3, rel=0.01)
    assert angle_between(fit.rotation, TRUE_ROTATION) < 0.3
    np.testing.assert_allclose(fit.translation, TRUE_TRANSLATION, atol=0.02)


def test_points_on_a_line_leave_the_rotation_to_the_cameras():
    line = np.linspace(-2, 2, 200)[:, None] * np.array([1.0, 0.2, -0.3])
    target = 1.3 * line @ TRUE_ROTATION.T + TRUE_TRANSLATION
    fit = fit_similarity(line, target, np.stack([TRUE_ROTATION] * 3))
    assert angle_between(fit.rotation, TRUE_ROTATION) < 1e-5
    assert fit.scale == pytest.approx(1.3, rel=1e-6)


def test_points_correct_noisy_cameras():
    source, target = pairs(1000, 1.0)
    random = np.random.default_rng(2)
    noisy = Rotation.from_rotvec(np.radians(5) * random.normal(size=(4, 3))).as_matrix() @ TRUE_ROTATION
    fit = fit_similarity(source, target, noisy)
    assert angle_between(fit.rotation, TRUE_ROTATION) < angle_between(mean_rotation(noisy), TRUE_ROTATION)


def test_scale_is_not_shrunk_by_noise_on_both_sides():
    random = np.random.default_rng(3)
    source, target = pairs(20000, 1.0)
    noise = 0.5
    fit = fit_similarity(
        source + noise * random.normal(size=source.shape),
        target + noise * random.normal(size=source.shape),
        TRUE_ROTATION[None],
    )
    # Least squares in one direction would give 1 / (1 + noise^2 / variance) = 0.92 here.
    assert fit.scale == pytest.approx(1.0, abs=0.01)


def test_weights_silence_pairs():
    source, target = pairs(100, 1.3)
    target[:60] += 3.0
    weights = np.r_[np.full(60, 1e-6), np.ones(40)]
    fit = fit_similarity(source, target, TRUE_ROTATION[None], weights)
    np.testing.assert_allclose(fit.translation, TRUE_TRANSLATION, atol=0.01)


def test_mean_rotation_is_the_geodesic_median_and_ignores_an_outlier():
    random = np.random.default_rng(4)
    good = Rotation.from_rotvec(np.radians(2) * random.normal(size=(9, 3))) * Rotation.from_matrix(TRUE_ROTATION)
    bad = Rotation.from_rotvec([0, 0, np.radians(90)]) * Rotation.from_matrix(TRUE_ROTATION)
    rotations = np.concatenate([good.as_matrix(), bad.as_matrix()[None]])

    def cost(vector):
        candidate = Rotation.from_rotvec(vector)
        return sum((candidate.inv() * Rotation.from_matrix(r)).magnitude() for r in rotations)

    best = minimize(
        cost, Rotation.from_matrix(TRUE_ROTATION).as_rotvec(), method="Nelder-Mead", options={"xatol": 1e-7}
    )
    mean = mean_rotation(rotations)
    assert angle_between(mean, Rotation.from_rotvec(best.x).as_matrix()) < 0.3
    assert angle_between(mean, TRUE_ROTATION) < 2.0


def test_nearest_rotation_is_a_rotation_for_any_matrix():
    random = np.random.default_rng(5)
    matrices = random.normal(size=(50, 3, 3))
    rotations = nearest_rotation(matrices)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, -1, -2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    for matrix, rotation in zip(matrices, rotations, strict=True):
        expected, _ = Rotation.align_vectors(matrix.T, np.eye(3))  # Kabsch: the same problem
        np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-8)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.5, 90.0, 179.999])
def test_rotation_angle_is_exact_at_both_ends(degrees):
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    assert np.degrees(rotation_angle(rotation)) == pytest.approx(degrees, rel=1e-5, abs=1e-9)


def test_invert_and_is_rigid():
    random = np.random.default_rng(6)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3] = Rotation.random(5, rng=random).as_matrix()
    poses[:, :3, 3] = random.normal(size=(5, 3))
    np.testing.assert_allclose(invert(poses), np.linalg.inv(poses), atol=1e-12)
    assert is_rigid(poses[0])
    assert not is_rigid(np.diag([1.0, 1.0, -1.0, 1.0]))
    assert not is_rigid(2 * poses[0])
    assert not is_rigid(np.full((4, 4), np.nan))
