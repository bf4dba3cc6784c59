"""Bundle adjustment against exact scenes, and against an independent evaluation of what it minimises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.adjustment import bundle_adjustment, point_terms
from vidllm_ros.perception.adjustment.bundle_adjustment import adjust
from vidllm_ros.perception.adjustment.sightings import FITS, PIXEL_ERROR, Sightings
from vidllm_ros.perception.geometry.transforms import invert, is_rigid

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
    return Sightings(frame, np.unique(number, return_inverse=True)[1], rays, own[:, 2].copy())


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


def test_wrong_sightings_have_no_say():
    truth = camera_path()
    degrees, metres = errors(adjust(disturbed(truth), observe(truth, noise=0.002, wrong=0.1))[0], truth)
    assert degrees < 0.4 and metres < 0.02


def test_points_that_do_not_lie_still_are_believed_pair_by_pair(monkeypatch):
    """Twice the noise that is reckoned with: the last word is not the points', and is better than the network's."""
    truth = camera_path()
    start, sightings = disturbed(truth), observe(truth, noise=0.008)
    poses = adjust(start, sightings)[0]
    degrees, metres = errors(poses, truth)
    assert degrees < 0.5 * errors(start, truth)[0] and metres < errors(start, truth)[1]
    monkeypatch.setattr(bundle_adjustment, "_POINTS", ())
    np.testing.assert_array_equal(adjust(start, sightings)[0], poses)


def test_depths_of_another_scale_are_brought_back_part_of_the_way():
    """The camera's motion is known from the network; the depth of frame 3 is 6 % too large."""
    truth = camera_path()
    sightings = observe(truth)
    depth = np.where(sightings.frame == 3, sightings.depth * 1.06, sightings.depth)
    _, factors = adjust(truth, replace(sightings, depth=depth))
    assert 0.94 < factors[3] < 0.985
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
    sightings = observe(truth, noise=0.003)
    poses, factors = adjust(start, sightings)
    own = bundle_adjustment
    motion = start[1:] @ invert(start[:-1])
    counts = np.bincount(sightings.point)

    def sighting_costs(point, which, poses, log_scales):
        """Of ``which`` sightings, of a point [3] or of points [len(which), 3]."""
        T = poses[sightings.frame[which]]
        seen = (T[:, :3, :3] @ np.broadcast_to(point, (len(which), 3))[:, :, None])[:, :, 0] + T[:, :3, 3]
        off = seen[:, :2] / seen[:, 2:] - sightings.rays[which, :2]
        squared = (off**2).sum(axis=1) / PIXEL_ERROR**2
        deeper = np.log(seen[:, 2] / sightings.depth[which]) - log_scales[sightings.frame[which]]
        deep = (deeper / point_terms.DEPTH_ERROR) ** 2
        reprojection = squared / (1 + squared / own._POINTS[-1] ** 2)
        return reprojection + deep / (1 + deep / FITS**2) / counts[sightings.point[which]]

    # Where the points lie best for the poses that were found; there, the cost changes with the poses alone.
    points = np.zeros((len(counts), 3))
    for number in range(len(counts)):
        which = np.flatnonzero(sightings.point == number)
        T = invert(poses[sightings.frame[which]])
        placed = (T[:, :3, :3] @ (sightings.rays[which] * sightings.depth[which, None])[:, :, None])[:, :, 0]
        start = (placed + T[:, :3, 3]).mean(axis=0)
        args = (which, poses, np.log(factors))
        points[number] = minimize(
            lambda x, *a: sighting_costs(x, *a).sum(), start, args, method="Nelder-Mead", tol=1e-9
        ).x

    def cost(step):
        step = step.reshape(FRAMES, 7)
        moved = np.tile(np.eye(4), (FRAMES, 1, 1))
        moved[:, :3, :3] = Rotation.from_rotvec(step[:, :3]).as_matrix()
        moved[:, :3, 3] = step[:, 3:6]
        moved = moved @ poses
        log_scales = np.log(factors) + step[:, 6]
        everything = np.arange(len(sightings.point))
        total = sighting_costs(points[sightings.point], everything, moved, log_scales).sum()
        total += (log_scales**2).sum() / (FRAMES * own._SCALE_ERROR**2)
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
    sightings = observe(truth)
    sightings.rays[5, 0] = value
    with np.errstate(invalid="ignore"):
        poses, factors = adjust(truth, sightings)
    np.testing.assert_array_equal(poses, truth)
    np.testing.assert_array_equal(factors, 1)
