import math

import numpy as np
import pytest

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import reconstruction


def test_against_open3d():
    o3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    clouds = [rng.uniform(0, 0.5, (4000, 3)), rng.uniform(0.05, 0.55, (3000, 3))]
    reduced = []
    for points in clouds:
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
        reduced.append(cloud.voxel_down_sample(0.02))
    there = np.asarray(reduced[0].compute_point_cloud_distance(reduced[1]))
    back = np.asarray(reduced[1].compute_point_cloud_distance(reduced[0]))
    errors = reconstruction.cloud_metrics(*clouds)
    assert errors.accuracy == pytest.approx(there.mean(), rel=1e-7)
    assert errors.completeness == pytest.approx(back.mean(), rel=1e-7)
    assert errors.precision == pytest.approx((there < 0.05).mean())
    assert errors.recall == pytest.approx((back < 0.05).mean())


def test_by_hand_with_a_distance_on_the_threshold():
    truth = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]])
    predicted = np.array([[0.0, 0, 0], [1.0, 0.0625, 0]])
    errors = reconstruction.cloud_metrics(predicted, truth, threshold=0.0625, voxel_size=0)
    assert errors.precision == 0.5 and errors.recall == 0.25  # the threshold itself does not count
    assert errors.f_score == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert errors.accuracy == pytest.approx(0.0625 / 2)


def test_one_point_per_voxel():
    points = np.array([[0.0, 0, 0], [0.001, 0, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(reconstruction.voxel_means(points, 0.02), [[0.0005, 0, 0], [0.5, 0, 0]])


def test_voxels_of_clouds_too_wide_to_number():
    points = np.array([[0.0, 0, 0], [0.001, 0, 0], [1e6, 1e6, 1e6]])
    np.testing.assert_allclose(reconstruction.voxel_means(points, 0.02), [[0.0005, 0, 0], [1e6, 1e6, 1e6]])
    rng = np.random.default_rng(2)
    near = rng.uniform(-1, 1, (2000, 3))
    # one far point makes the grid too wide; the voxels near the rest stay the same
    far = reconstruction.voxel_means(np.concatenate([near, [[5e6, 5e6, 5e6]]]), 0.1)
    np.testing.assert_allclose(far[:-1], reconstruction.voxel_means(near, 0.1), atol=1e-9)


def test_empty_far_and_broken_clouds():
    cloud = np.zeros((3, 3))
    assert math.isnan(reconstruction.cloud_metrics(np.zeros((0, 3)), cloud).accuracy)
    far = reconstruction.cloud_metrics(cloud + 9, cloud)
    assert (far.precision, far.recall) == (0.0, 0.0) and math.isnan(far.f_score)
    with pytest.raises(EvaluationError, match="1 of 3 predicted points"):
        reconstruction.cloud_metrics(np.array([[0, 0, np.nan], [0, 0, 0], [1, 1, 1]]), cloud)
    with pytest.raises(EvaluationError, match=r"\[N, 3\]"):
        reconstruction.cloud_metrics(np.zeros((3, 4)), cloud)


def test_scenes_are_averaged_and_those_without_an_f_score_counted():
    cloud = np.random.default_rng(0).uniform(0, 1, (200, 3))
    good = reconstruction.cloud_metrics(cloud, cloud)
    half = reconstruction.cloud_metrics(np.concatenate([cloud, cloud + 50]), cloud)
    far, empty = (reconstruction.cloud_metrics(other, cloud) for other in (cloud + 50, np.zeros((0, 3))))
    mean = reconstruction.summary([good, half, far, empty])
    assert mean.precision == pytest.approx((1 + 0.5 + 0) / 3, abs=0.01) and mean.recall == pytest.approx(2 / 3)
    # not the harmonic mean of the averages
    assert mean.f_score == pytest.approx((good.f_score + half.f_score) / 2)
    assert (mean.scenes, mean.without_f_score) == (4, 2)
    with pytest.raises(EvaluationError, match="no scene"):
        reconstruction.summary([])


def test_units_order_and_world_change_what_they_must():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 1, (300, 3)), rng.uniform(0, 1, (250, 3))
    errors = reconstruction.cloud_metrics(a, b, voxel_size=0)
    shuffled = reconstruction.cloud_metrics(rng.permutation(a), rng.permutation(b), voxel_size=0)
    assert vars(shuffled) == pytest.approx(vars(errors), rel=1e-12)
    swapped = reconstruction.cloud_metrics(b, a, voxel_size=0)
    assert (swapped.accuracy, swapped.precision) == (errors.completeness, errors.recall)
    centimetres = reconstruction.cloud_metrics(100 * a, 100 * b, threshold=5.0, voxel_size=0)
    assert centimetres.accuracy == pytest.approx(100 * errors.accuracy)
    assert centimetres.f_score == pytest.approx(errors.f_score)
