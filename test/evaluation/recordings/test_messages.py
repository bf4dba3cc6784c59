import numpy as np
import pytest
from bag_maker import TYPES, header

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.recordings import messages

IMAGE = TYPES.types["sensor_msgs/msg/Image"]


def image(data: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False):
    height, width = data.shape[:2]
    rows = np.ascontiguousarray(data).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return IMAGE(header(0), height, width, encoding, int(big_endian), padded.shape[1], padded.reshape(-1))


def test_depth_images_in_both_units_and_byte_orders():
    metres = np.array([[0.0, 1.5, np.nan], [2.0, -1.0, 3.0]], np.float32)
    expected = np.array([[np.nan, 1.5, np.nan], [2.0, np.nan, 3.0]])
    np.testing.assert_array_equal(messages.depth_image(image(metres, "32FC1", 4)), expected)
    millimetres = np.array([[0, 1500], [2000, 3]], ">u2")
    read = messages.depth_image(image(millimetres, "16UC1", big_endian=True))
    np.testing.assert_allclose(read, [[np.nan, 1.5], [2.0, 0.003]])
    with pytest.raises(EvaluationError, match="rgb8"):
        messages.depth_image(image(np.zeros((2, 2, 3), np.uint8), "rgb8"))
    good = image(metres, "32FC1")
    with pytest.raises(EvaluationError, match="needs 24 bytes, got 10"):
        messages.depth_image(IMAGE(good.header, 2, 3, "32FC1", 0, 12, good.data[:10]))
    with pytest.raises(EvaluationError, match="step 7"):
        messages.depth_image(IMAGE(good.header, 2, 3, "32FC1", 0, 7, good.data))


def cloud_message(table: np.ndarray, width: int | None = None, big_endian: bool = False):
    kinds = {"f4": 7, "u4": 6, "u1": 2, "f8": 8}
    field = TYPES.types["sensor_msgs/msg/PointField"]
    fields = [field(n, table.dtype.fields[n][1], kinds[table.dtype[n].str[1:]], 1) for n in table.dtype.names]
    width = width or len(table)
    step = table.dtype.itemsize
    return TYPES.types["sensor_msgs/msg/PointCloud2"](
        header(0), len(table) // width, width, fields, big_endian, step, step * width, table.view(np.uint8), True
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("width", [None, 2])
def test_clouds_with_packed_colours(order, width):
    dtype = np.dtype(
        [("x", order + "f4"), ("y", order + "f4"), ("z", order + "f4"), ("rgb", order + "u4"), ("c", "u1")]
    )
    table = np.zeros(4, dtype)
    table["x"], table["y"], table["z"] = [1, 2, np.nan, 4], 5, 6
    table["rgb"] = 0x102030
    points, colors = messages.cloud(cloud_message(table, width, order == ">"))
    np.testing.assert_array_equal(points, [[1, 5, 6], [2, 5, 6], [4, 5, 6]])  # the point that is not finite is left out
    assert (colors == [0x10, 0x20, 0x30]).all() and points.dtype == np.float32


def test_clouds_whose_colour_is_a_float_or_missing():
    dtype = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<f4")])
    table = np.zeros(2, dtype)
    table["rgb"] = np.array([0xFF8001], np.uint32).view(np.float32)[0]
    assert (messages.cloud(cloud_message(table))[1] == [255, 128, 1]).all()
    plain = np.zeros(2, np.dtype([("x", "<f8"), ("y", "<f8"), ("z", "<f8")]))
    assert (messages.cloud(cloud_message(plain))[1] == 128).all()
    with pytest.raises(EvaluationError, match="no field y, z; it has x"):
        messages.cloud(cloud_message(np.zeros(2, np.dtype([("x", "<f4")]))))


def test_paths():
    pose = TYPES.types["geometry_msgs/msg/Pose"](
        TYPES.types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0),
        TYPES.types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 1.0, 0.0),
    )
    stamped = TYPES.types["geometry_msgs/msg/PoseStamped"](header(1_500_000_007), pose)
    stamps, poses = messages.path(TYPES.types["nav_msgs/msg/Path"](header(0), [stamped]))
    assert stamps.tolist() == [1_500_000_007]
    np.testing.assert_allclose(poses[0], [[-1, 0, 0, 1], [0, -1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)
    assert messages.path(TYPES.types["nav_msgs/msg/Path"](header(0), []))[1].shape == (0, 4, 4)
