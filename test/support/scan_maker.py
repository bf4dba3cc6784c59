"""A room of two boxes on a floor, seen by exact ray casting, and written as a ScanNet scan in the published layouts."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.model.sizes import nano

SCENE = "scene0012_00"
COLOR_SIZE, DEPTH_SIZE = (243, 325), (121, 161)
SENSOR = b"StructureSensor"
# (objectId, label, low corner, high corner, colour), in the axis-aligned world; ids have gaps as in real scans.
FLOOR = (0, "floor", (-3.0, -3.0, -0.02), (3.0, 3.0, 0.0), (120, 120, 120))
TABLE = (3, "coffee table", (0.4, -1.0, 0.0), (1.2, 0.2, 0.5), (200, 40, 40))
CHAIR = (7, "office chair", (0.2, 0.7, 0.0), (0.7, 1.2, 0.9), (40, 60, 200))
HIDDEN = (9, "lamp", (-2.8, -0.2, 0.0), (-2.5, 0.2, 1.2), (230, 220, 60))  # behind every camera
OBJECTS = (FLOOR, TABLE, CHAIR, HIDDEN)


def window_config(frames: int = 4):
    return replace(nano(), window_size=frames)


def color_intrinsics() -> np.ndarray:
    return np.array([[290.0, 0, 160.3], [0, 292.0, 122.4], [0, 0, 1]])


def depth_intrinsics() -> np.ndarray:
    """Those of the colour camera with its image scaled, pixel centres at whole numbers: registered depth."""
    matrix = color_intrinsics()
    for axis, (small, large) in enumerate(zip(DEPTH_SIZE[::-1], COLOR_SIZE[::-1], strict=True)):
        ratio = small / large
        matrix[axis] *= ratio
        matrix[axis, 2] += 0.5 * ratio - 0.5
    return matrix


def world_from_scan() -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", 37, degrees=True).as_matrix()
    pose[:3, 3] = (1.5, -2.0, 0.07)
    return pose


def camera_poses(count: int = 8) -> np.ndarray:
    """T_world_camera [count, 4, 4]: from the side of negative x, 1.4 m high, looking at the objects."""
    poses = []
    for k in range(count):
        center = np.array([-2.0, -0.8 + 1.6 * k / max(count - 1, 1), 1.4])
        forward = np.array([0.6, 0.1, 0.3]) - center
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = center
        poses.append(pose)
    return np.stack(poses)


def render(pose: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] metres and the position in OBJECTS (-1 for none) of each pixel, by intersecting rays with slabs."""
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
    nearest, owner = np.full(size, np.inf), np.full(size, -1)
    for index, (_, _, low, high, _) in enumerate(OBJECTS):
        with np.errstate(divide="ignore"):
            a, b = ((np.array(corner) - pose[:3, 3]) / rays for corner in (low, high))
        enter, leave = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        hit = (enter < leave) & (enter > 0) & (enter < nearest)
        nearest[hit], owner[hit] = enter[hit], index
    return np.where(owner >= 0, nearest, 0.0), owner


@dataclass(frozen=True)
class Recorded:
    """A frame as it is stored: scan-frame pose, JPEG bytes, depth in millimetres."""

    pose: np.ndarray
    jpeg: bytes
    depth: np.ndarray


def record(count: int = 8) -> list[Recorded]:
    """``count`` frames; a new list each time, rendered once."""
    return list(_rendered(count))


@lru_cache
def _rendered(count: int) -> tuple[Recorded, ...]:
    T_scan_world = np.linalg.inv(world_from_scan())
    paint = np.array([thing[4] for thing in OBJECTS] + [(0, 0, 0)], np.uint8)
    frames = []
    for pose in camera_poses(count):
        depth, _ = render(pose, depth_intrinsics(), DEPTH_SIZE)
        _, owner = render(pose, color_intrinsics(), COLOR_SIZE)
        jpeg = cv2.imencode(".jpg", paint[owner][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        frames.append(Recorded(T_scan_world @ pose, jpeg, (depth * 1000).round().astype(np.uint16)))
    return tuple(frames)


def square(matrix: np.ndarray) -> np.ndarray:
    full = np.eye(4)
    full[:3, :3] = matrix
    return full


def matrix_text(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:f}" for value in row) for row in matrix) + "\n"


def write_export(folder: Path, frames: list[Recorded]) -> Path:
    """What ScanNet's SensReader writes."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for number, frame in enumerate(frames):
        (folder / f"color/{number}.jpg").write_bytes(frame.jpeg)
        cv2.imwrite(str(folder / f"depth/{number}.png"), frame.depth)
        (folder / f"pose/{number}.txt").write_text(matrix_text(frame.pose))
    for camera, matrix in (("color", color_intrinsics()), ("depth", depth_intrinsics())):
        (folder / f"intrinsic/intrinsic_{camera}.txt").write_text(matrix_text(square(matrix)))
        (folder / f"intrinsic/extrinsic_{camera}.txt").write_text(matrix_text(np.eye(4)))
    return folder


def write_sens(path: Path, frames: list[Recorded], color_kind: int = 2, depth_kind: int = 1, version: int = 4) -> Path:
    """A .sens file, fields in the order of sensorData.h."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<IQ", version, len(SENSOR)) + SENSOR
    for matrix in (square(color_intrinsics()), np.eye(4), square(depth_intrinsics()), np.eye(4)):
        data += matrix.astype("<f4").tobytes()
    data += struct.pack("<ii", color_kind, depth_kind)
    data += struct.pack("<IIII", COLOR_SIZE[1], COLOR_SIZE[0], DEPTH_SIZE[1], DEPTH_SIZE[0])
    data += struct.pack("<fQ", 1000.0, len(frames))
    for number, frame in enumerate(frames):
        color, depth = frame.jpeg, frame.depth.astype("<u2").tobytes()
        if color_kind != 2:
            image = cv2.imdecode(np.frombuffer(color, np.uint8), cv2.IMREAD_COLOR)
            color = image[..., ::-1].tobytes() if color_kind == 0 else cv2.imencode(".png", image)[1].tobytes()
        depth = zlib.compress(depth) if depth_kind == 1 else depth
        data += frame.pose.astype("<f4").tobytes()
        data += struct.pack("<QQQQ", 33_000 * number, 33_000 * number, len(color), len(depth)) + color + depth
    path.write_bytes(data + struct.pack("<Q", 0))
    return path


def write_objects(folder: Path) -> None:
    """Mesh, over-segmentation (two segments to each object) and aggregation, in the scan's frame."""
    T_scan_world = np.linalg.inv(world_from_scan())
    vertices, faces, segments, groups = b"", b"", [], []
    for index, (number, label, low, high, color) in enumerate(OBJECTS):
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (
            np.array(high) - low
        ) + np.array(low)
        for corner in corners @ T_scan_world[:3, :3].T + T_scan_world[:3, 3]:
            vertices += struct.pack("<fff4B", *corner, *color, 255)
        for face in ((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6)):
            faces += struct.pack("<B3i", 3, *(8 * index + corner for corner in face))
        for face in ((0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)):
            faces += struct.pack("<B3i", 3, *(8 * index + corner for corner in face))
        segments += [10 * index + 5] * 4 + [10 * index + 9] * 4
        groups.append({"id": index, "objectId": number, "segments": [10 * index + 9, 10 * index + 5], "label": label})
    lines = ["ply", "format binary_little_endian 1.0", "comment MLIB generated", f"element vertex {8 * len(OBJECTS)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {channel}" for channel in ("red", "green", "blue", "alpha")]
    lines += [f"element face {12 * len(OBJECTS)}", "property list uchar int vertex_indices", "end_header"]
    (folder / f"{SCENE}_vh_clean_2.ply").write_bytes("\n".join(lines).encode() + b"\n" + vertices + faces)
    content = {"params": {"kThresh": "0.0001"}, "sceneId": SCENE, "segIndices": segments}
    (folder / f"{SCENE}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(content))
    content = {"sceneId": f"scannet.{SCENE}", "appId": "Aggregator.v2", "segGroups": groups}
    (folder / f"{SCENE}.aggregation.json").write_text(json.dumps(content))


def write_meta(folder: Path) -> None:
    numbers = " ".join(f"{value:f}" for value in world_from_scan().ravel())
    text = f"axisAlignment = {numbers} \ncolorHeight = {COLOR_SIZE[0]}\nnumDepthFrames = 8\nsceneType = Office\n"
    (folder / f"{SCENE}.txt").write_text(text)


def write_scan(scans: Path, frames: list[Recorded] | None = None, kind: str = "export") -> Path:
    """A whole scan in ``scans``; its folder."""
    folder = scans / SCENE
    folder.mkdir(parents=True)
    frames = record() if frames is None else frames
    if kind == "sens":
        write_sens(folder / f"{SCENE}.sens", frames)
    else:
        write_export(folder, frames)
    write_objects(folder)
    write_meta(folder)
    return folder
