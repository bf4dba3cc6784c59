"""What /tf says of a robot that drives on a circle with a camera on a mast."""

import numpy as np
from robot import STEP_NS
from scipy.spatial.transform import Rotation
from tf2_msgs.msg import TFMessage

from vidllm_ros.node.conversions import transform_message

# A camera on a mast, tilted 20 degrees down: optical axes in the base frame (x forward, y left, z up).
T_BASE_CAMERA = np.eye(4)
T_BASE_CAMERA[:3, :3] = Rotation.from_euler("y", 20, degrees=True).as_matrix() @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
T_BASE_CAMERA[:3, 3] = (0.1, 0.0, 1.2)


def base_pose(stamp_ns: int) -> np.ndarray:
    """A robot that drives on a circle in odom."""
    angle = (stamp_ns % 10**12) / 1e9 * 0.2
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
    pose[:3, 3] = (2 * np.sin(angle), 2 - 2 * np.cos(angle), 0.0)
    return pose


def broadcast(robot, parent: str, mount: bool = True) -> None:
    """The base's pose around now and the camera's mount."""
    if mount:
        static = TFMessage(transforms=[transform_message(0, "base_link", "camera", T_BASE_CAMERA)])
        robot.tf_static.publish(static)
    message = TFMessage()
    for step in range(3):
        stamp = robot.now_ns + step * STEP_NS
        message.transforms.append(transform_message(stamp, parent, "base_link", base_pose(stamp)))
    robot.tf.publish(message)
