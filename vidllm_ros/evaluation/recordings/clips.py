"""Posed RGB-D clips: folders with a ``frames.json`` (see ``folders``), and folders of the TUM RGB-D benchmark.

A TUM folder holds ``rgb.txt``, ``depth.txt`` and ``groundtruth.txt``; its images are joined to depth and poses by
stamp as the benchmark's own ``associate.py`` does (Sturm et al., IROS 2012). It names no camera: ``intrinsics.json``
where it is there, else the calibration that the benchmark publishes for the camera in the folder's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.recordings.association import one_to_one
from vidllm_ros.evaluation.recordings.folders import INDEX, FrameFolder, entry_stamp
from vidllm_ros.evaluation.recordings.trajectory_files import read_tum

_TUM_DEPTH_SCALE = 5000.0  # of a 16-bit depth image, per metre
# fx, fy, cx, cy and distortion (k1, k2, p1, p2, k3), from the benchmark's page "Intrinsic Camera Calibration".
_TUM_CAMERAS = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), (0.0, 0.0, 0.0, 0.0, 0.0)),
}


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One image of a clip and what is true of it.

    Attributes:
        stamp_ns: acquisition time.
        T_world_camera: float64 [4, 4], camera (optical axes) to world, metres.
        image: the file.
        depth: loads float32 [H, W] metres, 0 where unknown; None without depth.
    """

    stamp_ns: int
    T_world_camera: np.ndarray
    image: Path
    depth: Callable[[], np.ndarray] | None


@dataclass(frozen=True, eq=False)
class Clip:
    """A posed clip.

    Attributes:
        name: of its folder.
        frames: those with a true pose, in the order of their stamps.
        intrinsics: float64 [3, 3] in pixels of the images, or None.
        distortion: float64 [5] as OpenCV orders it; zeros for none.
    """

    name: str
    frames: tuple[ClipFrame, ...]
    intrinsics: np.ndarray | None
    distortion: np.ndarray

    def every(self, step: int, limit: int | None = None) -> Clip:
        """One frame out of ``step``, and of these the first ``limit``."""
        return replace(self, frames=self.frames[::step][:limit])

    def rgb(self, frame: ClipFrame) -> np.ndarray:
        """The image uint8 [H, W, 3], without distortion."""
        image = cv2.imread(str(frame.image), cv2.IMREAD_COLOR)
        if image is None:
            raise EvaluationError(f"{frame.image} is no readable image.")
        if self.intrinsics is not None and self.distortion.any():
            image = cv2.undistort(image, self.intrinsics, self.distortion)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def depth(self, frame: ClipFrame) -> np.ndarray:
        """Metres float32 [H, W] of the image without distortion, 0 where unknown.

        Raises:
            EvaluationError: the frame has no depth.
        """
        if frame.depth is None:
            raise EvaluationError(f"{self.name} has no depth for {frame.image.name}.")
        depth = np.nan_to_num(frame.depth()).astype(np.float32)
        if self.intrinsics is not None and self.distortion.any():
            size = depth.shape[::-1]
            maps = cv2.initUndistortRectifyMap(
                self.intrinsics, self.distortion, np.eye(3), self.intrinsics, size, cv2.CV_32FC1
            )
            depth = cv2.remap(depth, *maps, interpolation=cv2.INTER_NEAREST)
        return depth


def read_clip(path: str | Path) -> Clip:
    """A posed clip; frames without a true pose are left out.

    Raises:
        EvaluationError: the folder is of neither kind, or has fewer than two frames with a pose.
    """
    path = Path(path)
    if (path / INDEX).exists():
        clip = _indexed(path)
    elif (path / "rgb.txt").exists() and (path / "groundtruth.txt").exists():
        clip = _tum(path)
    else:
        raise EvaluationError(
            f"{path} is no posed clip: it needs a {INDEX}, or the files rgb.txt and groundtruth.txt of TUM RGB-D."
        )
    if len(clip.frames) < 2:
        raise EvaluationError(f"{path} has {len(clip.frames)} frames with a true pose; at least 2 are needed.")
    return clip


def _indexed(path: Path) -> Clip:
    folder = FrameFolder(path)
    poses, depth = folder.poses(), folder.depth()
    frames = tuple(
        ClipFrame(stamp, poses[stamp], path / entry["rgb"], depth.get(stamp))
        for entry in folder.entries
        if (stamp := entry_stamp(entry)) in poses
    )
    matrix = None
    if folder.camera_info_topic is not None:
        values = [float(folder.intrinsics[key]) for key in ("fx", "fy", "cx", "cy")]
        matrix = _matrix(*values)
    return Clip(path.name, frames, matrix, np.array(folder.intrinsics.get("distortion") or [0.0] * 5, np.float64))


def _tum(path: Path) -> Clip:
    stamps, poses = read_tum(path / "groundtruth.txt")
    image_stamps, images = _listing(path / "rgb.txt")
    depth_stamps, depths = _listing(path / "depth.txt") if (path / "depth.txt").exists() else (np.zeros(0, int), [])
    pose_of = dict(zip(*one_to_one(image_stamps, stamps), strict=True))
    depth_of = dict(zip(*one_to_one(image_stamps, depth_stamps), strict=True)) if depths else {}
    frames = []
    for index in np.argsort(image_stamps, kind="stable"):
        if index in pose_of:
            loader = _loader(path / depths[depth_of[index]]) if index in depth_of else None
            frames.append(ClipFrame(int(image_stamps[index]), poses[pose_of[index]], path / images[index], loader))
    given = path / "intrinsics.json"
    if given.exists():
        values = json.loads(given.read_text(encoding="utf-8"))
        matrix = _matrix(*(float(values[key]) for key in ("fx", "fy", "cx", "cy")))
        return Clip(path.name, tuple(frames), matrix, np.array(values.get("distortion") or [0.0] * 5, np.float64))
    for camera, (pinhole, distortion) in _TUM_CAMERAS.items():
        if camera in path.name:
            return Clip(path.name, tuple(frames), _matrix(*pinhole), np.array(distortion))
    return Clip(path.name, tuple(frames), None, np.zeros(5))


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def _listing(path: Path) -> tuple[np.ndarray, list[str]]:
    """Stamps int64 [N] in nanoseconds and files of a TUM list."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    rows = [row for row in rows if len(row) >= 2]
    return np.array([round(float(row[0]) * 1e6) * 1000 for row in rows], np.int64), [row[1] for row in rows]


def _loader(file: Path) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(Image.open(file), dtype=np.float32) / np.float32(_TUM_DEPTH_SCALE)
