"""ScanNet (Dai et al., CVPR 2017): one sample per scan, in its axis-aligned frame."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.frames import read_window, usable_pose
from vidllm_ros.training.data.scannet.frames import open_frames
from vidllm_ros.training.data.scannet.objects import ScanObjects, object_files, read_objects
from vidllm_ros.training.sample import Sample

SCENE = re.compile(r"scene\d{4}_\d{2}")


class Scan(NamedTuple):
    """A scan's sample, without tasks, and its objects by the numbers that annotations use; None where unknown."""

    sample: Sample
    objects: ScanObjects | None


@dataclass(frozen=True)
class Scans:
    """A folder of ScanNet scans in the layout of the release, ``scans/scene0000_00/...``.

    Each scan's frames are exported ones or a ``.sens`` file; its mesh, segments and aggregation give boxes and
    instances, and ``<scene>.txt`` the axis alignment.

    Attributes:
        folder: holds one folder per scan.
        config: sizes of images and windows.
        frames: another folder of that kind with the exported frames or ``.sens`` files, where they lie apart.
    """

    folder: Path
    config: VidLLMConfig
    frames: Path | None = None

    def load(self, scene: str) -> Sample:
        """The sample of a scan, see ``read``."""
        return self.read(scene).sample

    def read(self, scene: str) -> Scan:
        """Frames, poses, boxes and instances of a scan.

        The world is the scan's axis-aligned frame: z up, floor near z = 0. Without an ``axisAlignment`` (the test
        scans have none) it is the scan's own frame, and without any of the mesh's files there are no boxes; both are
        warned about.

        Raises:
            DataError: no frames, too few usable ones, or a broken file.
        """
        folder = self.folder / scene
        if not folder.is_dir():
            raise DataError(f"{folder} is missing.")
        T_world_scan = read_axis_alignment(folder / f"{scene}.txt")
        store = open_frames(self.frames / scene if self.frames else folder, scene)
        store.poses = {number: T_world_scan @ pose for number, pose in store.poses.items()}
        window = read_window(store, self.config)
        objects = self._objects(folder, scene, T_world_scan)
        sample = Sample(
            name=f"scannet/{scene}",
            rgb=window.rgb,
            depth=window.depth,
            T_world_camera=window.T_world_camera,
            intrinsics=window.intrinsics,
            boxes=objects.boxes if objects else (),
            instances=objects.instances(window) if objects else window.nothing_known(),
            tasks=(),
        )
        return Scan(sample, objects)

    def _objects(self, folder: Path, scene: str, T_world_scan: np.ndarray) -> ScanObjects | None:
        missing = [file for file in object_files(folder, scene) if not file.is_file()]
        if missing:
            log.warning("%s: no boxes, because %s is missing", folder, " and ".join(file.name for file in missing))
            return None
        return read_objects(folder, scene, T_world_scan)


def find_scenes(folder: Path, listing: Path | None = None) -> tuple[str, ...]:
    """Names of the scans in a folder, or of those that a file lists, one on each line.

    Listed scans need not be there: loading one says so.

    Raises:
        DataError: the folder or the list is missing, or names no scan.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one that holds scene0000_00, scene0000_01, ...")
    if listing is None:
        found = sorted(path.name for path in folder.iterdir() if path.is_dir() and SCENE.fullmatch(path.name))
        if not found:
            inside = f"; it lies within one scan, give {folder.parent}" if SCENE.fullmatch(folder.name) else ""
            raise DataError(f"{folder} holds no folder named like scene0000_00{inside}.")
        return tuple(found)
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing} cannot be read: {reason(error)}.") from error
    for number, line in enumerate(lines, 1):
        if line and not SCENE.fullmatch(line):
            raise DataError(f"{listing}, line {number}: expected a name like scene0000_00, got {line[:80]!r}.")
    names = tuple(dict.fromkeys(line for line in lines if line))
    if not names:
        raise DataError(f"{listing} lists no scan.")
    return names


def read_axis_alignment(path: Path) -> np.ndarray:
    """T_world_scan float64 [4, 4], from the line ``axisAlignment = `` and 16 numbers by rows.

    The identity, with a warning, when the file or the line is missing.

    Raises:
        DataError: the line is there, but does not hold a rigid motion.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        log.warning("%s is missing; the scan's own frame is taken as it is, perhaps turned against the walls", path)
        return np.eye(4)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    for number, line in enumerate(lines, 1):
        key, _, value = line.partition("=")
        if key.strip() != "axisAlignment":
            continue
        try:
            matrix = np.array([float(word) for word in value.split()]).reshape(4, 4)
        except ValueError:
            matrix = np.full((4, 4), np.nan)
        if not usable_pose(matrix):
            raise DataError(f"{path}, line {number}: axisAlignment is no rigid 4 x 4 matrix: {value.strip()[:120]!r}.")
        return matrix
    log.warning("%s has no line axisAlignment; the scan's own frame is taken as it is", path)
    return np.eye(4)
