"""Clouds as messages, by sensor_msgs_py where it is installed and without it."""

import array

import numpy as np
import pytest
from std_msgs.msg import Header

from vidllm_ros.node import clouds

HEAD = Header(frame_id="map")


@pytest.fixture(params=["sensor_msgs_py", "without"])
def way(request, monkeypatch):
    """Both ways to build and read a cloud."""
    if request.param == "without":
        monkeypatch.setattr(clouds, "point_cloud2", None)
    elif clouds.point_cloud2 is None:
        pytest.skip("sensor_msgs_py is not installed; it comes with ROS 2 itself, not from PyPI")


def random_cloud(count: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(count, 3)).astype(np.float32)
    return points, rng.integers(0, 256, (count, 3), dtype=np.uint8), rng.random(count, dtype=np.float32)


def test_cloud_layout_is_what_its_fields_say():
    random = np.random.default_rng(0)
    points = random.normal(size=(50, 3)).astype(np.float32)
    colors = random.integers(0, 256, (50, 3), np.uint8)
    confidence = random.random(50).astype(np.float32)
    cloud = clouds.cloud_message(HEAD, points, colors, confidence)
    assert cloud.width * cloud.height == 50 and cloud.row_step == cloud.point_step * 50 == len(cloud.data)
    assert isinstance(cloud.data, array.array)
    names = [field.name for field in cloud.fields]
    assert names == ["x", "y", "z", "rgb", "confidence"]
    formats = ["<f4", "<f4", "<f4", "<u4", "<f4"]
    offsets = [field.offset for field in cloud.fields]
    layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": cloud.point_step})
    table = np.frombuffer(cloud.data, layout)
    assert np.array_equal(np.stack([table["x"], table["y"], table["z"]], 1), points)
    assert np.array_equal(table["confidence"], confidence)
    assert np.array_equal(np.stack([table["rgb"] >> 16, table["rgb"] >> 8 & 255, table["rgb"] & 255], 1), colors)


def test_an_empty_cloud_is_a_message_too():
    cloud = clouds.cloud_message(HEAD, np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    assert cloud.width == 0 and len(cloud.data) == 0 and [f.name for f in cloud.fields] == ["x", "y", "z", "rgb"]


@pytest.mark.parametrize("confident", [True, False])
def test_a_cloud_survives_its_message(way, confident):
    points, colors, confidence = random_cloud()
    message = clouds.cloud_message(HEAD, points, colors, confidence if confident else None)
    read, seen = clouds.read_cloud(message)
    assert np.array_equal(read, points) and np.array_equal(seen, colors)


def test_points_that_are_not_finite_are_left_out(way):
    points, colors, _ = random_cloud(4)
    points[1, 2], points[3, 0] = np.nan, np.inf
    read, seen = clouds.read_cloud(clouds.cloud_message(HEAD, points, colors))
    assert np.array_equal(read, points[[0, 2]]) and np.array_equal(seen, colors[[0, 2]])


def test_both_ways_give_the_same_message(monkeypatch):
    if clouds.point_cloud2 is None:
        pytest.skip("sensor_msgs_py is not installed; it comes with ROS 2 itself, not from PyPI")
    with_package = clouds.cloud_message(HEAD, *random_cloud())
    monkeypatch.setattr(clouds, "point_cloud2", None)
    assert clouds.cloud_message(HEAD, *random_cloud()) == with_package
