"""Keeps what the node publishes: everything in a bag, and what the report needs in memory."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from nav_msgs.msg import Path as PathMessage
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import Detection3DArray

from vidllm_ros.evaluation.metrics import grounding
from vidllm_ros.evaluation.recordings import messages
from vidllm_ros.evaluation.recordings.bags import is_bag, stamp_ns
from vidllm_ros.evaluation.recordings.result_bag import ResultBag, message_types
from vidllm_ros.model.outputs import Box3D
from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.clouds import read_cloud
from vidllm_ros.replay.node_process import ReplayError

_PACKAGES = ("vidllm_ros", "vision_msgs")  # whose messages rosbags does not know


class Collector:
    """Takes serialised messages from the link's thread; a context manager that finishes the bag.

    Args:
        bag: the bag's folder, which must not exist.

    Attributes:
        windows: one row for each window.
        depth: depth images by stamp, float32 [h, w] metres.
        now_ns: recorded time, for the bag; set by who plays. Nothing is kept while it is 0.
        sent_at: when each frame was sent, on ``time.monotonic``, by stamp; filled by who plays.
        asking: questions are being asked, so boxes are answers and not those of a window.
    """

    def __init__(self, bag: Path) -> None:
        self._bag = ResultBag(bag, message_types(_message_folders()))
        self._lock = threading.Lock()
        self._latest: dict[str, bytes] = {}
        self._open_boxes: list[Box3D] = []
        self._boxes: list[Box3D] = []
        self._last_log = 0
        self.windows: list[dict[str, Any]] = []
        self.depth: dict[int, np.ndarray] = {}
        self.now_ns = 0
        self.sent_at: dict[int, float] = {}
        self.asking = False

    def __enter__(self) -> Collector:
        """The collector."""
        return self

    def __exit__(self, *trace: Any) -> None:
        """Finish the bag."""
        with self._lock:
            self._bag.__exit__(*trace)

    def take(self, topic: str, kind: str, data: bytes) -> None:
        """One message the node published on ``~/topic``."""
        with self._lock:
            if not self.now_ns:
                return  # latched from before
            self._last_log = max(self._last_log + 1, self.now_ns)
            self._bag.write(f"/vidllm/{topic}", kind, self._last_log, data)
            if topic in ("path", "map"):
                self._latest[topic] = data
            elif topic == "depth/image":
                message = deserialize_message(data, Image)
                self.depth[stamp_ns(message)] = messages.depth_image(message)
            elif topic == "detections" and not self.asking:
                self._open_boxes = messages.boxes(deserialize_message(data, Detection3DArray))
            elif topic == "window":
                self._take_window(messages.window_row(deserialize_message(data, WindowInfo)))

    def boxes(self) -> list[Box3D]:
        """Boxes of all windows since the map began, in map; of those that overlap the surest."""
        with self._lock:
            return grounding.merged(self._boxes)

    @property
    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps int64 [K] and ``T_map_camera`` [K, 4, 4] as last published."""
        if "path" not in self._latest:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 4, 4))
        return messages.path(deserialize_message(self._latest["path"], PathMessage))

    @property
    def map(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and colours of the map as last published."""
        if "map" not in self._latest:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        return read_cloud(deserialize_message(self._latest["map"], PointCloud2))

    def _take_window(self, row: dict[str, Any]) -> None:
        # boxes are published before their window's description
        if row["status"] == "first":
            self._boxes = []  # the map began anew
        self._boxes += self._open_boxes
        self._open_boxes = []
        # the node counts from the stamp, which is years ago in a recording
        row["latency"] = time.monotonic() - self.sent_at.get(row["last_stamp"], float("nan"))
        self.windows.append(row)


def _message_folders() -> dict[str, Path]:
    folders = {}
    for package in _PACKAGES:
        try:
            folders[package] = Path(get_package_share_directory(package)) / "msg"
        except PackageNotFoundError:
            continue
    return folders


def fresh_folder(path: Path) -> Path:
    """A path nothing is at; a bag of an earlier run is removed."""
    if path.exists():
        if not is_bag(path):
            raise ReplayError(f"{path} exists and is no bag of an earlier replay: choose another --out.")
        shutil.rmtree(path)
    return path
