"""Between our values and ROS messages: every message is built here, in ``clouds`` or in ``markers``."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion, Transform, TransformStamped
from nav_msgs.msg import Path
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesisWithPose

from vidllm_ros.model.outputs import Box3D

_NANOSECONDS = 1_000_000_000


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * _NANOSECONDS + stamp.nanosec


def ns_to_stamp(nanoseconds: int) -> Time:
    """The stamp of a time in nanoseconds, not negative."""
    return Time(sec=nanoseconds // _NANOSECONDS, nanosec=nanoseconds % _NANOSECONDS)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def byte_array(values: np.ndarray) -> array.array:
    """An array's memory for a ``uint8[]`` field; any other type costs a check of every single byte."""
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(values)).cast("B") if values.size else b"")
    return data


def pose_message(transform: np.ndarray) -> Pose:
    """``T_frame_body`` [4, 4] as the pose of the body in the frame."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in transform[:3, 3])
    pose.orientation = _quaternion(transform[:3, :3])
    return pose


def transform_message(stamp_ns: int, parent: str, child: str, T_parent_child: np.ndarray) -> TransformStamped:
    """A transform for TF."""
    message = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    translation = message.transform.translation
    translation.x, translation.y, translation.z = (float(v) for v in T_parent_child[:3, 3])
    message.transform.rotation = _quaternion(T_parent_child[:3, :3])
    return message


def matrix_from_transform(transform: Transform) -> np.ndarray | None:
    """A transform as [4, 4]; None when it is not finite or its quaternion is nowhere near a rotation."""
    t, q = transform.translation, transform.rotation
    values = (t.x, t.y, t.z, q.x, q.y, q.z, q.w)
    if not all(math.isfinite(value) for value in values) or not 1e-6 < math.hypot(q.x, q.y, q.z, q.w) < 1e6:
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(values[3:]).as_matrix()
    matrix[:3, 3] = values[:3]
    return matrix


def depth_message(head: Header, depth: np.ndarray) -> Image:
    """Depth [H, W] in metres along the optical axis as 32FC1 (REP 118); what is not positive and finite becomes NaN."""
    values = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype("<f4")
    height, width = values.shape
    return Image(
        header=head,
        height=height,
        width=width,
        encoding="32FC1",
        step=4 * width,
        data=byte_array(values.view(np.uint8)),
    )


def camera_info_message(head: Header, intrinsics: np.ndarray, size: tuple[int, int]) -> CameraInfo:
    """A camera without distortion.

    Args:
        head: stamp and optical frame.
        intrinsics: [3, 3] pixels.
        size: (height, width).
    """
    projection = np.hstack([intrinsics, np.zeros((3, 1))])
    return CameraInfo(
        header=head,
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=np.asarray(intrinsics, dtype=np.float64).ravel(),
        r=np.eye(3).ravel(),
        p=projection.astype(np.float64).ravel(),
    )


def path_message(frame_id: str, stamps_ns: Sequence[int], poses: np.ndarray) -> Path:
    """Poses ``T_frame_camera`` [K, 4, 4], each with its own stamp; the path has that of the newest."""
    path = Path(header=header(int(stamps_ns[-1]) if len(stamps_ns) else 0, frame_id))
    path.poses = [
        PoseStamped(header=header(int(stamp), frame_id), pose=pose_message(pose))
        for stamp, pose in zip(stamps_ns, poses, strict=True)
    ]
    return path


def pose_with_covariance(
    head: Header, T_frame_camera: np.ndarray, position_deviation: float, rotation_deviation: float
) -> PoseWithCovarianceStamped:
    """A camera pose with the same standard deviation along all axes (metres) and about all axes (radians)."""
    message = PoseWithCovarianceStamped(header=head)
    message.pose.pose = pose_message(T_frame_camera)
    variances = [position_deviation**2] * 3 + [rotation_deviation**2] * 3
    message.pose.covariance = np.diag(variances).ravel()
    return message


def detections_message(head: Header, boxes: Sequence[Box3D]) -> Detection3DArray:
    """Boxes in the header's frame; the label is the hypothesis' class_id."""
    return Detection3DArray(header=head, detections=[_detection(head, box) for box in boxes])


def moved_box(box: Box3D, T_target_source: np.ndarray) -> Box3D:
    """A box of the source frame in the target frame."""
    rotation, translation = T_target_source[:3, :3], T_target_source[:3, 3]
    return Box3D(
        center=rotation @ np.asarray(box.center) + translation,
        size=box.size,
        rotation=rotation @ np.asarray(box.rotation),
        label=box.label,
        score=box.score,
    )


def drop_lists(dropped: Mapping[str, int]) -> tuple[list[str], list[int]]:
    """Reasons and counts, in the same order, without those that are zero."""
    named = sorted((reason, count) for reason, count in dropped.items() if count)
    return [reason for reason, _ in named], [count for _, count in named]


def _detection(head: Header, box: Box3D) -> Detection3D:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = box.rotation, box.center
    bbox = BoundingBox3D(center=pose_message(transform))
    bbox.size.x, bbox.size.y, bbox.size.z = (float(v) for v in box.size)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = box.label
    result.hypothesis.score = float(box.score)
    result.pose.pose = bbox.center
    return Detection3D(header=head, results=[result], bbox=bbox)


def _quaternion(rotation: np.ndarray) -> Quaternion:
    x, y, z, w = (float(v) for v in Rotation.from_matrix(rotation).as_quat())
    return Quaternion(x=x, y=y, z=z, w=w)
