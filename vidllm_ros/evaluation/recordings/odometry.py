"""The camera's way according to ``nav_msgs/Odometry`` and the static transforms between the robot and its camera."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vidllm_ros.evaluation.errors import BagError
from vidllm_ros.evaluation.recordings.bags import Bag
from vidllm_ros.evaluation.recordings.transforms import TransformTree

ODOMETRY = "nav_msgs/msg/Odometry"


def camera_path(bag: Bag, topic: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera was at the stamp of each image.

    Args:
        bag: with the topic, and with /tf_static from its child frame to the camera unless that is the camera itself.
        topic: of ``nav_msgs/Odometry``; its pose is interpolated between messages at most 0.2 s apart.

    Returns:
        Stamps int64 [M] and ``T_odom_camera`` [M, 4, 4], metres.

    Raises:
        BagError: no such topic, another type, or no transform from the robot to the camera.
    """
    name = "/" + topic.strip("/")
    if name not in bag.topics or bag.topics[name].type != ODOMETRY:
        offered = ", ".join(t.name for t in bag.topics.values() if t.type == ODOMETRY) or "none"
        raise BagError(f"bag {bag.path} has no {ODOMETRY} on {name}; it has it on: {offered}.")
    static = [t for topic_, _, data in bag.messages("/tf_static") for t in bag.decode(data, topic_).transforms]
    tree, child, frame_id = None, "", ""
    stamps, poses = [], []
    for frame in bag.frames():
        if tree is None:
            frame_id = str(bag.decode(frame.image, bag.image_topic).header.frame_id).strip("/")
            moves = [_transform(bag.decode(data, name), frame_id) for _, _, data in bag.messages(name)]
            child = moves[0].child_frame_id if moves else ""
            # what else /tf_static says of the robot's own place would compete with the odometry
            tree = TransformTree(moves, [t for t in static if str(t.child_frame_id).strip("/") != child])
            if moves and not tree.moves(frame_id):
                raise BagError(
                    f"/tf_static of bag {bag.path} has no transform from {child!r}, which the odometry on {name} "
                    f"moves, to the camera's frame {frame_id!r}."
                )
        if (pose := tree.lookup(frame_id, frame.stamp_ns)) is not None and tree.moves(frame_id):
            stamps.append(frame.stamp_ns)
            poses.append(pose)
    return np.array(stamps, dtype=np.int64), np.array(poses, dtype=np.float64).reshape(-1, 4, 4)


def _transform(odometry: object, camera: str) -> SimpleNamespace:
    """The message as ``TransformStamped``; without a child frame it speaks of the camera."""
    pose = odometry.pose.pose  # type: ignore[attr-defined]
    return SimpleNamespace(
        header=odometry.header,  # type: ignore[attr-defined]
        child_frame_id=str(odometry.child_frame_id).strip("/") or camera,  # type: ignore[attr-defined]
        transform=SimpleNamespace(translation=pose.position, rotation=pose.orientation),
    )
