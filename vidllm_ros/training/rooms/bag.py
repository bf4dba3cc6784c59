"""A room video as a ROS 2 bag (mcap), written without a ROS installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.training.rooms.export import VideoRecord, depth_millimetres, new_folder, write_ground_truth
from vidllm_ros.training.rooms.generate import RoomVideo

IMAGE_TOPIC = "/camera/color/image_raw"
INFO_TOPIC = "/camera/color/camera_info"
DEPTH_TOPIC = "/camera/aligned_depth_to_color/image_raw"
POSE_TOPIC = "/ground_truth/pose"
CAMERA_FRAME = "camera_color_optical_frame"
WORLD_FRAME = "world"


class _Messages:
    """Builds the messages of one video."""

    def __init__(self, video: RoomVideo, types: dict[str, Any]) -> None:
        self.types, self.video = types, video

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        time = self.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
        return self.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)

    def image(self, stamp_ns: int, image: np.ndarray, encoding: str) -> Any:
        height, width = image.shape[:2]
        data = np.ascontiguousarray(image).view(np.uint8).reshape(-1)
        header = self.header(stamp_ns, CAMERA_FRAME)
        return self.types["sensor_msgs/msg/Image"](header, height, width, encoding, 0, len(data) // height, data)

    def compressed(self, stamp_ns: int, rgb: np.ndarray) -> Any:
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])
        header = self.header(stamp_ns, CAMERA_FRAME)
        return self.types["sensor_msgs/msg/CompressedImage"](header, "jpeg", data.reshape(-1))

    def camera_info(self, stamp_ns: int) -> Any:
        k = self.video.intrinsics
        height, width = self.video.image_size
        return self.types["sensor_msgs/msg/CameraInfo"](
            header=self.header(stamp_ns, CAMERA_FRAME),
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=k.reshape(-1).copy(),
            r=np.eye(3).reshape(-1),
            p=np.column_stack([k, np.zeros(3)]).reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=self.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
        )

    def pose(self, stamp_ns: int, pose: np.ndarray) -> Any:
        point = self.types["geometry_msgs/msg/Point"](*map(float, pose[:3, 3]))
        placed = self.types["geometry_msgs/msg/Pose"](point, self._quaternion(pose))
        return self.types["geometry_msgs/msg/PoseStamped"](self.header(stamp_ns, WORLD_FRAME), placed)

    def transform(self, stamp_ns: int, pose: np.ndarray) -> Any:
        way = self.types["geometry_msgs/msg/Vector3"](*map(float, pose[:3, 3]))
        move = self.types["geometry_msgs/msg/Transform"](way, self._quaternion(pose))
        stamped = self.types["geometry_msgs/msg/TransformStamped"]
        return self.types["tf2_msgs/msg/TFMessage"]([stamped(self.header(stamp_ns, WORLD_FRAME), CAMERA_FRAME, move)])

    def _quaternion(self, pose: np.ndarray) -> Any:
        return self.types["geometry_msgs/msg/Quaternion"](*map(float, Rotation.from_matrix(pose[:3, :3]).as_quat()))


def write_bag(
    video: RoomVideo,
    path: str | Path,
    *,
    questions: int = 40,
    compressed: bool = False,
    depth: bool = False,
    tf: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> Path:
    """Write a bag with image and camera_info, and the folder ``ground_truth`` inside it.

    The true pose is recorded on ``/ground_truth/pose``, not on ``/tf``: a node that finds it there would use it, and
    nothing would be left to measure.

    Args:
        video: what to write.
        path: a folder that does not exist yet.
        questions: how many questions to ask.
        compressed: JPEG images on ``/camera/color/image_raw/compressed`` instead of raw ones.
        depth: also record true depth as 16UC1 millimetres.
        tf: record the true pose on ``/tf`` as well, as localisation would give it (world -> camera).
        on_frame: told the number of frames written so far.

    Raises:
        RoomError: when ``path`` exists.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    folder = new_folder(path)
    store = get_typestore(Stores.ROS2_HUMBLE)
    build, record = _Messages(video, store.types), VideoRecord(video)
    image_type = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
    topics = {
        IMAGE_TOPIC + "/compressed" * compressed: image_type,
        INFO_TOPIC: "sensor_msgs/msg/CameraInfo",
        POSE_TOPIC: "geometry_msgs/msg/PoseStamped",
        **({DEPTH_TOPIC: "sensor_msgs/msg/Image"} if depth else {}),
        **({"/tf": "tf2_msgs/msg/TFMessage"} if tf else {}),
    }
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {name: writer.add_connection(name, kind, typestore=store) for name, kind in topics.items()}
        for k, frame in enumerate(video):
            stamp, pose = record.add(frame), frame.T_world_camera
            messages = {
                INFO_TOPIC: build.camera_info(stamp),
                POSE_TOPIC: build.pose(stamp, pose),
                "/tf": build.transform(stamp, pose),
                DEPTH_TOPIC: build.image(stamp, depth_millimetres(frame.depth), "16UC1"),
                IMAGE_TOPIC: build.image(stamp, frame.rgb, "rgb8"),
            }
            if compressed:
                messages[IMAGE_TOPIC + "/compressed"] = build.compressed(stamp, frame.rgb)
            for name, message in messages.items():
                if name in connections:
                    writer.write(connections[name], stamp, store.serialize_cdr(message, topics[name]))
            if on_frame:
                on_frame(k + 1)
    write_ground_truth(record, folder / "ground_truth", questions)
    return folder
