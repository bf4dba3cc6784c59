"""Everything the node publishes about windows, boxes and the map."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.msg import WindowInfo
from vidllm_ros.node import conversions
from vidllm_ros.node.clouds import cloud_message
from vidllm_ros.node.output.markers import scene_markers
from vidllm_ros.node.output.window_info import window_info
from vidllm_ros.node.qos import EVENTS, LATCHED, PER_WINDOW, POSES
from vidllm_ros.perception.types import ScaleSource, WindowResult, WindowStatus
from vidllm_ros.perception.windows.frames import FrameCounts

# Standard deviations of a pose. The network gives none, so these are stated, not estimated: a part that every pose has,
# and the share of the way since the window's first camera by which the scale may be wrong.
_POSITION_FLOOR = 0.03  # metres
_ROTATION = 0.03  # radians
_UNRELIABLE = 10.0  # metres, when lengths are not metres


class Publishers:
    """The node's publishers, from configure to cleanup.

    Args:
        node: publishes.
        map_frame: frame of everything but the depth image.
    """

    def __init__(self, node: Node, map_frame: str) -> None:
        self._node = node
        self._map_frame = map_frame
        self._publishers: list = []
        self.points = self._make(PointCloud2, "~/points", PER_WINDOW)
        self.map = self._make(PointCloud2, "~/map", LATCHED)
        self.depth = self._make(Image, "~/depth/image", PER_WINDOW)
        self.depth_info = self._make(CameraInfo, "~/depth/camera_info", PER_WINDOW)
        self.path = self._make(Path, "~/path", LATCHED)
        self.pose = self._make(PoseWithCovarianceStamped, "~/pose", POSES)
        self.detections = self._make(Detection3DArray, "~/detections", EVENTS)
        self.markers = self._make(MarkerArray, "~/markers", LATCHED)
        self.window = self._make(WindowInfo, "~/window", EVENTS)
        self._shown: tuple[Sequence[Box3D], WindowResult | None] = ((), None)

    def destroy(self) -> None:
        """Ends all publishers."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers = []

    def publish_cloud(self, result: WindowResult) -> None:
        """The window's points; built only when somebody listens."""
        if self.points.get_subscription_count():
            self.points.publish(
                cloud_message(self._head(result), result.points, result.colors, result.point_confidence)
            )

    def publish_depth(self, result: WindowResult, min_confidence: float) -> None:
        """Depth of the newest frame where it is confident, in the map's metres; built only when somebody listens."""
        if not (self.depth.get_subscription_count() or self.depth_info.get_subscription_count()):
            return
        reconstruction = result.reconstruction
        head = conversions.header(reconstruction.stamps_ns[-1], reconstruction.frame_ids[-1])
        confident = reconstruction.confidence[-1] >= min_confidence
        depth = np.where(confident, reconstruction.depth[-1] * result.scale_ratio, np.nan)
        self.depth.publish(conversions.depth_message(head, depth))
        self.depth_info.publish(
            conversions.camera_info_message(head, reconstruction.intrinsics[-1], (depth.shape[0], depth.shape[1]))
        )

    def publish_poses(self, result: WindowResult, start: int) -> None:
        """The poses of the window's frames from index ``start`` on, each with its own stamp."""
        poses = result.T_map_camera
        for index in range(start, len(poses)):
            way = float(np.linalg.norm(poses[index, :3, 3] - poses[0, :3, 3]))
            deviation = _POSITION_FLOOR + result.reconstruction.scale_spread * way
            if result.scale_source is ScaleSource.UNRELIABLE:
                deviation = _UNRELIABLE
            head = conversions.header(result.reconstruction.stamps_ns[index], self._map_frame)
            self.pose.publish(conversions.pose_with_covariance(head, poses[index], deviation, _ROTATION))

    def publish_path(self, stamps_ns: np.ndarray, poses: np.ndarray) -> None:
        """The whole path."""
        self.path.publish(conversions.path_message(self._map_frame, stamps_ns, poses))

    def publish_map(self, stamp_ns: int, points: np.ndarray, colors: np.ndarray) -> None:
        """The accumulated map."""
        self.map.publish(cloud_message(conversions.header(stamp_ns, self._map_frame), points, colors))

    def publish_detections(self, head: Header, boxes: Sequence[Box3D]) -> None:
        """Boxes, in the header's frame."""
        self.detections.publish(conversions.detections_message(head, boxes))

    def show(self, stamp_ns: int, boxes: Sequence[Box3D] | None = None, result: WindowResult | None = None) -> None:
        """Markers of boxes and of a window's cameras; what is not given stays as it was."""
        shown_boxes, shown_result = self._shown
        boxes = shown_boxes if boxes is None else boxes
        result = result or shown_result
        self._shown = (boxes, result)
        cameras, intrinsics, size = np.zeros((0, 4, 4)), None, (0, 0)
        if result is not None and result.status is not WindowStatus.REJECTED:
            cameras, intrinsics = result.T_map_camera, result.reconstruction.intrinsics
            size = (result.reconstruction.depth.shape[1], result.reconstruction.depth.shape[2])
        head = conversions.header(stamp_ns, self._map_frame)
        self.markers.publish(scene_markers(head, boxes, cameras, intrinsics, size))

    def publish_window(
        self, result: WindowResult, counts: FrameCounts, dropped: Mapping[str, int], started: float, locate_time: float
    ) -> None:
        """The window's description; the last message of a window.

        Args:
            result: the window.
            counts: of frames, from the pipeline.
            dropped: images that never became frames, by reason.
            started: when publishing began, on ``time.monotonic``.
            locate_time: seconds spent on boxes.
        """
        latency = (self._node.get_clock().now().nanoseconds - result.reconstruction.stamps_ns[-1]) / 1e9
        message = window_info(
            self._head(result),
            result,
            counts,
            dropped,
            locate_time=locate_time,
            publish_time=time.monotonic() - started,
            latency=latency,
        )
        self.window.publish(message)

    def clear(self, stamp_ns: int) -> None:
        """Replaces what latched topics hold by nothing, after a reset."""
        self._shown = ((), None)
        self.publish_map(stamp_ns, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
        self.publish_path(np.zeros(0, np.int64), np.zeros((0, 4, 4)))
        self.show(stamp_ns)

    def _head(self, result: WindowResult) -> Header:
        return conversions.header(result.reconstruction.stamps_ns[-1], self._map_frame)

    def _make(self, kind: type, topic: str, qos: object) -> object:
        publisher = self._node.create_publisher(kind, topic, qos)
        self._publishers.append(publisher)
        return publisher
