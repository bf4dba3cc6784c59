"""Frames from a folder of images or a video file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.perception.errors import SourceError
from vidllm_ros.perception.types import Frame

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
_NANOSECONDS = 1_000_000_000
_STAMP_NAME = re.compile(r"\d{9,10}\.\d{1,9}")  # seconds, as the files of TUM RGB-D are named


def read_frames(path: str | Path, rate: float, intrinsics: np.ndarray | None = None) -> Iterator[Frame]:
    """Frames of a folder of images in natural name order, or of a video file.

    A video's stamps are its own. A folder's are its file names where all of them are seconds
    (``1305031102.175304.png``), else frames follow each other at ``rate``. Images that cannot be read are left out.

    Args:
        path: the folder (or one with a subfolder ``rgb``), or the video file.
        rate: frames per second of a folder without stamps.
        intrinsics: float64 [3, 3] of all frames, when known.

    Raises:
        SourceError: the path does not exist, or holds no readable frame.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"'{path}' does not exist; give a folder of images or a video file")
    count = 0
    for frame in _folder(path, rate, intrinsics) if path.is_dir() else _video(path, intrinsics):
        count += 1
        yield frame
    if count == 0:
        raise SourceError(
            f"'{path}' holds no readable frame; is it a video, or a folder with {', '.join(IMAGE_ENDINGS)}?"
        )


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, or of its subfolder ``rgb`` when it has none itself, in natural name order."""
    for candidate in (folder, folder / "rgb"):
        if candidate.is_dir():
            files = [file for file in candidate.iterdir() if file.suffix.lower() in IMAGE_ENDINGS and file.is_file()]
            if files:
                return sorted(files, key=lambda file: _natural(file.name))
    return []


def _folder(folder: Path, rate: float, intrinsics: np.ndarray | None) -> Iterator[Frame]:
    files = list_images(folder)
    stamped = bool(files) and all(_STAMP_NAME.fullmatch(file.stem) for file in files)
    for index, file in enumerate(files):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is not None:
            stamp = _stamp(file.stem) if stamped else round(index * _NANOSECONDS / rate)
            yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stamp, intrinsics=intrinsics)


def _video(path: Path, intrinsics: np.ndarray | None) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or 30.0
        last = -1
        index = 0
        while capture.grab():
            # Some containers give no time stamps, or the same one twice; the nominal rate stands in.
            stamp = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if stamp <= last:
                stamp = max(last + 1, round(index * _NANOSECONDS / rate))
            decoded, image = capture.retrieve()
            index += 1
            if decoded:
                last = stamp
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stamp, intrinsics=intrinsics)
    finally:
        capture.release()


def _stamp(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole) * _NANOSECONDS + int(fraction.ljust(9, "0"))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """``frame2`` before ``frame10``."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]
