"""RealEstate10K (Zhou et al., SIGGRAPH 2018): the camera files, one text file for each clip.

The first line is the video's address. Every other line has 19 numbers: the stamp in microseconds; fx, fy, cx, cy as
shares of the image's width and height; two zeros; and the camera-from-world matrix, three rows of four, OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

_NUMBERS = 19


@dataclass(frozen=True, eq=False)
class Re10kClip:
    """The cameras of a clip.

    Attributes:
        name: of the file.
        video: address of the video.
        stamps_us: int64 [K] microseconds in the video.
        normalized_intrinsics: float64 [K, 3, 3] in shares of width and height.
        camera_from_world: float64 [K, 4, 4]; the unit of length is arbitrary.
    """

    name: str
    video: str
    stamps_us: np.ndarray
    normalized_intrinsics: np.ndarray
    camera_from_world: np.ndarray

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """Pixel intrinsics [K, 3, 3] of images of that size."""
        return np.diag([width, height, 1.0]) @ self.normalized_intrinsics


def read_clip(path: str | Path) -> Re10kClip:
    """Read a camera file.

    Raises:
        EvaluationError: no file, no camera, or a line that is none; the message names it.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    stamps, rows = [], []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split()
        if not fields:
            continue
        try:
            stamp, values = int(fields[0]), np.array(fields[1:], dtype=np.float64)
        except ValueError:
            stamp, values = 0, np.zeros(0)
        if len(values) != _NUMBERS - 1 or not np.isfinite(values).all():
            raise EvaluationError(f"{path}, line {number}: expected {_NUMBERS} finite numbers, got {line[:60]!r}.")
        stamps.append(stamp)
        rows.append(values)
    if not rows:
        raise EvaluationError(f"{path} holds no camera: expected an address and a line of {_NUMBERS} numbers each.")
    table = np.array(rows)
    intrinsics = np.tile(np.eye(3), (len(table), 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = table[:, 0], table[:, 1]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = table[:, 2], table[:, 3]
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3] = table[:, 6:].reshape(-1, 3, 4)
    return Re10kClip(path.stem, lines[0].strip(), np.array(stamps, dtype=np.int64), intrinsics, poses)
