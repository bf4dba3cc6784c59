"""TUM RGB-D (Sturm et al., IROS 2012): one sample per sequence.

A sequence is a folder with ``rgb.txt`` and ``depth.txt`` (lines ``stamp filename``), ``groundtruth.txt`` (lines ``stamp
tx ty tz qx qy qz qw``) and the images they name; metres = depth png / 5000. The world is that of the motion capture, z
up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypeVar

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.trajectory import associate
from vidllm_ros.evaluation.recordings.trajectory_files import read_tum
from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.frames import pinhole, read_depth, read_rgb, read_window, undistort
from vidllm_ros.training.sample import Sample

Value = TypeVar("Value")
UNITS_PER_METRE = 5000.0
MAX_DIFFERENCE = 0.02  # seconds between colour, depth and pose, as in the benchmark's own tools


@dataclass(frozen=True, eq=False)
class TumCamera:
    """A colour camera of the benchmark, as its page calibrates it; depth is registered to it.

    Attributes:
        intrinsics: [3, 3] pixels at 640 x 480.
        distortion: k1, k2, p1, p2, k3.
    """

    intrinsics: np.ndarray
    distortion: np.ndarray


CAMERAS = {
    "freiburg1": TumCamera(pinhole(517.3, 516.5, 318.6, 255.3), np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])),
    "freiburg2": TumCamera(pinhole(520.9, 521.0, 325.1, 249.7), np.array([0.2312, -0.7849, -0.0033, -0.0001, 0.9172])),
    "freiburg3": TumCamera(pinhole(535.4, 539.2, 320.1, 247.6), np.zeros(5)),
}


class TumFrames:
    """A sequence as a store of undistorted frames, numbered by the lines of ``rgb.txt``.

    Frames without depth or without a pose within 20 ms are left out with a warning.

    Args:
        path: the sequence's folder.
        camera: which calibration; by the folder's name when not given.

    Raises:
        DataError: an index file is missing or a line of it broken, or the camera is unknown.
    """

    def __init__(self, path: Path, camera: str | None = None) -> None:
        self.path = path
        self._camera = CAMERAS[camera or _camera_of(path)]
        self.color_intrinsics = self.depth_intrinsics = self._camera.intrinsics
        color_stamps, self._color = read_index(path / "rgb.txt")
        depth_stamps, depth_files = read_index(path / "depth.txt")
        try:
            pose_stamps, poses = read_tum(path / "groundtruth.txt")
        except EvaluationError as error:
            raise DataError(str(error)) from error
        self._depth = dict(_pairs(color_stamps, depth_stamps, depth_files))
        posed = dict(_pairs(color_stamps, pose_stamps, list(poses)))
        self.poses = {number: posed[number] for number in sorted(set(posed) & set(self._depth))}
        if alone := len(self._color) - len(self.poses):
            log.warning(
                "%s: %d of %d colour images have no depth or no pose within %g s and are left out",
                path,
                alone,
                len(self._color),
                MAX_DIFFERENCE,
            )

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and depth float32 [H, W] metres of a frame; raises DataError when they are broken."""
        rgb = read_rgb(self.path / self._color[number])
        depth = read_depth(self.path / self._depth[number], UNITS_PER_METRE)
        if depth.shape != rgb.shape[:2]:
            raise DataError(
                f"{self.path / self._depth[number]} is {depth.shape} pixels, its colour image {rgb.shape[:2]}; depth "
                "of TUM RGB-D is registered to the colour image."
            )
        return undistort(rgb, depth, self._camera.intrinsics, self._camera.distortion)


@dataclass(frozen=True)
class TumSequences:
    """Sequences by name.

    Attributes:
        folders: by name.
        config: sizes of images and windows.
        camera: calibration of all of them, when their names do not tell.
    """

    folders: dict[str, Path]
    config: VidLLMConfig
    camera: str | None = None

    def load(self, name: str) -> Sample:
        """The sample of a sequence, without boxes and tasks; raises DataError as ``TumFrames`` and ``read_window``."""
        window = read_window(TumFrames(self.folders[name], self.camera), self.config)
        return window.without_labels(f"tum/{name}")


def find_sequences(path: Path) -> dict[str, Path]:
    """The sequence at ``path``, or those in it, by name; raises DataError when there is none."""
    if (path / "rgb.txt").is_file():
        return {path.resolve().name: path}
    found = {file.parent.name: file.parent for file in sorted(path.glob("*/rgb.txt"))}
    if not found:
        raise DataError(f"{path} is no TUM RGB-D sequence (no rgb.txt) and holds none; unpack the .tgz archives there.")
    return found


def read_index(path: Path) -> tuple[np.ndarray, list[str]]:
    """``rgb.txt`` or ``depth.txt``: stamps int64 nanoseconds [K] and file names; raises DataError for a broken line."""
    stamps, names = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            stamp, name = fields
            stamps.append(int(Decimal(stamp).scaleb(9).to_integral_value()))
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise DataError(f"{path}, line {number}: expected 'stamp filename', got {line[:80]!r}.") from error
        names.append(name)
    if not names:
        raise DataError(f"{path} names no image.")
    return np.array(stamps, dtype=np.int64), names


def _pairs(stamps: np.ndarray, other: np.ndarray, values: Sequence[Value]) -> Iterator[tuple[int, Value]]:
    mine, theirs = associate(stamps, other, MAX_DIFFERENCE)
    return ((int(i), values[int(j)]) for i, j in zip(mine, theirs, strict=True))


def _camera_of(path: Path) -> str:
    name = path.resolve().name.lower()
    found = [camera for camera in CAMERAS if camera in name]
    if len(found) != 1:
        raise DataError(
            f"{path}: the name does not tell which camera recorded it; keep the published name "
            f"(rgbd_dataset_freiburg1_...) or add camera=NAME, one of {', '.join(CAMERAS)}."
        )
    return found[0]
