"""The node's messages as arrays. Works on anything with the fields of the ROS type, whoever deserialised it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.recordings.bags import stamp_ns
from vidllm_ros.model.outputs import Box3D

_POINT_FIELD = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # sensor_msgs/PointField
_DEPTH = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 0.001)}  # type, metres per unit (REP 118)

# What the codes of vidllm_ros/msg/WindowInfo mean, in their order
_WORDS = {
    "status": ("first", "stitched", "anchored", "rejected"),
    "scale_source": ("metric", "external", "unreliable"),
    "gravity_source": ("tf", "floor", "assumed level", "vertical edges"),
}
_NUMBERS = (
    "window_id",
    "frame_count",
    "shared_frames",
    "reason",
    "scale",
    "scale_spread",
    "scale_ratio",
    "mean_confidence",
    "point_count",
    "received_frames",
    "used_frames",
    "waiting_frames",
    "encode_time",
    "reconstruct_time",
    "fuse_time",
    "locate_time",
    "publish_time",
    "latency",
)


def pose(message: Any) -> np.ndarray:
    """``geometry_msgs/Pose`` as [4, 4]."""
    p, q = message.position, message.orientation
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    result[:3, 3] = p.x, p.y, p.z
    return result


def path(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """``nav_msgs/Path`` as stamps int64 [K] in nanoseconds and poses [K, 4, 4]."""
    stamps = np.array([stamp_ns(p) for p in message.poses], dtype=np.int64)
    return stamps, np.array([pose(p.pose) for p in message.poses]).reshape(-1, 4, 4)


def cloud(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """``sensor_msgs/PointCloud2`` as finite points float32 [P, 3] in metres and colours uint8 [P, 3] (else grey)."""
    order = ">" if message.is_bigendian else "<"
    fields = {f.name: (order + _POINT_FIELD[f.datatype], f.offset) for f in message.fields}
    if missing := [name for name in "xyz" if name not in fields]:
        raise EvaluationError(
            f"the point cloud has no field {', '.join(missing)}; it has {', '.join(fields) or 'none'}."
        )
    names = [name for name in ("x", "y", "z", "rgb") if name in fields]
    layout = np.dtype(
        {
            "names": names,
            "formats": [fields[name][0] for name in names],
            "offsets": [fields[name][1] for name in names],
            "itemsize": message.point_step,
        }
    )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.row_step)
    rows = np.ascontiguousarray(rows[:, : message.width * message.point_step])
    table = rows.reshape(-1).view(layout)
    points = np.stack([table[axis].astype(np.float32) for axis in "xyz"], axis=1)
    colors = np.full((len(points), 3), 128, dtype=np.uint8)
    if "rgb" in names:
        packed = np.ascontiguousarray(table["rgb"]).view(order + "u4")
        colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    finite = np.isfinite(points).all(axis=1)
    return points[finite], colors[finite]


def depth_image(message: Any) -> np.ndarray:
    """``sensor_msgs/Image`` of encoding 32FC1 or 16UC1 as float32 [H, W] metres, NaN where unknown."""
    if message.encoding not in _DEPTH:
        raise EvaluationError(f"depth encoding {message.encoding!r} is unknown: use {' or '.join(_DEPTH)}.")
    kind, metres = _DEPTH[message.encoding]
    order = ">" if message.is_bigendian else "<"
    depth = _rows(message, np.dtype(order + kind), 1).astype(np.float32) * np.float32(metres)
    return np.where(depth > 0, depth, np.float32(np.nan))


def boxes(message: Any) -> list[Box3D]:
    """``vision_msgs/Detection3DArray`` as boxes in the message's frame; the label is the best hypothesis."""
    result = []
    for detection in message.detections:
        best = max(detection.results, key=lambda r: r.hypothesis.score, default=None)
        box, size = pose(detection.bbox.center), detection.bbox.size
        result.append(
            Box3D(
                center=box[:3, 3],
                size=np.array([size.x, size.y, size.z]),
                rotation=box[:3, :3],
                label=best.hypothesis.class_id if best else "",
                score=float(best.hypothesis.score) if best else 0.0,
            )
        )
    return result


def window_row(message: Any) -> dict[str, Any]:
    """``vidllm_ros/msg/WindowInfo`` as one row of a table: numbers, and words for what is a code."""
    row: dict[str, Any] = {name: getattr(message, name) for name in _NUMBERS}
    for name, words in _WORDS.items():
        code = int(getattr(message, name))
        row[name] = words[code] if code < len(words) else str(code)
    for key in ("first_stamp", "last_stamp"):
        time = getattr(message, key)
        row[key] = int(time.sec) * 1_000_000_000 + int(time.nanosec)
    drops = zip(message.drop_reasons, message.drop_counts, strict=False)
    row["dropped"] = " ".join(f"{reason}={int(count)}" for reason, count in drops)
    return row


def _rows(message: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """Pixels [height, width * channels] without the padding at the end of each row."""
    used = message.width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.step < used or len(data) < message.step * message.height:
        raise EvaluationError(
            f"an image of {message.height} x {message.width} {message.encoding} with step {message.step} needs "
            f"{max(used, message.step) * message.height} bytes, got {len(data)}."
        )
    rows = data[: message.step * message.height].reshape(message.height, message.step)[:, :used]
    return np.ascontiguousarray(rows).view(dtype)
