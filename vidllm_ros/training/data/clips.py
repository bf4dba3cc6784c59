"""Small posed RGB-D clips: a folder with ``frames.json``, the layout that ``vidllm rooms`` writes as well.

See ``evaluation.recordings.folders`` for the files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.recordings.folders import INDEX, FrameFolder, entry_stamp
from vidllm_ros.evaluation.recordings.truth import load
from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.data.errors import DataError, log
from vidllm_ros.training.data.frames import pinhole, read_rgb, read_window, undistort, usable_pose
from vidllm_ros.training.sample import Sample

_NEEDED = ("fx", "fy", "cx", "cy")


class ClipFrames:
    """A clip as a store of undistorted frames, numbered as in its index.

    Frames without depth or a usable pose (``pose_ok`` false, not rigid) are left out with a warning.

    Args:
        path: the folder.

    Raises:
        DataError: the index or the intrinsics are missing or broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            folder = FrameFolder(path)
            poses, depth = folder.poses(), folder.depth()
            stamps = [entry_stamp(entry) for entry in folder.entries]
            self._color = [path / str(entry["rgb"]) for entry in folder.entries]
        except EvaluationError as error:
            raise DataError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path / INDEX} has a broken entry: {error!r}") from error
        if missing := [key for key in _NEEDED if key not in folder.intrinsics]:
            raise DataError(f"{path / 'intrinsics.json'} is missing or lacks {', '.join(missing)}.")
        try:
            self.color_intrinsics = pinhole(*(float(folder.intrinsics[key]) for key in _NEEDED))
            self._distortion = np.array(folder.intrinsics.get("distortion") or [0.0] * 5, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path / 'intrinsics.json'} holds something else than numbers: {error}.") from error
        if self._distortion.shape not in ((4,), (5,), (8,)):
            raise DataError(
                f"{path / 'intrinsics.json'}: distortion has {self._distortion.size} values, not 4, 5 or 8."
            )
        self.depth_intrinsics = self.color_intrinsics
        self._depth: dict[int, Callable[[], np.ndarray]] = {}
        self.poses: dict[int, np.ndarray] = {}
        for number, stamp in enumerate(stamps):
            if stamp in poses and stamp in depth and usable_pose(poses[stamp]):
                self.poses[number], self._depth[number] = poses[stamp], depth[stamp]
        if left_out := len(stamps) - len(self.poses):
            log.warning(
                "%s: %d of %d frames have no depth or no usable pose and are left out", path, left_out, len(stamps)
            )

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and depth float32 [H, W] metres of a frame; raises DataError when they are broken."""
        rgb = read_rgb(self._color[number])
        try:
            depth = self._depth[number]()
        except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken PNG a syntax error
            raise DataError(f"{self.path}: depth of {self._color[number].name} cannot be read: {error}") from error
        if depth.shape != rgb.shape[:2]:
            raise DataError(f"{self._color[number]} is {rgb.shape[:2]} pixels, its depth image {depth.shape}.")
        return undistort(rgb, depth, self.color_intrinsics, self._distortion)


@dataclass(frozen=True)
class Clips:
    """Clips by name.

    Attributes:
        folders: by name.
        config: sizes of images and windows.
    """

    folders: dict[str, Path]
    config: VidLLMConfig

    def load(self, name: str) -> Sample:
        """The sample of a clip, with the boxes of its ground truth; raises DataError when it cannot be used."""
        path = self.folders[name]
        window = read_window(ClipFrames(path), self.config)
        try:
            boxes = load(FrameFolder(path)).boxes or ()
        except EvaluationError as error:
            raise DataError(str(error)) from error
        return window.without_labels(f"clip/{name}", boxes)


def find_clips(path: Path) -> dict[str, Path]:
    """The clip at ``path``, or those in it, by name; raises DataError when there is none."""
    if (path / INDEX).is_file():
        return {path.resolve().name: path}
    found = {file.parent.name: file.parent for file in sorted(path.glob(f"*/{INDEX}"))}
    if not found:
        raise DataError(f"{path} holds no {INDEX}, and no folder in it does.")
    return found
