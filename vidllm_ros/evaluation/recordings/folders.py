"""Recordings as a folder of image files with an index, the layout of small posed RGB-D clips.

``frames.json`` holds ``{"frames": [{"stamp": seconds, "rgb": file, "depth": file, "T_world_cam": 4 x 4, "pose_ok":
bool}]}``; all but ``stamp`` and ``rgb`` may be missing. ``intrinsics.json`` (optional) holds ``width, height, fx, fy,
cx, cy, distortion, depth_scale``, where metres = png / depth_scale. ``boxes_gt.json`` (optional) holds ``{"boxes":
[{"label", "center", "size_full", "yaw_rad"}]}`` in the world frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.typesys import Stores, get_typestore

from vidllm_ros.evaluation.errors import BagError
from vidllm_ros.evaluation.recordings.bags import CAMERA_INFO, COMPRESSED_IMAGE, RecordedFrame

INDEX = "frames.json"
_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


class FrameFolder:
    """A folder of frames that reads like a bag: its image files become compressed image messages, untouched.

    Args:
        path: the folder.

    Raises:
        BagError: no index, or one that cannot be read.
    """

    image_topic = "/camera/image_raw/compressed"
    camera_info_topic: str | None = "/camera/camera_info"
    image_type = COMPRESSED_IMAGE
    frame_id = "camera_optical_frame"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.types = get_typestore(Stores.ROS2_JAZZY)
        self.entries: list[dict[str, Any]] = sorted(self._json(INDEX).get("frames", []), key=lambda e: e["stamp"])
        self.intrinsics = self._json("intrinsics.json") if (self.path / "intrinsics.json").exists() else {}
        if not self.entries:
            raise BagError(f"{self.path / INDEX} lists no frames.")
        if not {"fx", "fy", "cx", "cy", "width", "height"} <= set(self.intrinsics):
            self.camera_info_topic = None

    def __enter__(self) -> FrameFolder:
        """The folder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    @property
    def frame_count(self) -> int:
        """Frames in the index."""
        return len(self.entries)

    def frames(self) -> Iterator[RecordedFrame]:
        """The frames in order of their stamps, as serialised messages."""
        for entry in self.entries:
            stamp, file = entry_stamp(entry), self.path / entry["rgb"]
            if file.suffix.lower() not in _FORMATS or not file.is_file():
                raise BagError(f"{file}, named in {INDEX}, is no readable .jpg or .png file.")
            image = self.types.types[COMPRESSED_IMAGE](
                header=self._header(stamp),
                format=_FORMATS[file.suffix.lower()],
                data=np.frombuffer(file.read_bytes(), dtype=np.uint8),
            )
            data = bytes(self.types.serialize_cdr(image, COMPRESSED_IMAGE))
            yield RecordedFrame(stamp, stamp, data, self._camera_info(stamp))

    def decode(self, data: bytes, topic: str) -> Any:
        """A message that ``frames`` gave, as an object."""
        return self.types.deserialize_cdr(data, CAMERA_INFO if topic == self.camera_info_topic else self.image_type)

    def poses(self) -> dict[int, np.ndarray]:
        """``T_world_camera`` [4, 4] by stamp, for the frames whose pose is known and not marked bad."""
        usable = (e for e in self.entries if e.get("pose_ok", True) and "T_world_cam" in e)
        return {entry_stamp(e): np.array(e["T_world_cam"], dtype=np.float64) for e in usable}

    def depth(self) -> dict[int, Callable[[], np.ndarray]]:
        """By stamp, what loads the depth image as float32 [H, W] metres, 0 where unknown."""
        scale = float(self.intrinsics.get("depth_scale", 1000.0))

        def loader(file: Path) -> Callable[[], np.ndarray]:
            return lambda: np.asarray(Image.open(file), dtype=np.float32) / np.float32(scale)

        return {entry_stamp(e): loader(self.path / e["depth"]) for e in self.entries if e.get("depth")}

    def _header(self, stamp: int) -> Any:
        seconds, nanoseconds = divmod(stamp, 1_000_000_000)
        time = self.types.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return self.types.types["std_msgs/msg/Header"](stamp=time, frame_id=self.frame_id)

    def _camera_info(self, stamp: int) -> bytes | None:
        if self.camera_info_topic is None:
            return None
        k = self.intrinsics
        matrix = np.array([k["fx"], 0, k["cx"], 0, k["fy"], k["cy"], 0, 0, 1], dtype=np.float64)
        message = self.types.types[CAMERA_INFO](
            header=self._header(stamp),
            height=int(k["height"]),
            width=int(k["width"]),
            distortion_model="plumb_bob",
            d=np.array(k.get("distortion") or [0.0] * 5, dtype=np.float64),
            k=matrix,
            r=np.eye(3).reshape(-1),
            p=np.insert(matrix.reshape(3, 3), 3, 0.0, axis=1).reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=self.types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
        )
        return bytes(self.types.serialize_cdr(message, CAMERA_INFO))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BagError(
                f"{self.path} is neither a ROS 2 bag (no metadata.yaml) nor a folder with {name}."
            ) from error
        except (OSError, ValueError) as error:
            raise BagError(f"{self.path / name} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise BagError(f"{self.path / name} must hold an object, got {type(content).__name__}.")
        return content


def entry_stamp(entry: dict[str, Any]) -> int:
    """Stamp of an index entry in nanoseconds, rounded to the microsecond that survives in a float."""
    return round(float(entry["stamp"]) * 1e6) * 1000
