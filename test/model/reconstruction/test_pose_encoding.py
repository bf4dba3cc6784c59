"""absT_quaR_FoV against scipy's rotations and the pinhole camera."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidllm_ros.model.reconstruction.pose_encoding import (
    decode_pose,
    encode_pose,
    matrix_to_quaternion,
    quaternion_to_matrix,
)

SIZE = (84, 112)
SEEDS = st.integers(0, 2**32 - 1)


def cameras(count: int = 50, seed: int = 0):
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(count, rng=rng)
    translations = rng.normal(scale=3, size=(count, 3))
    focal = rng.uniform(40, 200, size=(count, 2))
    poses = np.concatenate([rotations.as_matrix(), translations[..., None]], axis=-1)
    intrinsics = np.zeros((count, 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = focal[:, 0], focal[:, 1], 1
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = SIZE[1] / 2, SIZE[0] / 2
    return rotations, translations, focal, poses, intrinsics


def test_the_nine_numbers_in_their_order():
    rotations, translations, focal, poses, intrinsics = cameras()
    encoding = encode_pose(torch.tensor(poses), torch.tensor(intrinsics), SIZE).numpy()
    np.testing.assert_allclose(encoding[:, :3], translations, atol=1e-12)
    # scipy's quaternions are scalar-last too; canonical makes the scalar not negative.
    np.testing.assert_allclose(encoding[:, 3:7], rotations.as_quat(canonical=True, scalar_first=False), atol=1e-9)
    height, width = SIZE
    np.testing.assert_allclose(encoding[:, 7], 2 * np.arctan(height / 2 / focal[:, 1]), atol=1e-12)
    np.testing.assert_allclose(encoding[:, 8], 2 * np.arctan(width / 2 / focal[:, 0]), atol=1e-12)


def test_decoding_undoes_encoding():
    _, _, _, poses, intrinsics = cameras()
    encoding = encode_pose(torch.tensor(poses), torch.tensor(intrinsics), SIZE)
    pose, k = decode_pose(encoding, SIZE)
    np.testing.assert_allclose(pose.numpy(), poses, atol=1e-9)
    np.testing.assert_allclose(k.numpy(), intrinsics, atol=1e-9)


def test_the_field_of_view_is_that_of_a_ray_at_the_image_border():
    encoding = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, math.radians(60), math.radians(90)], dtype=torch.float64)
    _, k = decode_pose(encoding, SIZE)
    ray = np.linalg.inv(k.numpy()) @ [SIZE[1], SIZE[0], 1]  # the lower right corner
    np.testing.assert_allclose(ray, [math.tan(math.radians(45)), math.tan(math.radians(30)), 1], atol=1e-12)


def test_the_pose_maps_world_to_camera():
    # A camera one metre along world x, looking along world -z: a point ahead of it has positive depth.
    R_world_camera = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
    centre = np.array([1.0, 0, 0])
    quaternion = Rotation.from_matrix(R_world_camera.T).as_quat()
    encoding = torch.tensor([*(-R_world_camera.T @ centre), *quaternion, 1, 1])
    pose, _ = decode_pose(encoding, SIZE)
    point = pose.numpy() @ [1.0, 0.0, -2.0, 1.0]
    np.testing.assert_allclose(point, [0, 0, 2], atol=1e-7)


def test_the_principal_point_is_the_image_centre():
    _, k = decode_pose(torch.rand(9) + 0.5, (70, 98))
    assert k[:2, 2].tolist() == [49, 35]
    assert k[2].tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.floats(1e-3, 1e3))
def test_a_quaternion_of_any_length_and_sign_is_a_rotation(seed, length):
    rotation = Rotation.random(rng=np.random.default_rng(seed))
    matrix = quaternion_to_matrix(torch.tensor(-length * rotation.as_quat())).numpy()
    np.testing.assert_allclose(matrix, rotation.as_matrix(), atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.floats(0, math.pi))
def test_any_turn_survives_the_round_trip(seed, angle):
    axis = np.random.default_rng(seed).normal(size=3)
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    quaternion = matrix_to_quaternion(torch.tensor(rotation.as_matrix()))
    assert quaternion[3] >= 0
    np.testing.assert_allclose(quaternion_to_matrix(quaternion).numpy(), rotation.as_matrix(), atol=1e-7)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -2, 3)])
def test_half_turns(axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    matrix = torch.tensor(Rotation.from_rotvec(math.pi * axis).as_matrix())
    quaternion = matrix_to_quaternion(matrix)
    np.testing.assert_allclose(np.abs(quaternion[:3].numpy() @ axis), 1, atol=1e-9)
    np.testing.assert_allclose(quaternion_to_matrix(quaternion).numpy(), matrix.numpy(), atol=1e-9)


@pytest.mark.parametrize("fov", [0.0, -1.0, 1e-4, math.pi, 10.0])
def test_impossible_fields_of_view_give_finite_cameras(fov):
    encoding = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, fov, fov], requires_grad=True)
    pose, k = decode_pose(encoding, SIZE)
    assert pose.isfinite().all() and k.isfinite().all() and (k.diagonal() > 0).all()
    (pose.sum() + k.sum()).backward()
    assert encoding.grad.isfinite().all()


def test_a_zero_quaternion_gives_finite_numbers():
    encoding = torch.zeros(9, requires_grad=True)
    pose, k = decode_pose(encoding, SIZE)
    (pose.sum() + k.sum()).backward()
    assert pose.isfinite().all() and encoding.grad.isfinite().all()


def test_gradients_at_the_identity_are_finite():
    matrix = torch.eye(3, requires_grad=True)
    matrix_to_quaternion(matrix).sum().backward()
    assert matrix.grad.isfinite().all()


def test_batches_of_any_shape():
    _, _, _, poses, intrinsics = cameras(6)
    flat = encode_pose(torch.tensor(poses), torch.tensor(intrinsics), SIZE)
    shaped = encode_pose(torch.tensor(poses).view(2, 3, 3, 4), torch.tensor(intrinsics).view(2, 3, 3, 3), SIZE)
    torch.testing.assert_close(shaped.view(6, 9), flat, rtol=0, atol=0)
    pose, k = decode_pose(shaped, SIZE)
    assert pose.shape == (2, 3, 3, 4) and k.shape == (2, 3, 3, 3)
