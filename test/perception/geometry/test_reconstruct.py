"""The network's output in perception's conventions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.perception.config import CameraConfig
from vidllm_ros.perception.errors import InferenceError
from vidllm_ros.perception.geometry.features import FeatureCache
from vidllm_ros.perception.geometry.reconstruct import from_geometry, reconstruct
from vidllm_ros.perception.types import Frame, Window

H, W, S = 60, 80, 4


def geometry(poses_world_camera, **changes) -> GeometryOutput:
    """What the network would return for cameras [S, 4, 4] in a world of its own."""
    camera_from_world = torch.tensor(np.linalg.inv(poses_world_camera)[None, :, :3], dtype=torch.float32)
    depth = torch.full((1, S, H, W), 2.0)
    values = {
        "pose_encoding": torch.zeros(1, S, 9),
        "pose_encodings": (torch.zeros(1, S, 9),),
        "camera_from_world": camera_from_world,
        "intrinsics": torch.tensor([[70.0, 0, 40], [0, 70, 30], [0, 0, 1]]).expand(1, S, 3, 3).clone(),
        "relative_depth": depth / 1.7,
        "confidence": torch.full((1, S, H, W), 4.0),
        "metric_depth": depth,
        "scale": torch.tensor([1.7]),
        "scale_spread": torch.tensor([0.1]),
        "depth": depth,
        "semantic_tokens": torch.zeros(1, S, 4, 8),
        "geometry_tokens": torch.zeros(1, S, 4, 8),
        "patch_size": 14,
    }
    return GeometryOutput(**{**values, **changes})


def world_poses(seed=0):
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (S, 1, 1))
    poses[:, :3, :3] = Rotation.random(S, rng=random).as_matrix()
    poses[:, :3, 3] = random.normal(size=(S, 3))
    return poses


def window(intrinsics=None, size=(480, 640)):
    frames = tuple(Frame(np.zeros((*size, 3), np.uint8), 1000 + i, f"cam{i}", intrinsics) for i in range(S))
    return Window(frames)


IMAGES = np.zeros((S, H, W, 3), np.uint8)


def test_poses_become_camera_to_window_with_the_first_camera_as_window():
    poses = world_poses()
    found = from_geometry(geometry(poses), window(), IMAGES, CameraConfig())
    np.testing.assert_array_equal(found.T_window_camera[0], np.eye(4))
    for index in range(S):
        # A point in front of a camera has one place in the window frame, whichever way one goes there.
        point = np.array([0.3, -0.2, 1.5, 1.0])
        in_world = poses[index] @ point
        np.testing.assert_allclose(found.T_window_camera[index] @ point, np.linalg.inv(poses[0]) @ in_world, atol=1e-5)
    rotations = found.T_window_camera[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (S, 1, 1)), atol=1e-12)
    assert found.stamps_ns == (1000, 1001, 1002, 1003) and found.frame_ids == ("cam0", "cam1", "cam2", "cam3")
    assert found.scale == pytest.approx(1.7) and found.scale_spread == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("network", "expected"), [(1.0, 0.0), (2.0, 0.5), (4.0, 0.75), (1e9, 1.0), (float("inf"), 1.0)]
)
def test_confidence_is_one_minus_its_inverse(network, expected):
    output = geometry(world_poses(), confidence=torch.full((1, S, H, W), network))
    found = from_geometry(output, window(), IMAGES, CameraConfig()).confidence
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_bad_depth_gets_no_confidence():
    depth = torch.full((1, S, H, W), 2.0)
    depth[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), -1.0, 0.0])
    found = from_geometry(geometry(world_poses(), depth=depth), window(), IMAGES, CameraConfig())
    np.testing.assert_array_equal(found.depth[0, 0, :5], [0, 0, 0, 0, 2])
    np.testing.assert_array_equal(found.confidence[0, 0, :4], 0)
    assert found.confidence[0, 0, 4] > 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"camera_from_world": torch.full((1, S, 3, 4), float("nan"))}, "camera pose"),
        ({"intrinsics": torch.zeros(1, S, 3, 3)}, "focal length"),
        ({"scale": torch.tensor([0.0])}, "scale"),
        ({"scale": torch.tensor([float("inf")])}, "scale"),
        ({"depth": torch.full((1, S, H, W), float("nan"))}, "depth"),
    ],
)
def test_output_that_is_no_geometry_is_an_error(changes, text):
    with pytest.raises(InferenceError, match=f"no usable {text}"):
        from_geometry(geometry(world_poses(), **changes), window(), IMAGES, CameraConfig())


KNOWN = np.array([[560.0, 0, 330], [0, 565, 250], [0, 0, 1]])


def test_a_known_camera_matrix_is_used_and_the_estimate_checked():
    found = from_geometry(geometry(world_poses()), window(KNOWN), IMAGES, CameraConfig())
    # 640 x 480 to 80 x 60 is a plain reduction by 8; pixels are counted at their centres.
    expected = np.array([[70.0, 0, 330.5 / 8 - 0.5], [0, 70.625, 250.5 / 8 - 0.5], [0, 0, 1]])
    np.testing.assert_allclose(found.intrinsics, np.tile(expected, (S, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(found.image_intrinsics, np.tile(KNOWN, (S, 1, 1)), atol=1e-9)
    assert found.focal_ratio == pytest.approx((1 + 70 / 70.625) / 2)


def test_without_one_the_estimate_is_used_and_leads_back_to_the_image():
    found = from_geometry(geometry(world_poses()), window(), IMAGES, CameraConfig())
    assert found.focal_ratio is None
    np.testing.assert_allclose(found.intrinsics[:, 0, 0], 70)
    np.testing.assert_allclose(found.image_intrinsics[:, 0, 0], 560)


def test_a_known_camera_matrix_can_be_ignored_but_is_still_compared():
    config = CameraConfig(use_known_intrinsics=False)
    found = from_geometry(geometry(world_poses()), window(KNOWN * [[0.5], [0.5], [1]]), IMAGES, config)
    np.testing.assert_allclose(found.intrinsics[:, 0, 0], 70)
    assert found.focal_ratio == pytest.approx(1.99, abs=0.01)


def test_features_are_computed_once_and_give_what_whole_images_give(model, make_frame):
    cache = FeatureCache(model)
    frames = [make_frame(index) for index in range(10)]
    assert cache.encode(frames[:6]) == 6
    assert cache.encode(frames) == 4
    assert cache.encode(frames) == 0
    features = cache.get(frames[2:6])
    together = Window(tuple(frames[2:6]))
    found = reconstruct(model, together, features, CameraConfig())
    whole = model.reconstruct(torch.from_numpy(features.image).permute(0, 3, 1, 2)[None].float() / 255)
    expected = from_geometry(whole, together, features.image, CameraConfig())
    np.testing.assert_allclose(found.depth, expected.depth, rtol=1e-4)
    np.testing.assert_allclose(found.T_window_camera, expected.T_window_camera, atol=1e-4)
    assert found.depth.shape == (4, *model.config.image_size) and found.rgb.dtype == np.uint8


def test_features_are_freed_with_their_frames(model, make_frame):
    cache = FeatureCache(model)
    frames = [make_frame(index) for index in range(4)]
    cache.encode(frames)
    cache.keep_only(frames[2:])
    assert len(cache) == 2
    assert cache.encode(frames) == 2


def test_frames_of_different_size_do_not_form_a_window(model, make_frame):
    mixed = Window((make_frame(0), make_frame(1, size=(60, 80))))
    cache = FeatureCache(model)
    cache.encode(mixed.frames)
    with pytest.raises(ValueError, match=re.escape("one size")):
        reconstruct(model, mixed, cache.get(mixed.frames), CameraConfig())
