"""ScanNet's ``.sens`` files, version 4: one recording with colour, depth and poses in a single binary file.

The layout is that of ``sensorData.h`` in the ScanNet repository: little-endian; a header with the calibration, then for
every frame a camera-to-world matrix, two time stamps, two byte counts and the compressed images. What follows (IMU
frames) is not read.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np

from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.frames import usable_pose

VERSION = 4
COLOR_RAW, COLOR_PNG, COLOR_JPEG = 0, 1, 2
DEPTH_RAW, DEPTH_ZLIB, DEPTH_OCCI = 0, 1, 2

_CALIBRATION = struct.Struct("<64f")
_FORMAT = struct.Struct("<2i4IfQ")
_FRAME = struct.Struct("<16f4Q")
_LONGEST_NAME = 4096


class _Block(NamedTuple):
    """Where the compressed images of a frame lie in the file."""

    offset: int
    color_bytes: int
    depth_bytes: int


class SensFile:
    """A ``.sens`` file as a store of frames.

    Poses are in the scan's own frame, before axis alignment. Frames whose pose is -inf (lost tracking) or otherwise no
    rigid motion are left out with a warning, as are those beyond the end of a file that was cut off. Released depth is
    registered to the colour camera, so the extrinsics of the header are not used.

    Args:
        path: the file; it is opened for each reading, so that the store can be pickled.

    Attributes:
        frame_count: frames that the header promises.

    Raises:
        DataError: the file is missing, is no ``.sens`` file of version 4, or is compressed in another way.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._read_header(file)
                self._index(file)
        except OSError as error:
            raise DataError(f"{self.path} cannot be opened: {reason(error)}.") from error

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and depth float32 [h, w] metres of a frame; raises DataError when they are broken."""
        block = self._blocks[number]
        with self.path.open("rb") as file:
            file.seek(block.offset)
            color, depth = file.read(block.color_bytes), file.read(block.depth_bytes)
        return self._decode_color(color, number), self._decode_depth(depth, number)

    def _read_header(self, file: BinaryIO) -> None:
        version, length = struct.unpack("<IQ", self._take(file, 12))
        if version != VERSION or length > _LONGEST_NAME:
            raise DataError(f"{self.path} starts with version {version}; only .sens files of version 4 can be read.")
        self._take(file, length)
        matrices = np.array(_CALIBRATION.unpack(self._take(file, _CALIBRATION.size)), np.float64).reshape(4, 4, 4)
        self.color_intrinsics, self.depth_intrinsics = matrices[0, :3, :3], matrices[2, :3, :3]
        values = _FORMAT.unpack(self._take(file, _FORMAT.size))
        self._color_kind, self._depth_kind = values[:2]
        self._color_size, self._depth_size = (values[3], values[2]), (values[5], values[4])
        self._units_per_metre, self.frame_count = values[6], values[7]
        if self._color_kind not in (COLOR_RAW, COLOR_PNG, COLOR_JPEG):
            raise DataError(f"{self.path}: colour compression {self._color_kind} is none of raw, png and jpeg.")
        if self._depth_kind not in (DEPTH_RAW, DEPTH_ZLIB):
            raise DataError(
                f"{self.path}: depth compression {self._depth_kind} (2 is 'occi') cannot be read, only raw and zlib "
                "can; export the frames with ScanNet's SensReader instead."
            )
        if not self._units_per_metre > 0:
            raise DataError(f"{self.path}: {self._units_per_metre} depth units per metre; it must be positive.")

    def _index(self, file: BinaryIO) -> None:
        """Note every frame's pose and place; the images are skipped."""
        self.poses: dict[int, np.ndarray] = {}
        self._blocks: dict[int, _Block] = {}
        end = self.path.stat().st_size
        lost: list[int] = []
        for number in range(self.frame_count):
            head = file.read(_FRAME.size)
            color_bytes, depth_bytes = _FRAME.unpack(head)[18:] if len(head) == _FRAME.size else (end, end)
            block = _Block(file.tell(), color_bytes, depth_bytes)
            if block.offset + color_bytes + depth_bytes > end:
                log.warning(
                    "%s ends within frame %d of %d; the file is cut off, later frames are left out",
                    self.path,
                    number,
                    self.frame_count,
                )
                break
            file.seek(color_bytes + depth_bytes, 1)
            pose = np.array(_FRAME.unpack(head)[:16], np.float64).reshape(4, 4)
            if usable_pose(pose):
                self.poses[number], self._blocks[number] = pose, block
            else:
                lost.append(number)
        if lost:
            log.warning(
                "%s: %d of %d frames have no finite, rigid pose (tracking was lost; the first is frame %d) and are "
                "left out",
                self.path,
                len(lost),
                self.frame_count,
                lost[0],
            )

    def _take(self, file: BinaryIO, count: int) -> bytes:
        data = file.read(count)
        if len(data) < count:
            raise DataError(f"{self.path} ends within its header; it is cut off or no .sens file. Download it again.")
        return data

    def _decode_color(self, data: bytes, number: int) -> np.ndarray:
        height, width = self._color_size
        if self._color_kind == COLOR_RAW:
            if len(data) != 3 * height * width:
                raise DataError(
                    f"{self.path}: colour of frame {number} has {len(data)} bytes, not 3 x {height * width}."
                )
            return np.frombuffer(data, np.uint8).reshape(height, width, 3)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None or image.shape[:2] != self._color_size:
            raise DataError(f"{self.path}: colour of frame {number} is no image of {width} x {height} pixels.")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _decode_depth(self, data: bytes, number: int) -> np.ndarray:
        try:
            data = zlib.decompress(data) if self._depth_kind == DEPTH_ZLIB else data
        except zlib.error as error:
            raise DataError(f"{self.path}: depth of frame {number} cannot be decompressed: {error}.") from error
        height, width = self._depth_size
        if len(data) != 2 * height * width:
            raise DataError(f"{self.path}: depth of frame {number} has {len(data)} bytes, not 2 x {height * width}.")
        depth = np.frombuffer(data, "<u2").reshape(height, width)
        return depth.astype(np.float32) / np.float32(self._units_per_metre)
