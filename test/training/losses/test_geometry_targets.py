"""Ground truth in the network's terms: Eq. 3 and the normalisation, pixel by pixel in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from posed_windows import H, W, random_sample, wall_sample
from scipy.spatial.transform import Rotation

from vidllm_ros.model.reconstruction.pose_encoding import decode_pose
from vidllm_ros.training.losses.targets import geometry_targets, unproject


def equation_3(depth: np.ndarray, k: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """P = R^-1 K^-1 [u, v, 1]^T D - R^-1 t for every pixel of one image, [H, W, 3]."""
    inverse_r, inverse_k = np.linalg.inv(pose[:, :3]), np.linalg.inv(k)
    points = np.empty((*depth.shape, 3))
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            points[v, u] = inverse_r @ inverse_k @ [u, v, 1] * depth[v, u] - inverse_r @ pose[:, 3]
    return points


def first_camera_poses(sample) -> np.ndarray:
    """Camera-from-world [S, 3, 4] with the first camera as the world."""
    return np.stack([np.linalg.inv(T) @ sample.T_world_camera[0] for T in sample.T_world_camera])[:, :3]


def test_unprojection_is_equation_3():
    sample = random_sample()
    poses = np.linalg.inv(sample.T_world_camera)[:, :3]
    depth = sample.depth.astype(np.float64)
    got = unproject(*(torch.tensor(array) for array in (depth, sample.intrinsics, poses))).numpy()
    for s in range(len(depth)):
        np.testing.assert_allclose(got[s], equation_3(depth[s], sample.intrinsics[s], poses[s]), atol=1e-10)


def test_a_point_projects_back_to_its_pixel():
    sample = random_sample(frames=1)
    pose = np.linalg.inv(sample.T_world_camera)[:, :3]
    points = unproject(torch.tensor(sample.depth).double(), *map(torch.tensor, (sample.intrinsics, pose))).numpy()[0]
    v, u = np.argwhere(sample.depth[0] > 0)[17]
    camera = pose[0] @ [*points[v, u], 1]
    pixel = sample.intrinsics[0] @ camera
    np.testing.assert_allclose(pixel / pixel[2], [u, v, 1], atol=1e-9)
    np.testing.assert_allclose(camera[2], sample.depth[0, v, u])


def test_the_unit_is_the_mean_distance_of_all_known_points_to_the_first_camera():
    samples = [random_sample(seed=1), random_sample(seed=2)]
    targets = geometry_targets(samples)
    for b, sample in enumerate(samples):
        poses, depth = first_camera_poses(sample), sample.depth.astype(np.float64)
        points = np.stack([equation_3(*frame) for frame in zip(depth, sample.intrinsics, poses, strict=True)])
        unit = np.linalg.norm(points[depth > 0], axis=-1).mean()
        np.testing.assert_allclose(targets.scale[b], unit, rtol=1e-6)
        np.testing.assert_allclose(targets.points[b].numpy()[depth > 0], points[depth > 0] / unit, atol=1e-5)
        np.testing.assert_allclose(targets.camera_from_world[b].numpy(), poses, atol=1e-5)
        encoding = targets.pose_encoding[b].numpy()
        np.testing.assert_allclose(encoding[:, :3], poses[:, :, 3] / unit, atol=1e-5)
        rotations = Rotation.from_matrix(poses[:, :, :3])
        np.testing.assert_allclose(encoding[:, 3:7], rotations.as_quat(canonical=True), atol=1e-5)
        np.testing.assert_allclose(encoding[:, 7], 2 * np.arctan(H / 2 / sample.intrinsics[:, 1, 1]), atol=1e-5)
        np.testing.assert_allclose(encoding[:, 8], 2 * np.arctan(W / 2 / sample.intrinsics[:, 0, 0]), atol=1e-5)


def test_the_first_camera_is_the_world():
    targets = geometry_targets([random_sample()])
    torch.testing.assert_close(targets.camera_from_world[0, 0], torch.eye(4)[:3], rtol=0, atol=1e-6)
    start = torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
    torch.testing.assert_close(targets.pose_encoding[0, 0, :7], start, rtol=0, atol=1e-6)


def test_where_the_world_was_before_does_not_matter():
    sample = random_sample()
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("xyz", [1, 2, 3]).as_matrix(), [5, -3, 2]
    here, there = (
        geometry_targets([sample]),
        geometry_targets([replace(sample, T_world_camera=T @ sample.T_world_camera)]),
    )
    for name in ("camera_from_world", "scale", "pose_encoding", "points"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), rtol=1e-5, atol=1e-5)


def test_a_camera_to_the_right_sees_the_world_move_left():
    targets = geometry_targets([wall_sample([0.0, 1.0])])
    torch.testing.assert_close(targets.camera_from_world[0, 1, :, 3], torch.tensor([-1.0, 0, 0]))


def test_another_metric_size_changes_the_unit_alone():
    sample = random_sample()
    T = sample.T_world_camera.copy()
    T[:, :3, 3] *= 3
    large = geometry_targets([replace(sample, depth=3 * sample.depth, T_world_camera=T)])
    small = geometry_targets([sample])
    torch.testing.assert_close(large.scale, 3 * small.scale)
    torch.testing.assert_close(large.pose_encoding, small.pose_encoding, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(large.points, small.points, rtol=1e-5, atol=1e-5)


def test_the_encoding_holds_the_intrinsics():
    sample = random_sample()
    targets = geometry_targets([sample])
    _, intrinsics = decode_pose(targets.pose_encoding[0], (H, W))
    np.testing.assert_allclose(intrinsics.numpy(), sample.intrinsics, rtol=1e-4)


def test_images_are_channels_first_between_zero_and_one():
    sample = random_sample()
    images = geometry_targets([sample]).images
    assert images.shape == (1, 3, 3, H, W) and images.dtype == torch.float32
    np.testing.assert_allclose(images[0, 1, 2, 5, 7], sample.rgb[1, 5, 7, 2] / 255, rtol=1e-6)


def test_unknown_pixels_are_invalid_and_do_not_shift_the_unit():
    sample = random_sample()
    targets = geometry_targets([sample])
    np.testing.assert_array_equal(targets.valid[0].numpy(), sample.depth > 0)
    assert not targets.valid.all()


def test_a_window_without_depth_is_refused():
    empty = random_sample(seed=5, unknown=1.1)
    with pytest.raises(ValueError, match="sample random/5 has no pixel with known depth"):
        geometry_targets([random_sample(), empty])
