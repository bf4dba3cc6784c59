import cv2
import numpy as np
import pytest
from robot import camera_info

from vidllm_ros.node.input.camera import CameraInfoError, CameraReader


def read(rectified: bool = False, **changes):
    return CameraReader(rectified).read(camera_info(0, **changes))


def test_k_is_the_camera_matrix_and_without_distortion_the_image_stays_as_it_is():
    camera = read()
    assert np.array_equal(camera.intrinsics, [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    rgb = np.zeros((48, 64, 3), np.uint8)
    assert camera.undistort(rgb) is rgb


def test_zero_k_means_not_calibrated():
    assert read(k=[0.0] * 9) is None


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ([float("nan"), 0, 31.5, 0, 60, 23.5, 0, 0, 1], "not finite"),
        ([60, 0, 31.5, 0, float("inf"), 23.5, 0, 0, 1], "not finite"),
        ([-60, 0, 31.5, 0, 60, 23.5, 0, 0, 1], "not positive"),
        ([60, 0, 31.5, 0, 60, 23.5, 0, 0, 7], "row 0, 0, 1"),
    ],
)
def test_an_impossible_k_is_named_with_its_values(k, words):
    with pytest.raises(CameraInfoError, match=words) as caught:
        read(k=[float(value) for value in k])
    assert "K = [" in str(caught.value) and "calibrate" in str(caught.value)


def project(points: np.ndarray, matrix: np.ndarray, distortion: list[float], fisheye: bool) -> np.ndarray:
    zero = np.zeros(3)
    if fisheye:
        return cv2.fisheye.projectPoints(points[None], zero, zero, matrix, np.array(distortion))[0][0]
    return cv2.projectPoints(points, zero, zero, matrix, np.array(distortion))[0][:, 0]


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", [-0.3, 0.1, 0.001, -0.002, 0.0]),
        ("rational_polynomial", [0.3, 0.1, 0.0, 0.0, 0.02, 0.5, 0.2, 0.05]),
        ("equidistant", [-0.05, 0.01, 0.0, 0.0]),
    ],
)
def test_undistortion_brings_points_where_a_pinhole_sees_them(model, distortion):
    matrix = np.array([[200.0, 0, 159.5], [0, 200, 119.5], [0, 0, 1]])
    points = np.array([[-0.4, -0.3, 1], [0.45, 0.2, 1], [0.1, -0.35, 1], [0.0, 0.0, 1]])
    seen = project(points, matrix, distortion, model == "equidistant")
    raw = np.zeros((240, 320, 3), np.uint8)
    for u, v in seen:
        cv2.circle(raw, (round(16 * u), round(16 * v)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    info = {"width": 320, "height": 240, "k": matrix.ravel(), "distortion_model": model, "d": distortion}
    straight = read(**info).undistort(raw)[..., 0]
    for point in points:
        u, v = (matrix @ point)[:2] / point[2]
        near = straight[round(v) - 6 : round(v) + 7, round(u) - 6 : round(u) + 7].astype(float)
        rows, columns = np.mgrid[round(v) - 6 : round(v) + 7, round(u) - 6 : round(u) + 7]
        assert near.sum() > 0
        assert np.hypot((columns * near).sum() / near.sum() - u, (rows * near).sum() / near.sum() - v) < 0.5


def test_rectified_images_take_p_and_no_undistortion():
    p = [55.0, 0, 30, 0, 0, 55, 22, 0, 0, 0, 1, 0]
    camera = read(rectified=True, p=p, d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    assert np.array_equal(camera.intrinsics, [[55, 0, 30], [0, 55, 22], [0, 0, 1]]) and camera.maps is None


def test_region_of_interest_and_binning():
    info = camera_info(0, width=128, height=96, binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 64, 48
    camera = CameraReader(False).read(info)
    assert camera.size == (32, 24)
    assert np.allclose(camera.intrinsics, [[30, 0, 5.75], [0, 30, 6.75], [0, 0, 1]])


def test_another_image_size_is_refused_with_both_sizes():
    with pytest.raises(CameraInfoError, match="64 x 48.*80 x 60.*use_camera_info"):
        read().undistort(np.zeros((60, 80, 3), np.uint8))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distortion_model": "brown_4", "d": [0.1, 0.2, 0.3]}, "brown_4.*3 coefficients.*plumb_bob"),
        ({"d": [float("nan"), 0.0, 0.0, 0.0, 0.0]}, "D = .*not finite"),
        ({"d": [0.1, 0.0, 0.0, 0.0, 0.0], "width": 0, "height": 0}, "no width and height"),
    ],
)
def test_an_unusable_distortion_is_named(changes, words):
    with pytest.raises(CameraInfoError, match=words):
        read(**changes)


def test_the_maps_are_made_once_for_the_same_camera():
    reader, info = CameraReader(False), camera_info(0, d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    first = reader.read(info)
    info.header.stamp.sec = 5
    assert reader.read(info) is first
    info.k[0] = 61.0
    assert reader.read(info) is not first
