"""Wavefront OBJ models inside an archive, brought to their listed size and to our axes."""

from __future__ import annotations

import posixpath
import zipfile
from dataclasses import dataclass

import numpy as np

#: Materials more transparent than this do not stop a ray.
LEAST_OPACITY = 0.5


@dataclass(frozen=True, eq=False)
class Model:
    """Triangles of one piece in its own frame: x to its right, y to its back, z up, the floor's middle at the origin.

    Attributes:
        vertices: [V, 3] metres.
        triangles: int [F, 3].
        uv: [F, 3, 2] texture coordinates of the corners, 0 without.
        material: int [F].
        colours: [M, 3] linear RGB of each material.
        textures: path in the archive of each material's texture, or None.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    colours: np.ndarray
    textures: list[str | None]


def read_model(archive: zipfile.ZipFile, path: str, size: tuple[float, ...], rotation: np.ndarray) -> Model | None:
    """Read a model and scale it to ``size``, its width, depth and height in metres; None when nothing is left of it.

    Args:
        archive: holds the OBJ file, its materials and textures.
        path: of the OBJ file.
        size: what the catalogue says.
        rotation: [3, 3] that turns the model upright.
    """
    folder = posixpath.dirname(path)
    points: list[list[float]] = []
    coordinates: list[list[float]] = [[0.0, 0.0]]
    corners: list[tuple[int, int, int]] = []
    corner_uv: list[tuple[int, int, int]] = []
    owners: list[int] = []
    library: dict[str, dict[str, object]] = {}
    names: dict[str, int] = {}
    current = -1
    for line in archive.read(path).decode("latin-1").splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "v":
            points.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            coordinates.append([float(x) for x in rest.split()[:2]])
        elif kind == "mtllib":
            library.update(_materials(archive, posixpath.join(folder, rest.strip())))
        elif kind == "usemtl":
            current = names.setdefault(rest.strip(), len(names))
        elif kind == "f":
            face = [corner.split("/") for corner in rest.split()]
            v = [_index(c[0], len(points)) for c in face]
            t = [_index(c[1], len(coordinates) - 1) + 1 if len(c) > 1 and c[1] else 0 for c in face]
            for k in range(1, len(face) - 1):
                corners.append((v[0], v[k], v[k + 1]))
                corner_uv.append((t[0], t[k], t[k + 1]))
                owners.append(current)
    kinds = [library.get(name, {}) for name in names] or [{}]
    triangles, material = np.array(corners), np.maximum(np.array(owners), 0)
    if len(triangles) == 0:
        return None
    solid = np.array([float(kind.get("opacity", 1.0)) >= LEAST_OPACITY for kind in kinds])[material]
    if not solid.any():
        return None
    vertices = np.array(points) @ rotation.T
    used = vertices[np.unique(triangles)]
    low, high = used.min(axis=0), used.max(axis=0)
    # The catalogue's sizes hold along the turned model's axes: x is the width, y the height, z the depth.
    factor = np.array([size[0], size[2], size[1]]) / np.maximum(high - low, 1e-6)
    scaled = (vertices - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * factor
    return Model(
        np.stack([scaled[:, 0], -scaled[:, 2], scaled[:, 1]], axis=1),
        triangles[solid],
        np.array(coordinates)[np.array(corner_uv)][solid],
        material[solid],
        np.array([kind.get("colour", (0.5, 0.5, 0.5)) for kind in kinds], float),
        [_texture_path(folder, kind.get("texture")) for kind in kinds],
    )


def _index(text: str, count: int) -> int:
    """OBJ counts from 1, or backwards from the last."""
    value = int(text)
    return value - 1 if value > 0 else count + value


def _texture_path(folder: str, name: object) -> str | None:
    return posixpath.normpath(posixpath.join(folder, name)) if isinstance(name, str) else None


def _materials(archive: zipfile.ZipFile, path: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    if path not in archive.NameToInfo:
        return found
    current: dict[str, object] = {}
    for line in archive.read(path).decode("latin-1").splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "newmtl":
            current = found.setdefault(rest.strip(), {})
        elif kind == "Kd":
            current["colour"] = tuple(float(x) for x in rest.split()[:3])
        elif kind == "d":
            current["opacity"] = float(rest.split()[-1])
        elif kind == "map_Kd":
            current["texture"] = rest.split()[-1].replace("\\", "/")
    return found
