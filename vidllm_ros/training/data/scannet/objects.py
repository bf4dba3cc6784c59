"""The annotated objects of a ScanNet scan: their boxes, and which pixels of a frame show which."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.frames import UNKNOWN, FrameWindow

#: Labels that are the room itself, and the instance that ``Sample`` reserves for them.
STRUCTURE = {"wall": -1, "floor": -2, "ceiling": -3}


@dataclass(frozen=True, eq=False)
class ScanObjects:
    """A scan's mesh and the objects annotated on it.

    Attributes:
        boxes: of every annotated object, walls and floors included: the smallest box along the world's axes around its
            vertices, labelled in the annotators' words.
        index: of each object's box, by the ``objectId`` that annotations use.
        vertices: float32 [V, 3] metres in world.
        triangles: uint32 [T, 3].
        owner: int16 [V], what ``Sample.instances`` says of pixels that show a vertex.
    """

    boxes: tuple[Box3D, ...]
    index: dict[int, int]
    vertices: np.ndarray
    triangles: np.ndarray
    owner: np.ndarray

    def instances(self, window: FrameWindow) -> np.ndarray:
        """What each pixel shows according to the mesh, int16 [S, H, W] as in ``Sample``."""
        # Open3D takes seconds to import.
        import open3d

        tensor = open3d.core.Tensor.from_numpy
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(tensor(self.vertices), tensor(self.triangles))
        # A ray that hits nothing reports the largest number: the entry after the last triangle.
        owner = np.append(self.owner[self.triangles[:, 0]], np.int16(UNKNOWN))
        height, width = window.image_size
        v, u = np.divmod(np.arange(height * width), width)
        pixels = np.stack([u, v, np.ones_like(u)]).astype(np.float64)
        shown = np.empty((len(window.depth), height * width), np.int16)
        for k, (pose, intrinsics) in enumerate(zip(window.T_world_camera, window.intrinsics, strict=True)):
            rays = np.empty((pixels.shape[1], 6), np.float32)
            rays[:, :3] = pose[:3, 3]
            rays[:, 3:] = (pose[:3, :3] @ np.linalg.inv(intrinsics) @ pixels).T
            hit = scene.cast_rays(tensor(rays), nthreads=1)["primitive_ids"].numpy()
            shown[k] = owner[np.minimum(hit, len(self.triangles))]
        return shown.reshape(window.depth.shape)


def object_files(folder: Path, scene: str) -> tuple[Path, Path, Path]:
    """Mesh, over-segmentation and aggregation of a scan."""
    mesh = folder / f"{scene}_vh_clean_2.ply"
    return mesh, folder / f"{scene}_vh_clean_2.0.010000.segs.json", folder / f"{scene}.aggregation.json"


def read_objects(folder: Path, scene: str, T_world_scan: np.ndarray) -> ScanObjects:
    """The objects of a scan, moved by its axis alignment.

    A group without vertices is left out with a warning.

    Raises:
        DataError: a file is missing, broken, or belongs to another mesh.
    """
    mesh, segments, aggregation = object_files(folder, scene)
    vertices, triangles = read_mesh(mesh)
    world = vertices @ T_world_scan[:3, :3].T + T_world_scan[:3, 3]
    indices = _entry(segments, "segIndices", "the segment of every vertex")
    try:
        of_vertex = np.asarray(indices, dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{segments}: segIndices holds something else than whole numbers.") from error
    if of_vertex.shape != (len(world),):
        raise DataError(
            f"{segments} names the segments of {len(of_vertex)} vertices, but {mesh.name} has {len(world)}; take all "
            "files of a scan from the same release."
        )
    boxes: list[Box3D] = []
    index: dict[int, int] = {}
    owner = np.full(len(world), UNKNOWN, np.int16)
    for position, group in enumerate(_entry(aggregation, "segGroups", "the segments of every object")):
        try:
            number, label = int(group["objectId"]), str(group["label"])
            member = np.isin(of_vertex, np.asarray(group["segments"], dtype=np.int64))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{aggregation}: group {position} has no objectId, label and segments: {error!r}"
            ) from error
        if not member.any():
            log.warning("%s: object %d (%s) has no vertex and is left out", aggregation, number, label)
            continue
        index[number] = len(boxes)
        owner[member] = STRUCTURE.get(label, len(boxes))
        low, high = world[member].min(axis=0), world[member].max(axis=0)
        boxes.append(Box3D((low + high) / 2, high - low, label=label))
    return ScanObjects(tuple(boxes), index, world.astype(np.float32), triangles, owner)


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 [V, 3] in metres and triangles uint32 [T, 3] of a PLY file, in its order."""
    import open3d

    if not path.is_file():
        raise DataError(f"{path} is missing; boxes come from the vertices of this mesh.")
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        mesh = open3d.io.read_triangle_mesh(path)
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    if not len(vertices) or not len(triangles):
        raise DataError(f"{path} is no readable PLY mesh; download it again.")
    return vertices, triangles.astype(np.uint32)


def _entry(path: Path, key: str, meaning: str) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(f"{path} has no list '{key}', {meaning}.")
    found: list[Any] = content[key]
    return found
