"""Writes maps and trajectories so that a reader never finds half a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.errors import SaveError

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")], align=False
)


def save_cloud(
    path: str | Path, points: np.ndarray, colors: np.ndarray, comments: Mapping[str, object], overwrite: bool = False
) -> None:
    """Writes coloured points as a binary PLY or PCD file, chosen by the name's ending.

    Args:
        path: a file ending in .ply or .pcd; its folder must exist.
        points: [P, 3] metres.
        colors: uint8 [P, 3] RGB.
        comments: written into the header, one line ``key: value`` each (the frame, the configuration).
        overwrite: replace an existing file.

    Raises:
        SaveError: the file cannot be written; an existing one is whole.
    """
    path = Path(path)
    writers = {".ply": _ply, ".pcd": _pcd}
    if path.suffix.lower() not in writers:
        raise SaveError(f"cannot write '{path}': the name must end in .ply or .pcd")
    lines = [_one_line(f"{key}: {value}") for key, value in comments.items()]
    write_atomically(path, writers[path.suffix.lower()](np.asarray(points), np.asarray(colors), lines), overwrite)


def save_trajectory(path: str | Path, stamps_ns: np.ndarray, poses: np.ndarray, overwrite: bool = False) -> None:
    """Writes poses [K, 4, 4] in the TUM format: one line ``stamp tx ty tz qx qy qz qw`` each, seconds and metres.

    Raises:
        SaveError: the file cannot be written; an existing one is whole.
    """
    lines = []
    for stamp, pose in zip(stamps_ns, poses, strict=True):
        seconds, nanoseconds = divmod(int(stamp), 1_000_000_000)
        values = [*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
        lines.append(" ".join([f"{seconds}.{nanoseconds:09d}", *(f"{value:.9f}" for value in values)]) + "\n")
    write_atomically(Path(path), "".join(lines).encode(), overwrite)


def write_atomically(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Writes ``content`` beside ``path``, brings it to the disk, and then gives it its name in one step.

    Raises:
        SaveError: the folder does not exist, the file exists and ``overwrite`` is off, or the disk refuses.
    """
    if not path.parent.is_dir():
        raise SaveError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    if path.exists() and not overwrite:
        raise SaveError(f"cannot write '{path}': the file exists; ask to overwrite it or choose another name")
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise SaveError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _ply(points: np.ndarray, colors: np.ndarray, comments: list[str]) -> bytes:
    kinds = {"<f4": "float", "|u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    header.append(f"element vertex {len(points)}")
    header += [f"property {kinds[_VERTEX[name].str]} {name}" for name in _VERTEX.names or ()]
    return ("\n".join([*header, "end_header"]) + "\n").encode("ascii") + _vertices(points, colors).tobytes()


def _pcd(points: np.ndarray, colors: np.ndarray, comments: list[str]) -> bytes:
    count = len(points)
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        *(f"# {line}" for line in comments),
        "VERSION 0.7",
        "FIELDS x y z rgb",
        "SIZE 4 4 4 4",
        "TYPE F F F U",
        "COUNT 1 1 1 1",
        f"WIDTH {count}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {count}",
        "DATA binary",
    ]
    packed = np.zeros(count, np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")]))
    packed["xyz"] = points
    packed["rgb"] = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return ("\n".join(header) + "\n").encode("ascii") + packed.tobytes()


def _vertices(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    vertices = np.zeros(len(points), _VERTEX)
    for index, name in enumerate("xyz"):
        vertices[name] = points[:, index]
    for index, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[:, index]
    return vertices


def _one_line(text: str) -> str:
    """Header lines are ASCII and end at a line break."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()
