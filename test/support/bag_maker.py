"""Small bags for tests, written without ROS."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat
from rosbags.typesys import Stores, get_typestore

from vidllm_ros.evaluation.recordings.bags import CAMERA_INFO, COMPRESSED_IMAGE, RAW_IMAGE

TYPES = get_typestore(Stores.ROS2_HUMBLE)


def header(stamp_ns: int, frame_id: str = "camera"):
    time = TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def raw(stamp_ns: int, value: int = 0):
    data = np.full(4 * 6 * 3, value, np.uint8)
    return TYPES.types[RAW_IMAGE](header(stamp_ns), 4, 6, "rgb8", 0, 18, data)


def compressed(stamp_ns: int):
    return TYPES.types[COMPRESSED_IMAGE](header(stamp_ns), "jpeg", np.zeros(9, np.uint8))


def raw_image(stamp_ns: int, image: np.ndarray):
    height, width = image.shape[:2]
    return TYPES.types[RAW_IMAGE](header(stamp_ns), height, width, "rgb8", 0, 3 * width, image.reshape(-1).copy())


def png_image(stamp_ns: int, image: np.ndarray):
    _, data = cv2.imencode(".png", image[..., ::-1])
    return TYPES.types[COMPRESSED_IMAGE](header(stamp_ns), "png", data.reshape(-1))


def camera_info(stamp_ns: int, fx: float, size: tuple[int, int] = (4, 6)):
    height, width = size
    k = np.array([fx, 0, width / 2, 0, fx, height / 2, 0, 0, 1], np.float64)
    roi = TYPES.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    p = np.zeros(12)
    return TYPES.types[CAMERA_INFO](
        header(stamp_ns), height, width, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0, roi
    )


def write_bag(path: Path, messages, storage=StoragePlugin.MCAP, compression=None, empty_topics=()) -> Path:
    """A bag of (topic, type, log time, message)."""
    writer = Writer(path, version=8, storage_plugin=storage)
    if compression:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, kind in [*empty_topics, *dict.fromkeys((m[0], m[1]) for m in messages)]:
            connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
        for topic, kind, log_time, message in messages:
            writer.write(connections[topic], log_time, TYPES.serialize_cdr(message, kind))
    return path


def frames(topic="/cam/image_raw", count=3):
    return [(topic, RAW_IMAGE, 100 + i, raw(1000 * i, i)) for i in range(count)]
