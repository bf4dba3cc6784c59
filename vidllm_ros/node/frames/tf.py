"""Listening to /tf and /tf_static, and broadcasting the one transform that ``publish_tf`` asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from vidllm_ros.node.conversions import matrix_from_transform, stamp_to_ns, transform_message
from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.qos import TF, TF_STATIC
from vidllm_ros.perception.geometry.transforms import invert


class TfListener:
    """Fills a buffer from /tf and /tf_static.

    Args:
        node: subscribes.
        group: callback group of the subscriptions.
    """

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        self.buffer = TransformBuffer()
        self._node = node
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", lambda m: self._take(m, False), TF, callback_group=group),
            node.create_subscription(
                TFMessage, "/tf_static", lambda m: self._take(m, True), TF_STATIC, callback_group=group
            ),
        ]

    def destroy(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _take(self, message: TFMessage, static: bool) -> None:
        for transform in message.transforms:
            matrix = matrix_from_transform(transform.transform)
            if matrix is not None:
                parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
                self.buffer.add(parent, child, stamp_to_ns(transform.header.stamp), matrix, static)


class TfBroadcaster:
    """Broadcasts where the camera is, as map_to_odom, map_to_base or map_to_camera; never more than one of them.

    Args:
        node: publishes.
        config: the frames, ``publish_tf`` and ``invert_tf``.
        buffer: knows the robot's other transforms.
    """

    def __init__(self, node: Node, config: NodeConfig, buffer: TransformBuffer) -> None:
        self._node = node
        self.config = config
        self._buffer = buffer
        self._publisher = None if config.publish_tf == "none" else node.create_publisher(TFMessage, "/tf", TF)

    def send(self, camera_frame: str, stamps_ns: Sequence[int], T_map_camera: np.ndarray) -> None:
        """Broadcasts camera poses [K, 4, 4].

        Raises:
            TransformError: the robot's own transforms are not known at that time, or the frame that would get a parent
                has another one; nothing was sent.
        """
        if self._publisher is None:
            return
        config = self.config
        child = {"map_to_odom": config.odom_frame, "map_to_base": config.base_frame}.get(
            config.publish_tf, camera_frame
        )
        self._check_parent(*((child, config.map_frame) if config.invert_tf else (config.map_frame, child)))
        message = TFMessage()
        problem: TransformError | None = None
        for stamp_ns, pose in zip(stamps_ns, T_map_camera, strict=True):
            try:
                T_camera_child = self._buffer.lookup(camera_frame, child, int(stamp_ns), config.tf_timeout)
            except TransformError as error:
                problem = error
                continue
            T_map_child = pose @ T_camera_child
            if config.invert_tf:
                entry = transform_message(int(stamp_ns), child, config.map_frame, invert(T_map_child))
            else:
                entry = transform_message(int(stamp_ns), config.map_frame, child, T_map_child)
            message.transforms.append(entry)
        if message.transforms:
            self._publisher.publish(message)
        elif problem is not None:
            raise problem

    def _check_parent(self, parent: str, child: str) -> None:
        """A frame has one parent (REP 105): what somebody else placed already is left to them."""
        known = self._buffer.parent(child)
        if known is not None and known != parent:
            raise TransformError(
                f"'{child}' has the parent '{known}' already, and publish_tf: {self.config.publish_tf} would give it a "
                f"second one, '{parent}'; choose another publish_tf, or change invert_tf"
            )

    def destroy(self) -> None:
        """Ends the publisher."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None
