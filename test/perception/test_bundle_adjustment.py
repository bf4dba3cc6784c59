"""Bundle adjustment against exact scenes, and against an independent evaluation of what it minimises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation

from vidllm_ros.perception import bundle_adjustment
from vidllm_ros.perception.bundle_adjustment import Observations, adjust
from vidllm_ros.perception.transforms import invert, is_rigid

FRAMES = 8


def camera_path() -> np.ndarray:
    """T_camera_world [8, 4, 4] of a camera that walks and turns, the first one the identity."""
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    for index in range(FRAMES):
        poses[index, :3, :3] = Rotation.from_euler("yx", [4.0 * index, 1.0 * index], degrees=True).as_matrix()
        poses[index, :3, 3] = [0.08 * index, 0.01 * index, -0.05 * index]
    return poses


def disturbed(poses: np.ndarray, degrees: float = 1.0, metres: float = 0.02) -> np.ndarray:
    """The same path with an error in every step, which adds up, as a network's does."""
    random = np.random.default_rng(1)
    result = poses.copy()
    for index in range(1, FRAMES):
        error = np.eye(4)
        error[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * random.normal(size=3)).as_matrix()
        error[:3, 3] = metres * random.normal(size=3)
        result[index] = error @ poses[index] @ invert(poses[index - 1]) @ result[index - 1]
    return result


def observe(poses: np.ndarray, *, noise: float = 0.0, wrong: float = 0.0, skip: tuple[int, ...] = ()) -> Observations:
    """Forty points of the scene for each pair of frames, in both directions; a share of them is wrong."""
    random = np.random.default_rng(0)
    sources, targets, points, seen = [], [], [], []
    for first in range(FRAMES):
        for second in range(FRAMES):
            if first == second or abs(first - second) > 3 or first in skip or second in skip:
                continue
            own = random.uniform([-1, -0.7, 1.5], [1, 0.7, 4.0], (40, 3))
            other = own @ (T := poses[second] @ invert(poses[first]))[:3, :3].T + T[:3, 3]
            projected = other[:, :2] / other[:, 2:] + noise * random.normal(size=(40, 2))
            gross = random.random(40) < wrong
            projected[gross] = random.uniform(-0.7, 0.7, (gross.sum(), 2))
            sources.append(np.full(40, first))
            targets.append(np.full(40, second))
            points.append(own)
            seen.append(projected)
    return Observations(*(np.concatenate(values) for values in (sources, targets, points, seen)))


def errors(poses: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Largest error of a camera: degrees, metres."""
    difference = poses @ invert(truth)
    degrees = np.degrees(Rotation.from_matrix(difference[:, :3, :3]).magnitude())
    return float(degrees.max()), float(np.linalg.norm(difference[:, :3, 3], axis=1).max())


def test_exact_matches_outvote_the_network():
    truth = camera_path()
    start = disturbed(truth)
    assert errors(start, truth)[0] > 2 and errors(start, truth)[1] > 0.03
    poses, factors = adjust(start, observe(truth))
    degrees, metres = errors(poses, truth)
    assert degrees < 0.1 and metres < 0.01
    np.testing.assert_allclose(factors, 1, atol=0.02)
    np.testing.assert_array_equal(poses[0], np.eye(4))
    assert all(is_rigid(pose) for pose in poses)


def test_wrong_matches_have_no_say():
    truth = camera_path()
    degrees, metres = errors(adjust(disturbed(truth), observe(truth, noise=0.002, wrong=0.3))[0], truth)
    assert degrees < 0.2 and metres < 0.02


def test_depths_of_another_scale_are_brought_back_part_of_the_way():
    """The camera's motion is known from the network, the depth of frame 3 is 6 % too large; both have their say."""
    truth = camera_path()
    observations = observe(truth)
    points = np.where(observations.source[:, None] == 3, observations.points * 1.06, observations.points)
    _, factors = adjust(truth, Observations(observations.source, observations.target, points, observations.seen))
    assert 0.94 < factors[3] < 0.98
    np.testing.assert_allclose(np.delete(factors, 3), 1, atol=0.02)


def test_frames_without_matches_keep_the_network_s_motion():
    truth = camera_path()
    start = disturbed(truth)
    poses, factors = adjust(start, observe(truth, skip=(6, 7)))
    before, after = (p[6:] @ invert(p[5:7]) for p in (start, poses))
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_allclose(factors[6:], 1, atol=1e-9)


def test_the_result_is_a_minimum_of_the_robust_cost():
    """The gradient of the cost, written down here a second time, by finite differences."""
    truth = camera_path()
    start = disturbed(truth)
    observations = observe(truth, noise=0.002, wrong=0.1)
    poses, factors = adjust(start, observations)
    own = bundle_adjustment
    motion = start[1:] @ invert(start[:-1])

    def reprojected(poses, log_scales):
        T = poses[observations.target] @ np.linalg.inv(poses[observations.source])
        scaled = observations.points * np.exp(log_scales[observations.source])[:, None]
        moved = (T[:, :3, :3] @ scaled[:, :, None])[:, :, 0] + T[:, :3, 3]
        return moved[:, :2] / moved[:, 2:]

    # The covariance belongs to the solution and is no variable.
    grown = reprojected(poses, np.log(factors) + 1e-6) - reprojected(poses, np.log(factors) - 1e-6)
    covariance = own._MATCH_ERROR**2 * np.eye(2) + own._DEPTH_ERROR**2 * np.einsum("mi,mj->mij", grown, grown) / 4e-12
    information = np.linalg.inv(covariance)

    def cost(step):
        step = step.reshape(FRAMES, 7)
        moved = np.tile(np.eye(4), (FRAMES, 1, 1))
        moved[:, :3, :3] = Rotation.from_rotvec(step[:, :3]).as_matrix()
        moved[:, :3, 3] = step[:, 3:6]
        moved = moved @ poses
        log_scales = np.log(factors) + step[:, 6]
        off = reprojected(moved, log_scales) - observations.seen
        squared = np.einsum("mi,mij,mj->m", off, information, off)
        total = (squared / (1 + squared / own._KERNELS[-1] ** 2)).sum() + (log_scales**2).sum() / own._SCALE_ERROR**2
        difference = moved[1:] @ np.linalg.inv(moved[:-1]) @ np.linalg.inv(motion)
        turns = Rotation.from_matrix(difference[:, :3, :3]).as_rotvec()
        total += (turns**2).sum() / own._ROTATION_ERROR**2
        return total + (difference[:, :3, 3] ** 2).sum() / own._TRANSLATION_ERROR**2

    gradient = approx_fprime(np.zeros(FRAMES * 7), cost, 1e-7)[6:]
    step = np.random.default_rng(2).normal(size=FRAMES * 7) * 0.002
    beside = approx_fprime(step, cost, 1e-7)[6:]
    assert np.linalg.norm(gradient) < 0.02 * np.linalg.norm(beside)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_has_no_solution_leaves_everything_as_it_was(value):
    truth = camera_path()
    observations = observe(truth)
    observations.points[5] = value
    with np.errstate(invalid="ignore"):
        poses, factors = adjust(truth, observations)
    np.testing.assert_array_equal(poses, truth)
    np.testing.assert_array_equal(factors, 1)
