"""From recorded frames to the network's: choice, size, crop, depth and intrinsics."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidllm_ros.model.sizes import large, nano
from vidllm_ros.perception.geometry.images import fit_image
from vidllm_ros.training.data.errors import DataError
from vidllm_ros.training.data.frames import (
    fit_frame,
    network_size,
    pinhole,
    read_depth,
    undistort,
    uniform_indices,
    usable_pose,
)


@pytest.mark.parametrize(
    ("config", "image_size", "expected"),
    [
        (large(), (968, 1296), (518, 686)),
        (large(), (480, 640), (518, 686)),
        (nano(), (968, 1296), (84, 112)),
        (large(), (1080, 1920), (518, 686)),
        (large(), (1024, 1280), (518, 644)),
        (large(), (1296, 968), (686, 518)),
        (large(), (500, 500), (518, 518)),
        (replace(nano(), image_size=(98, 98)), (480, 640), (98, 98)),
    ],
)
def test_shorter_side_as_configured_and_whole_patches(config, image_size, expected):
    assert network_size(image_size, config) == expected


@given(wanted=st.integers(1, 64), more=st.integers(0, 3000))
def test_frames_are_different_and_evenly_spread(wanted, more):
    count = wanted + more
    chosen = uniform_indices(count, wanted)
    assert len(chosen) == wanted and chosen[0] == 0 and (wanted == 1 or chosen[-1] == count - 1)
    steps = np.diff(chosen)
    assert (steps >= 1).all() and (wanted < 2 or steps.max() - steps.min() <= 1)


def ball(size, intrinsics, point, radius=0.06):
    """A ball in front of a camera: RGB with the ball white, depth with the ball near, and nothing elsewhere."""
    u, v = (intrinsics @ point / point[2])[:2]
    y, x = np.mgrid[: size[0], : size[1]]
    inside = ((x - u) / intrinsics[0, 0]) ** 2 + ((y - v) / intrinsics[1, 1]) ** 2 < (radius / point[2]) ** 2
    return np.where(inside[..., None], np.uint8(255), np.uint8(0)).repeat(3, -1), np.where(inside, point[2], 0.0)


@pytest.mark.parametrize("point", [(0.0, 0.0, 2.0), (0.5, -0.3, 2.0), (-0.6, 0.4, 2.5)])
@pytest.mark.parametrize(
    ("image_size", "size"), [((480, 640), (84, 112)), ((270, 480), (84, 112)), ((480, 640), (98, 98))]
)
def test_colour_depth_and_intrinsics_stay_together(point, image_size, size):
    focal = 1.1 * image_size[0]
    color = pinhole(focal, focal * 1.02, image_size[1] / 2 + 7.3, image_size[0] / 2 - 4.1)
    depth_camera = pinhole(200.0, 205.0, 158.0, 121.0)
    point = np.array(point)
    rgb, _ = ball(image_size, color, point)
    _, depth = ball((240, 320), depth_camera, point)
    rgb, depth, intrinsics = fit_frame(rgb, depth.astype(np.float32), color, depth_camera, size)
    assert rgb.shape == (*size, 3) and rgb.dtype == np.uint8 and depth.shape == size and depth.dtype == np.float32
    expected = (intrinsics @ point / point[2])[:2]
    for picture in (rgb[..., 0] / 255.0, (depth > 0).astype(float)):
        seen = np.argwhere(picture > 0.5)[:, ::-1].mean(axis=0)
        assert np.allclose(seen, expected, atol=0.6), (seen, expected)
    assert set(np.unique(depth)) == {np.float32(0), np.float32(point[2])}  # never blended


def test_same_picture_as_the_robot_would_see():
    rgb = np.random.default_rng(0).integers(0, 255, (968, 1296, 3), dtype=np.uint8)
    fitted, _, _ = fit_frame(rgb, np.ones((480, 640), np.float32), np.eye(3), np.eye(3), (84, 112))
    assert np.array_equal(fitted, fit_image(rgb, nano().image_size))


def test_beyond_the_depth_image_nothing_is_known():
    camera = pinhole(100.0, 100.0, 55.5, 41.5)
    narrow = pinhole(100.0, 100.0, 27.5, 20.5)
    _, depth, _ = fit_frame(np.zeros((84, 112, 3), np.uint8), np.ones((42, 56), np.float32), camera, narrow, (84, 112))
    assert depth.sum() == 42 * 56 and (depth[21:63, 28:84] == 1).all()


@pytest.mark.parametrize(
    ("change", "usable"),
    [
        (lambda pose: pose, True),
        (lambda pose: pose + 1e-6, True),
        (lambda pose: np.full((4, 4), -np.inf), False),
        (lambda pose: np.where(np.arange(16).reshape(4, 4) == 3, np.nan, pose), False),
        (lambda pose: pose * [1, 1, 1.5, 1], False),
        (lambda pose: pose * [1, 1, -1, 1], False),
        (lambda pose: pose[:3], False),
        (lambda pose: pose.T + np.diag([0, 0, 0, 1]), False),
    ],
)
def test_only_finite_rigid_poses_are_usable(change, usable):
    assert usable_pose(change(np.eye(4))) is usable


def test_undistortion_moves_pixels_to_where_a_pinhole_sees_them():
    camera, distortion = pinhole(517.3, 516.5, 318.6, 255.3), np.array([0.26, -0.95, -0.005, 0.0026, 1.16])
    seen = np.array([[[150.0, 120.0]]])
    rgb, depth = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.float32)
    cv2.circle(rgb, (150, 120), 6, (255, 255, 255), -1)
    cv2.circle(depth, (150, 120), 6, 2.0, -1)
    expected = cv2.undistortPoints(seen, camera, distortion, P=camera)[0, 0]
    assert np.linalg.norm(expected - seen[0, 0]) > 3
    rgb, depth = undistort(rgb, depth, camera, distortion)
    for picture in (rgb[..., 0] > 127, depth > 0):
        assert np.allclose(np.argwhere(picture)[:, ::-1].mean(axis=0), expected, atol=0.5)
    assert set(np.unique(depth)) == {0.0, 2.0}


def test_depth_must_be_sixteen_bit(tmp_path):
    cv2.imwrite(str(tmp_path / "8.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"8\.png is uint8 \[4, 4\]; depth images are 16-bit"):
        read_depth(tmp_path / "8.png", 1000.0)
    with pytest.raises(DataError, match="none.png is missing"):
        read_depth(tmp_path / "none.png", 1000.0)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="cut.png is no readable image"):
        read_depth(tmp_path / "cut.png", 1000.0)
