"""Real frames with depth, for training and for tests, and which of them are which.

Two layouts are read. Small clips: ``rgb/*.jpg``, ``depth/*.png`` in millimetres and ``clip.json`` with the camera at
that size. Test clips: pictures with ``frames.json`` and ``intrinsics.json``, whose ``depth_scale`` is PNG values a
metre.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.perception.geometry.images import fit_image
from vidllm_ros.training.metric_depth.frame_cache import CACHED_SIZE, Frames

#: The room of each known clip; clips of one room stay on one side of a split. Other clips are rooms of their own.
ROOMS = {
    "dvmvs_hololens_000": "office",
    "tum_fr1_rpy": "fr1",
    "tum_fr1_desk_9": "fr1",
    "tum_fr1_360_5": "fr1",
}
#: The second part of this walk is test data: only frames before this one are trained on.
FIRST_TEST_FRAME = {"dvmvs_hololens_000": 187}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with lens distortion.

    Attributes:
        matrix: [3, 3] pixels.
        distortion: OpenCV's coefficients, empty for none.
    """

    matrix: np.ndarray
    distortion: tuple[float, ...] = ()


def training_clips(folder: Path, hold_out: Iterable[str] = ()) -> dict[str, Frames]:
    """The training frames of all small clips of a folder by room, at the cached size.

    Args:
        folder: with one folder for each clip.
        hold_out: rooms or clips to leave out, for validation.
    """
    left_out, parts = set(hold_out), {}
    for path in sorted(folder.glob("*/clip.json")):
        name = path.parent.name
        room = ROOMS.get(name, name)
        if {name, room} & left_out:
            continue
        parts.setdefault(room, []).append(read_clip(path.parent, FIRST_TEST_FRAME.get(name)))
    return {room: join(clips) for room, clips in parts.items()}


def held_out_clips(folder: Path, hold_out: Iterable[str]) -> dict[str, Frames]:
    """The frames of the rooms that ``training_clips`` leaves out."""
    left_out = set(hold_out)
    names = {p.parent.name for p in folder.glob("*/clip.json")}
    return training_clips(folder, {name for name in names if not {name, ROOMS.get(name, name)} & left_out})


def join(parts: list[Frames]) -> Frames:
    """Several sets of frames as one."""
    return Frames(
        np.concatenate([p.rgb for p in parts]),
        np.concatenate([p.depth for p in parts]),
        np.concatenate([p.focal for p in parts]),
    )


def read_clip(folder: Path, stop: int | None = None) -> Frames:
    """A small clip at the cached size; wider pictures give three views: left, centre and right."""
    about = json.loads((folder / "clip.json").read_text())
    matrix = np.array([[about["fx"], 0, about["cx"]], [0, about["fy"], about["cy"]], [0, 0, 1]])
    camera = Camera(matrix, _distortion(about.get("distortion")))
    height, width = about["height"], about["width"]
    kept = min(width, round(height * CACHED_SIZE[1] / CACHED_SIZE[0]))
    offsets = [0] if kept == width else [0, (width - kept) // 2, width - kept]
    frames = []
    for rgb_path in sorted((folder / "rgb").glob("*.jpg"))[:stop]:
        rgb, depth = _read_pair(rgb_path, folder / "depth" / f"{rgb_path.stem}.png", about["depth_unit_m"])
        rgb, depth = undistort(rgb, depth, camera)
        for left in offsets:
            crop = (slice(None), slice(left, left + kept))
            frames.append((fit_image(rgb[crop], CACHED_SIZE), nearest(depth[crop], CACHED_SIZE), matrix[0, 0] / kept))
    rgbs, depths, focals = zip(*frames, strict=True)
    return Frames(np.stack(rgbs), np.stack(depths).astype(np.float16), np.array(focals, np.float32))


def read_test_clip(folder: Path, size: tuple[int, int], first: int = 0) -> Frames:
    """A test clip from frame ``first`` on, fitted to ``size`` (height, width) as perception fits frames to a network.

    Depth is taken from the nearest pixel and kept at 0 where the sensor gave none.
    """
    about = json.loads((folder / "intrinsics.json").read_text())
    listed = json.loads((folder / "frames.json").read_text())["frames"][first:]
    frames = []
    for entry in listed:
        rgb, depth = _read_pair(folder / entry["rgb"], folder / entry["depth"], 1.0 / about["depth_scale"])
        height, width = rgb.shape[:2]
        scale = max(size[0] / height, size[1] / width)
        kept = (round(size[0] / scale), round(size[1] / scale))
        top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
        cut = depth[top : top + kept[0], left : left + kept[1]]
        frames.append((fit_image(rgb, size), nearest(cut, size), about["fx"] / kept[1]))
    rgbs, depths, focals = zip(*frames, strict=True)
    return Frames(np.stack(rgbs), np.stack(depths), np.array(focals, np.float32))


def nearest(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth [h, w] at another size, each value from the nearest pixel's middle: nothing is mixed over edges."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, depth.shape, strict=True)
    )
    return depth[np.ix_(rows, columns)]


def undistort(rgb: np.ndarray, depth: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth through an ideal lens of the same matrix; depth outside the old picture is unknown."""
    if not any(camera.distortion):
        return rgb, depth
    size = (rgb.shape[1], rgb.shape[0])
    ways = cv2.initUndistortRectifyMap(
        camera.matrix, np.array(camera.distortion), None, camera.matrix, size, cv2.CV_32FC1
    )
    return (
        cv2.remap(rgb, *ways, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        cv2.remap(depth, *ways, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0),
    )


def _distortion(value: object) -> tuple[float, ...]:
    if isinstance(value, dict):
        value = value.get("coefficients", [value.get(k, 0.0) for k in ("k1", "k2", "p1", "p2", "k3")])
    return tuple(float(v) for v in value) if isinstance(value, list | tuple) else ()


def _read_pair(rgb_path: Path, depth_path: Path, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [H, W, 3] and its depth float32 [H, W] in metres."""
    rgb, depth = cv2.imread(str(rgb_path)), cv2.imread(str(depth_path), cv2.IMREAD_UNCHANGED)
    if rgb is None or depth is None:
        raise OSError(f"{rgb_path} or {depth_path} cannot be read")
    return np.ascontiguousarray(rgb[..., ::-1]), depth.astype(np.float32) * np.float32(unit)
