"""Boxes, cylinders, cones and spheres as small triangle meshes, many at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

SIDES = 16


@dataclass(frozen=True)
class Solid:
    """One simple solid of an object, in the object's own frame (x forward, y left, z up, origin on the floor).

    Attributes:
        shape: ``box``, ``cylinder`` (axis z), ``taper`` (a cylinder whose top is narrower), ``flare`` (one whose bottom
            is narrower) or ``sphere``.
        center: metres.
        size: full edge lengths in metres along the solid's own axes.
        material: index into the room's materials.
        yaw: turn about z in radians, before the object's own pose.
        tilt: turn about the solid's own y axis in radians, before the yaw.
    """

    shape: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    material: int
    yaw: float = 0.0
    tilt: float = 0.0


@dataclass
class SolidBatch:
    """Solids with the pose and the instance id of the object they belong to."""

    solids: list[Solid] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    positions: list[tuple[float, float, float]] = field(default_factory=list)
    yaws: list[float] = field(default_factory=list)

    def add(self, solids: list[Solid], instance: int, position: tuple[float, float, float], yaw: float) -> None:
        """Append the solids of one object that stands at ``position`` with heading ``yaw``."""
        self.solids += solids
        self.owner += [instance] * len(solids)
        self.positions += [position] * len(solids)
        self.yaws += [yaw] * len(solids)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles of a whole room.

    Attributes:
        vertices: float32 [V, 3] world metres.
        triangles: uint32 [F, 3].
        normals: float32 [V, 3] smooth vertex normals, used where ``smooth``.
        smooth: bool [F], whether the triangle approximates a curved surface.
        material: int16 [F].
        instance: int16 [F].
        frame_yaw: float32 [F] heading of the solid, so that textures turn with it.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    smooth: np.ndarray
    material: np.ndarray
    instance: np.ndarray
    frame_yaw: np.ndarray


def _cylinder(top: float, bottom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    angle = np.arange(SIDES) * 2 * np.pi / SIDES
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    low = np.column_stack([ring * bottom, np.full(SIDES, -0.5)])
    high = np.column_stack([ring * top, np.full(SIDES, 0.5)])
    vertices = np.concatenate([low, high, low, high, [[0, 0, -0.5], [0, 0, 0.5]]])
    slope = (bottom - top) / 2
    side = np.column_stack([ring * 2, np.full(SIDES, slope)])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    down, up = np.tile([0.0, 0, -1], (SIDES, 1)), np.tile([0.0, 0, 1], (SIDES, 1))
    normals = np.concatenate([side, side, down, up, [[0, 0, -1], [0, 0, 1]]])
    i = np.arange(SIDES)
    j = (i + 1) % SIDES
    n = SIDES
    wall = np.concatenate([np.stack([i, j, j + n], 1), np.stack([i, j + n, i + n], 1)])
    caps = np.concatenate(
        [
            np.stack([np.full(n, 4 * n), j + 2 * n, i + 2 * n], 1),
            np.stack([np.full(n, 4 * n + 1), i + 3 * n, j + 3 * n], 1),
        ]
    )
    smooth = np.concatenate([np.ones(len(wall), bool), np.zeros(len(caps), bool)])
    return vertices, np.concatenate([wall, caps]), normals, smooth


def _sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = 9, SIDES
    polar = np.linspace(0, np.pi, rows)
    azimuth = np.arange(columns) * 2 * np.pi / columns
    vertices = np.stack(
        [
            np.outer(np.sin(polar), np.cos(azimuth)),
            np.outer(np.sin(polar), np.sin(azimuth)),
            np.outer(np.cos(polar), np.ones(columns)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = (r * columns + c).ravel(), (r * columns + (c + 1) % columns).ravel()
    triangles = np.concatenate([np.stack([a, a + columns, b + columns], 1), np.stack([a, b + columns, b], 1)])
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    triangles = triangles[area > 1e-9]
    return vertices / 2, triangles, vertices, np.ones(len(triangles), bool)


@lru_cache(maxsize=1)
def templates() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Unit shapes centred at the origin: vertices [V, 3], triangles [F, 3], normals [V, 3], smooth [F]."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return {
        "box": (corners, faces, corners * 2 / np.sqrt(3), np.zeros(12, bool)),
        "cylinder": _cylinder(1.0, 1.0),
        "taper": _cylinder(0.6, 1.0),
        "flare": _cylinder(1.0, 0.7),
        "sphere": _sphere(),
    }


def build_mesh(batch: SolidBatch) -> Mesh:
    """All triangles of the solids, in world coordinates."""
    shapes = np.array([solid.shape for solid in batch.solids])
    center = np.array([solid.center for solid in batch.solids])
    size = np.array([solid.size for solid in batch.solids])
    own_yaw = np.array([solid.yaw for solid in batch.solids])
    tilt = np.array([solid.tilt for solid in batch.solids])
    material = np.array([solid.material for solid in batch.solids], dtype=np.int16)
    instance = np.array(batch.owner, dtype=np.int16)
    position, object_yaw = np.array(batch.positions), np.array(batch.yaws)

    c, s = np.cos(object_yaw), np.sin(object_yaw)
    world = position + np.stack(
        [c * center[:, 0] - s * center[:, 1], s * center[:, 0] + c * center[:, 1], center[:, 2]], 1
    )
    yaw = object_yaw + own_yaw
    cy, sy, ct, st, zero = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt), np.zeros(len(yaw))
    # Rz(yaw) Ry(tilt)
    rotation = np.stack([cy * ct, -sy, cy * st, sy * ct, cy, sy * st, -st, zero, ct], axis=1).reshape(-1, 3, 3)

    parts: list[list[np.ndarray]] = [[], [], [], [], [], [], []]
    first = 0
    for name, (vertices, triangles, normals, smooth) in templates().items():
        chosen = np.flatnonzero(shapes == name)
        if not len(chosen):
            continue
        k, v, f = len(chosen), len(vertices), len(triangles)
        turned = rotation[chosen]
        points = np.einsum("kij,kvj->kvi", turned, vertices[None] * size[chosen, None]) + world[chosen, None]
        bent = np.einsum("kij,kvj->kvi", turned, normals[None] / size[chosen, None])
        bent /= np.linalg.norm(bent, axis=-1, keepdims=True)
        indices = triangles[None] + (first + v * np.arange(k))[:, None, None]
        for store, value in zip(
            parts,
            (
                points.reshape(-1, 3),
                indices.reshape(-1, 3),
                bent.reshape(-1, 3),
                np.tile(smooth, k),
                np.repeat(material[chosen], f),
                np.repeat(instance[chosen], f),
                np.repeat(yaw[chosen], f),
            ),
            strict=True,
        ):
            store.append(value)
        first += k * v
    joined = [np.concatenate(values) for values in parts]
    return Mesh(
        vertices=joined[0].astype(np.float32),
        triangles=joined[1].astype(np.uint32),
        normals=joined[2].astype(np.float32),
        smooth=joined[3],
        material=joined[4],
        instance=joined[5],
        frame_yaw=joined[6].astype(np.float32),
    )
