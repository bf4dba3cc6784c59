"""Bundle adjustment against exact scenes, and against an independent evaluation of what it minimises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.geometry.transforms import invert, is_rigid
from vidllm_ros.perception.registration.bundle_adjustment import KERNELS, Solution, adjust, approach
from vidllm_ros.perception.registration.motion_terms import neighbours
from vidllm_ros.perception.registration.point_terms import PointTerms
from vidllm_ros.perception.registration.sightings import FITS, Sightings
from vidllm_ros.perception.registration.trust import window_covariance

FRAMES = 8
RAY_ERROR = 0.004
DEPTH_ERROR, FRAME_ERROR = 0.03, 0.02
ROTATION_ERROR, TRANSLATION_ERROR = np.radians(1.5), 0.03


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


def observe(poses: np.ndarray, *, noise: float = 0.0, wrong: float = 0.0, skip: tuple[int, ...] = ()) -> Sightings:
    """160 points of the scene, each seen by up to four frames in a row; a share of the sightings is wrong."""
    random = np.random.default_rng(0)
    world = random.uniform([-1, -0.7, 1.5], [1, 0.7, 4.0], (160, 3))
    rows = []
    for number in range(len(world)):
        first = int(random.integers(-2, FRAMES - 1))
        rows += [(frame, number) for frame in range(max(first, 0), min(first + 4, FRAMES)) if frame not in skip]
    frame, number = np.array(rows).T
    own = np.einsum("mij,mj->mi", poses[frame, :3, :3], world[number]) + poses[frame, :3, 3]
    rays = own / own[:, 2:]
    rays[:, :2] += noise * random.normal(size=(len(rows), 2))
    gross = random.random(len(rows)) < wrong
    rays[gross, :2] = random.uniform(-0.7, 0.7, (gross.sum(), 2))
    return Sightings(
        frame, np.unique(number, return_inverse=True)[1], rays, own[:, 2].copy(), np.full(len(rows), RAY_ERROR)
    )


def errors(poses: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Largest error of a camera: degrees, metres."""
    difference = poses @ invert(truth)
    degrees = np.degrees(Rotation.from_matrix(difference[:, :3, :3]).magnitude())
    return float(degrees.max()), float(np.linalg.norm(difference[:, :3, 3], axis=1).max())


def solve(start: np.ndarray, sightings: Sightings) -> Solution:
    """From near the truth, as pairs of frames lead there, with the network's motion as far as it goes."""
    motions = [neighbours(start, ROTATION_ERROR, TRANSLATION_ERROR, 3.0)]
    near = approach(start, sightings, motions, FRAME_ERROR)
    return adjust(near, sightings, motions, DEPTH_ERROR, FRAME_ERROR)


def test_exact_matches_outvote_the_network():
    truth = camera_path()
    start = disturbed(truth)
    assert errors(start, truth)[0] > 2 and errors(start, truth)[1] > 0.03
    found = solve(start, observe(truth))
    degrees, metres = errors(found.T_camera_window, truth)
    assert degrees < 0.1 and metres < 0.01
    np.testing.assert_allclose(found.log_scales, 0, atol=0.02)
    np.testing.assert_array_equal(found.T_camera_window[0], np.eye(4))
    assert all(is_rigid(pose) for pose in found.T_camera_window)


def test_exact_input_stays_exact():
    """The worst that adjustment did: cameras that were right became 18 degrees wrong."""
    truth = camera_path()
    degrees, metres = errors(solve(truth, observe(truth)).T_camera_window, truth)
    assert degrees < 1e-3 and metres < 1e-4


def test_wrong_sightings_have_no_say():
    truth = camera_path()
    found = solve(disturbed(truth), observe(truth, noise=0.002, wrong=0.1))
    degrees, metres = errors(found.T_camera_window, truth)
    assert degrees < 0.4 and metres < 0.02


def test_depths_of_another_scale_are_brought_back_part_of_the_way():
    """The camera's motion is known from the network; the depth of frame 3 is 6 % too large."""
    truth = camera_path()
    sightings = observe(truth)
    depth = np.where(sightings.frame == 3, sightings.depth * 1.06, sightings.depth)
    factors = np.exp(solve(truth, replace(sightings, depth=depth)).log_scales)
    assert 0.94 < factors[3] < 0.985
    np.testing.assert_allclose(np.delete(factors, 3), 1, atol=0.02)


def test_depth_that_is_worse_than_said_is_seen_to_be():
    truth = camera_path()
    # Seen so exactly that depth can be checked.
    sightings = replace(observe(truth), ray_error=np.full(len(observe(truth)), 0.0003))
    wrong = np.exp(0.2 * np.random.default_rng(5).normal(size=sightings.point.max() + 1))[sightings.point]
    found = solve(truth, replace(sightings, depth=sightings.depth * wrong))
    assert 0.1 < found.depth_error < 0.3
    assert solve(truth, sightings).depth_error == DEPTH_ERROR


def test_sightings_without_depth_count_by_where_they_are_seen():
    truth = camera_path()
    sightings = observe(truth)
    first = np.diff(sightings.point, prepend=-1) > 0
    found = solve(disturbed(truth), replace(sightings, depth=np.where(first, sightings.depth, 0)))
    degrees, metres = errors(found.T_camera_window, truth)
    assert degrees < 0.15 and metres < 0.02


def test_frames_without_matches_keep_the_network_s_motion():
    truth = camera_path()
    start = disturbed(truth)
    found = solve(start, observe(truth, skip=(6, 7)))
    before, after = (p[6:] @ invert(p[5:7]) for p in (start, found.T_camera_window))
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_allclose(found.log_scales[6:], 0, atol=1e-9)


def residuals(variables: np.ndarray, start: np.ndarray, sightings: Sightings) -> np.ndarray:
    """Square roots of the robust cost, written down a second time; ``variables``: steps [8, 7] and points [P, 3]."""
    step, points = variables[: FRAMES * 7].reshape(FRAMES, 7), variables[FRAMES * 7 :].reshape(-1, 3)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(step[:, :3]).as_matrix()
    poses[:, :3, 3] = step[:, 3:6]
    T = poses[sightings.frame]
    seen = np.einsum("mij,mj->mi", T[:, :3, :3], points[sightings.point]) + T[:, :3, 3]
    squared = ((seen[:, :2] / seen[:, 2:] - sightings.rays[:, :2]) ** 2).sum(axis=1) / RAY_ERROR**2
    deeper = np.log(seen[:, 2] / sightings.depth) - step[sightings.frame, 6]
    deep = (deeper / DEPTH_ERROR) ** 2 / np.bincount(sightings.point)[sightings.point]
    motion = start[1:] @ np.linalg.inv(start[:-1])
    difference = poses[1:] @ np.linalg.inv(poses[:-1]) @ np.linalg.inv(motion)
    moved = (Rotation.from_matrix(difference[:, :3, :3]).as_rotvec() ** 2).sum(axis=1) / ROTATION_ERROR**2
    moved += (difference[:, :3, 3] ** 2).sum(axis=1) / TRANSLATION_ERROR**2
    robust = [squared / (1 + squared / KERNELS[-1] ** 2), deep / (1 + deep / FITS**2), moved / (1 + moved / 9)]
    return np.sqrt(np.concatenate([*robust, (step[:, 6] / FRAME_ERROR) ** 2]) + 1e-12)


def steps_of(poses: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
    turns = Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()
    return np.concatenate([turns, poses[:, :3, 3], log_scales[:, None]], axis=1).ravel()


def test_the_result_is_a_minimum_of_the_robust_cost():
    """The gradient of the cost where the points lie best, by finite differences."""
    truth = camera_path()
    start = disturbed(truth)
    sightings = observe(truth, noise=0.003)
    found = solve(start, sightings)
    own = steps_of(found.T_camera_window, found.log_scales)
    points = PointTerms(sightings, found.T_camera_window, DEPTH_ERROR)
    points.settle(found.T_camera_window, found.log_scales, KERNELS[-1], steps=50)
    everything = np.concatenate([own, points.points.ravel()])

    def cost(values):
        return (residuals(values, start, sightings) ** 2).sum()

    gradient = approx_fprime(everything, cost, 1e-7)[6:]
    beside = everything + 0.002 * np.random.default_rng(2).normal(size=len(everything))
    assert np.linalg.norm(gradient) < 0.05 * np.linalg.norm(approx_fprime(beside, cost, 1e-7)[6:])


def test_the_covariance_is_how_far_results_scatter():
    """Fifty draws of the noise that is reckoned with: errors over stated deviations have the spread of a normal law."""
    truth = camera_path()
    scaled = []
    for seed in range(50):
        sightings = observe(truth)
        random = np.random.default_rng(seed)
        rays = sightings.rays.copy()
        rays[:, :2] += RAY_ERROR * random.normal(size=(len(rays), 2))
        found = adjust(truth, replace(sightings, rays=rays), [], DEPTH_ERROR, FRAME_ERROR)
        difference = found.T_camera_window @ invert(truth)
        turns = Rotation.from_matrix(difference[:, :3, :3]).as_rotvec()
        step = np.concatenate([turns, difference[:, :3, 3]], axis=1)
        scaled.append(step[1:] / np.sqrt(np.diagonal(found.covariances[1:], axis1=1, axis2=2)))
    spread = np.std(np.concatenate(scaled))
    assert 0.6 < spread < 1.2, spread  # exact depths tell more than is reckoned with


def test_the_covariance_is_turned_into_the_window():
    """By drawing steps before the camera's pose and looking at what becomes of the pose in the window."""
    T = camera_path()[-2:]
    random = np.random.default_rng(0)
    root = 1e-3 * random.normal(size=(6, 6))
    steps = random.normal(size=(20000, 6)) @ root.T
    moved = np.tile(np.eye(4), (len(steps), 1, 1))
    moved[:, :3, :3] = Rotation.from_rotvec(steps[:, :3]).as_matrix()
    moved[:, :3, 3] = steps[:, 3:]
    poses, pose = invert(moved @ T[1]), invert(T[1])
    turns = Rotation.from_matrix(poses[:, :3, :3] @ pose[:3, :3].T).as_rotvec()
    drawn = np.cov(np.concatenate([poses[:, :3, 3] - pose[:3, 3], turns], axis=1).T)
    plain = window_covariance(T, T, np.zeros((2, 6, 6)), 1.0)
    np.testing.assert_array_equal(plain, 0)
    stated = window_covariance(T, T, np.stack([np.zeros((6, 6)), root @ root.T]), 1.0)[1]
    ratio = stated[0, 0] / drawn[0, 0]
    assert ratio >= 1
    np.testing.assert_allclose(stated / ratio, drawn, atol=0.05 * np.abs(drawn).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_has_no_solution_is_refused(value):
    truth = camera_path()
    sightings = observe(truth)
    sightings.rays[5, 0] = value
    with np.errstate(all="ignore"), pytest.raises(np.linalg.LinAlgError):
        solve(truth, sightings)
