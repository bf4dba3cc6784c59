"""Reconstruction against a mesh: fusion of exact depth, alignment, and what each alignment forgives."""

import numpy as np
import pytest
from miniature import vidllm
from scan_maker import OBJECTS, camera_poses, depth_intrinsics, render
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.benchmarks import surface as surface_benchmark
from vidllm_ros.evaluation.benchmarks.surface import ScannedRoom, Views, surface_report, surfaces
from vidllm_ros.evaluation.metrics import fusion
from vidllm_ros.evaluation.metrics.reconstruction import cloud_metrics
from vidllm_ros.evaluation.metrics.trajectory import Similarity

SIZE = (121, 161)


@pytest.fixture(scope="module")
def views():
    """Exact depth of a room of boxes, its poses told in another frame."""
    poses = camera_poses(6)
    poses[:, 2, 3] += 0.1 * np.arange(6) % 0.3  # off one line
    depth = np.array([render(pose, depth_intrinsics(), SIZE)[0] for pose in poses])
    elsewhere = np.eye(4)
    elsewhere[:3, :3] = Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()
    elsewhere[:3, 3] = (4.0, -1.0, 2.0)
    return Views(depth, np.tile(depth_intrinsics(), (6, 1, 1)), elsewhere @ poses, poses)


@pytest.fixture(scope="module")
def vertices(views):
    """The visible surface, densely: what each pixel hits."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(depth_intrinsics()).T
    parts = []
    for depth, pose in zip(views.depth, views.truth, strict=True):
        near = (depth > 0) & (depth < fusion.MAX_DEPTH)
        parts.append((rays[near] * depth[near][:, None]) @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate(parts)


def test_exact_depth_fuses_into_the_surface_it_came_from(views, vertices):
    points = fusion.fuse(views.depth, views.intrinsics, views.truth)
    errors = cloud_metrics(points, vertices)
    assert errors.accuracy < 0.02 and errors.precision > 0.97 and errors.recall > 0.95
    assert np.abs(points[:, 2]).min() < 0.01  # the floor lies at z = 0
    table = OBJECTS[1]
    on_top = (np.abs(points[:, 2] - table[3][2]) < 0.02) & (points[:, 1] < 0.5)  # beyond stands the chair
    assert on_top.sum() > 50 and points[on_top, 0].min() > table[2][0] - 0.1
    assert len(fusion.fuse(np.zeros_like(views.depth), views.intrinsics, views.truth)) == 0


def test_small_errors_of_pose_are_taken_back(vertices):
    motion = Similarity(Rotation.from_euler("xyz", [1, -1, 2], degrees=True).as_matrix(), np.array([0.02, -0.03, 0.01]))
    away = motion.points(vertices)
    back = fusion.refine(away, vertices).points(away)
    assert cloud_metrics(back, vertices).accuracy < 0.5 * cloud_metrics(away, vertices).accuracy


def scored(views, vertices, monkeypatch):
    monkeypatch.setattr(surface_benchmark, "one_window", lambda *given: views)
    room = ScannedRoom("not looked at", lambda: iter(()), {}, vertices)
    return surfaces(None)(room)


def test_each_alignment_forgives_what_it_says(views, vertices, monkeypatch):
    row = scored(views, vertices, monkeypatch)
    assert row["se3"]["f_score"] > 0.95 and row["scale"] == pytest.approx(1.0, abs=1e-6)
    small = views.predicted.copy()
    small[:, :3, 3] *= 0.7
    wrong_scale = Views(views.depth * 0.7, views.intrinsics, small, views.truth)
    row = scored(wrong_scale, vertices, monkeypatch)
    assert row["scale"] == pytest.approx(1 / 0.7)
    assert row["sim3_icp"]["f_score"] > 0.9 and row["se3"]["f_score"] < 0.5
    report = surface_report([{"scene": "a", **row}], {})
    values = {(line.name, line.note): line for line in report.rows}
    assert values["Comp, m", "camera path fitted, SE(3)"].paper == 0.071
    assert any("0.739" in note for note in report.notes)


def test_nothing_reconstructed_is_no_number(views, vertices, monkeypatch):
    empty = Views(views.depth * 0, views.intrinsics, views.predicted, views.truth)
    row = scored(empty, vertices, monkeypatch)
    assert row["points"] == 0 and np.isnan(row["se3"]["f_score"]) and np.isnan(row["sim3_icp"]["accuracy"])
    report = surface_report([{"scene": "a", **row}], {})
    assert any("1 scenes have no F-score" in note for note in report.notes)


def test_a_network_of_random_weights_gives_views(views):
    from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow

    rgb = np.random.default_rng(0).integers(0, 255, (6, 28, 42, 3), dtype=np.uint8)
    window = EvaluatedWindow("a", rgb, np.zeros((6, 28, 42)), views.truth, np.eye(4))
    made = surface_benchmark.one_window(vidllm(), window, 0.0)
    assert made.depth.shape == (6, 28, 42) and made.predicted.shape == (6, 4, 4) and (made.depth > 0).all()
    assert (surface_benchmark.one_window(vidllm(), window, 2.0).depth == 0).all()
