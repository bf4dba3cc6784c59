"""The frames of a ScanNet scan as the SensReader of its repository exports them.

``color/N.jpg``; ``depth/N.png``, 16-bit millimetres; ``pose/N.txt``, a 4 x 4 camera-to-world matrix in the scan's own
frame; ``intrinsic/intrinsic_color.txt`` and ``intrinsic_depth.txt``, 4 x 4. Depth is registered to the colour camera,
so the extrinsics beside them are not used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.frames import read_depth, read_rgb, usable_pose
from vidllm_ros.training.data.scannet.sens import SensFile

MILLIMETRES = 1000.0


class ExportedFrames:
    """An export folder as a store of frames.

    Frames are left out, with one warning for each kind of trouble, when their pose is -inf (lost tracking), no matrix,
    or no rigid motion, and when their colour or depth image is missing.

    Args:
        path: the folder with ``color``, ``depth``, ``pose`` and ``intrinsic``.

    Raises:
        DataError: one of these is missing, or an intrinsic matrix is broken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for name in ("color", "depth", "pose", "intrinsic"):
            if not (self.path / name).is_dir():
                raise DataError(
                    f"{self.path / name} is missing; an exported scan has the folders color, depth, pose and intrinsic "
                    "(SensReader's --export_color_images --export_depth_images --export_poses --export_intrinsics)."
                )
        self.color_intrinsics = self._intrinsics("intrinsic_color.txt")
        self.depth_intrinsics = self._intrinsics("intrinsic_depth.txt")
        files = (file for file in (self.path / "pose").glob("*.txt") if file.stem.isdigit())
        numbered = sorted((int(file.stem), file) for file in files)
        self._names = {number: file.stem for number, file in numbered}
        self.poses = self._poses(numbered)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and depth float32 [h, w] metres of a frame; raises DataError when they are broken."""
        name = self._names[number]
        depth = read_depth(self.path / "depth" / f"{name}.png", MILLIMETRES)
        return read_rgb(self.path / "color" / f"{name}.jpg"), depth

    def _poses(self, files: list[tuple[int, Path]]) -> dict[int, np.ndarray]:
        poses: dict[int, np.ndarray] = {}
        troubles: dict[str, list[Path]] = {}
        present = {kind: {file.name for file in (self.path / kind).iterdir()} for kind in ("color", "depth")}
        for number, file in files:
            images = {"color": f"{file.stem}.jpg", "depth": f"{file.stem}.png"}
            if missing := [self.path / kind / name for kind, name in images.items() if name not in present[kind]]:
                troubles.setdefault("lack an image", []).append(missing[0])
                continue
            try:
                pose = read_matrix(file)
            except DataError:
                troubles.setdefault("have a pose file that is no 4 x 4 matrix", []).append(file)
                continue
            if usable_pose(pose):
                poses[number] = pose
            else:
                troubles.setdefault("have no finite, rigid pose (tracking was lost)", []).append(file)
        for trouble, where in troubles.items():
            log.warning(
                "%s: %d of %d frames %s and are left out; the first: %s",
                self.path,
                len(where),
                len(files),
                trouble,
                where[0],
            )
        return poses

    def _intrinsics(self, name: str) -> np.ndarray:
        return read_matrix(self.path / "intrinsic" / name)[:3, :3]


def read_matrix(path: Path) -> np.ndarray:
    """A text file of 4 x 4 numbers, float64; raises DataError when it is missing or anything else."""
    try:
        values = np.array([float(word) for word in path.read_text(encoding="utf-8").split()])
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    except ValueError as error:
        raise DataError(f"{path} holds something else than numbers: {error}.") from error
    if values.size != 16:
        raise DataError(f"{path} holds {values.size} numbers instead of 4 x 4.")
    return values.reshape(4, 4)


def open_frames(folder: Path, scene: str) -> ExportedFrames | SensFile:
    """The frames of a scan: exported ones where there are any, else ``<scene>.sens``."""
    if (folder / "color").is_dir():
        return ExportedFrames(folder)
    sens = folder / f"{scene}.sens"
    if sens.is_file():
        return SensFile(sens)
    raise DataError(f"{folder} holds neither exported frames (color, depth, pose, intrinsic) nor {sens.name}.")
