"""Point clouds to and from messages: by ``sensor_msgs_py`` where the distribution has it, else the same without."""

from __future__ import annotations

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from vidllm_ros.node.conversions import byte_array

try:
    from sensor_msgs_py import point_cloud2
except ImportError:  # the wheels on PyPI have no such package
    point_cloud2 = None

_BIG_ENDIAN = sys.byteorder != "little"
_CLOUD = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("rgb", "f4")])
_CLOUD_WITH_CONFIDENCE = np.dtype([*_CLOUD.descr, ("confidence", "f4")])


def cloud_message(
    head: Header, points: np.ndarray, colors: np.ndarray, confidence: np.ndarray | None = None
) -> PointCloud2:
    """An unordered cloud with fields x, y, z, rgb (packed, as RViz reads it) and, when given, confidence.

    Args:
        head: stamp and frame.
        points: [P, 3] metres, finite.
        colors: uint8 [P, 3] RGB.
        confidence: [P] from 0 to 1.
    """
    table = np.empty(len(points), dtype=_CLOUD if confidence is None else _CLOUD_WITH_CONFIDENCE)
    table["x"], table["y"], table["z"] = np.asarray(points, dtype=np.float32).reshape(-1, 3).T
    red, green, blue = np.asarray(colors, dtype=np.uint32).reshape(-1, 3).T
    table["rgb"] = (red << 16 | green << 8 | blue).view(np.float32)
    if confidence is not None:
        table["confidence"] = confidence
    fields = [
        PointField(name=name, offset=table.dtype.fields[name][1], datatype=PointField.FLOAT32, count=1)
        for name in table.dtype.names
    ]
    # sensor_msgs_py cannot cast the memory of an array without rows.
    build = _without_package if point_cloud2 is None or not len(table) else point_cloud2.create_cloud
    message = build(head, fields, table)
    message.is_dense = True
    return message


def read_cloud(message: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """A cloud with packed colours, such as the node publishes, as finite points and their colours.

    Returns:
        Points float32 [P, 3] in metres and colours uint8 [P, 3].
    """
    table = _read_without_package(message) if point_cloud2 is None else point_cloud2.read_points(message)
    points = np.stack([table[axis] for axis in "xyz"], axis=1).reshape(-1, 3)
    packed = np.ascontiguousarray(table["rgb"]).reshape(-1).view(np.uint32)
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    finite = np.isfinite(points).all(axis=1)  # skip_nans would take a packed colour for a number
    return points[finite], colors[finite]


def _without_package(head: Header, fields: list[PointField], table: np.ndarray) -> PointCloud2:
    """What ``point_cloud2.create_cloud`` makes of a structured array."""
    return PointCloud2(
        header=head,
        height=1,
        width=len(table),
        fields=fields,
        is_bigendian=_BIG_ENDIAN,
        point_step=table.itemsize,
        row_step=table.nbytes,
        data=byte_array(table.view(np.uint8)),
    )


def _read_without_package(message: PointCloud2) -> np.ndarray:
    """What ``point_cloud2.read_points`` makes of a cloud of floats."""
    order = ">" if message.is_bigendian else "<"
    layout = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": [f"{order}f4"] * len(message.fields),
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    return np.frombuffer(message.data, layout).astype(layout.newbyteorder("="))
