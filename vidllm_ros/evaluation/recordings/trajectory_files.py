"""TUM trajectory files: ``stamp tx ty tz qx qy qz qw``, seconds and metres, camera-to-world, scalar last."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.perception.mapping.save import save_trajectory


def read_tum(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a trajectory.

    Lines that start with ``#`` are comments; blanks, tabs and commas separate.

    Returns:
        Stamps as int64 nanoseconds [K] (exact, not through a float) and ``T_world_camera`` float64 [K, 4, 4].

    Raises:
        EvaluationError: a line that is no pose; the message names file and line.
    """
    stamps, rows = [], []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"trajectory {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            stamp, values = int(Decimal(fields[0]).scaleb(9).to_integral_value()), [float(f) for f in fields[1:]]
        except (InvalidOperation, ValueError):
            values = []
        if len(values) != 7 or not np.isfinite(values).all() or not any(values[3:]):
            raise EvaluationError(
                f"{path}, line {number}: expected 'stamp tx ty tz qx qy qz qw' with finite numbers, got {line[:80]!r}."
            )
        stamps.append(stamp)
        rows.append(values)
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    T_world_camera = np.tile(np.eye(4), (len(table), 1, 1))
    if len(table):
        T_world_camera[:, :3, :3] = Rotation.from_quat(table[:, 3:]).as_matrix()
        T_world_camera[:, :3, 3] = table[:, :3]
    return np.array(stamps, dtype=np.int64), T_world_camera


def write_tum(path: str | Path, stamps_ns: np.ndarray, T_world_camera: np.ndarray) -> None:
    """Write a trajectory, over an old one: stamps in nanoseconds [K], poses [K, 4, 4] in metres."""
    save_trajectory(path, stamps_ns, T_world_camera, overwrite=True)
