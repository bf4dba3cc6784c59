"""The shell of a room: floor, ceiling, walls, door, window, baseboards, pictures, and its lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .materials import COLOURS, FLOORS, Material, named_colour, surface
from .solids import Solid, SolidBatch
from .style import RoomStyle

#: Instance ids of what is not furniture (see ``Sample.instances``).
WALL, FLOOR, CEILING = -1, -2, -3

_THICK = 0.2
_WALL_TINTS = (
    (0.88, 0.86, 0.80),
    (0.80, 0.85, 0.88),
    (0.86, 0.80, 0.78),
    (0.80, 0.86, 0.78),
    (0.90, 0.88, 0.72),
    (0.82, 0.80, 0.88),
)
_FLOOR_TINTS = (
    (0.62, 0.55, 0.47),
    (0.48, 0.50, 0.54),
    (0.66, 0.62, 0.56),
    (0.50, 0.42, 0.36),
    (0.45, 0.52, 0.50),
    (0.58, 0.46, 0.40),
)


@dataclass(frozen=True)
class Light:
    """A point light.

    Attributes:
        position: world metres.
        colour: linear RGB times strength.
        shadow: whether it casts shadows.
    """

    position: tuple[float, float, float]
    colour: tuple[float, float, float]
    shadow: bool = False


@dataclass(frozen=True)
class _Wall:
    """One of the four walls: where it starts, its length and its inward heading."""

    start: tuple[float, float]
    length: float
    inward: float

    def point(self, along: float, off: float) -> tuple[float, float]:
        """World x, y of a point ``along`` the wall and ``off`` it, inwards."""
        c, s = float(np.cos(self.inward)), float(np.sin(self.inward))
        return self.start[0] - s * along + c * off, self.start[1] + c * along + s * off


def _walls(length: float, width: float) -> list[_Wall]:
    return [
        _Wall((0.0, 0.0), width, 0.0),
        _Wall((length, 0.0), length, np.pi / 2),
        _Wall((length, width), width, np.pi),
        _Wall((0.0, width), length, -np.pi / 2),
    ]


def build_structure(
    size: tuple[float, float, float],
    shape: tuple[int, int],
    cell: float,
    rng: np.random.Generator,
    style: RoomStyle,
    batch: SolidBatch,
    materials: list[Material],
    lights: list[Light],
) -> np.ndarray:
    """Add the shell to ``batch``, ``materials`` and ``lights``.

    Returns:
        bool [rows, columns], the floor cells of ``cell`` metres that furniture must leave free (in front of the door).
    """
    length, width, height = size

    def material(value: Material) -> int:
        materials.append(value)
        return len(materials) - 1

    def add(
        instance: int, x: float, y: float, z: float, dx: float, dy: float, dz: float, index: int, yaw: float = 0.0
    ) -> None:
        batch.add([Solid("box", (0, 0, dz / 2), (dx, dy, dz), index)], instance, (x, y, z), yaw)

    tint = np.asarray(_WALL_TINTS[rng.integers(len(_WALL_TINTS))]) + rng.uniform(-0.05, 0.05, 3)
    kinds = [
        ("plain", 2.5, 0.08),
        ("brick", 1.0, 0.12),
        ("stripes", 0.8, 0.08),
        ("speckle", 0.6, 0.08),
        ("grid", 1.2, 0.1),
    ]
    walls = _walls(length, width)
    accent = rng.integers(6)
    for k, wall in enumerate(walls):
        texture, repeat, contrast = kinds[rng.choice(5, p=[0.5, 0.15, 0.15, 0.1, 0.1])]
        colour = tint * (0.96 + 0.04 * (k % 2))
        if k == accent:
            names = ("red", "green", "blue", "yellow", "orange", "purple")
            colour = 0.55 * np.asarray(COLOURS[names[rng.integers(len(names))]]) + 0.35
        x, y = wall.point(wall.length / 2, -_THICK / 2)
        add(
            WALL,
            x,
            y,
            0,
            _THICK,
            wall.length + 2 * _THICK,
            height,
            material(surface(colour, texture, repeat, contrast)),
            wall.inward,
        )

    floor_texture, repeat = FLOORS[style.floors[rng.integers(len(style.floors))]]
    floor_tint = np.asarray(_FLOOR_TINTS[rng.integers(len(_FLOOR_TINTS))]) + rng.uniform(-0.05, 0.05, 3)
    floor = material(surface(floor_tint, floor_texture, repeat, 0.45))
    add(FLOOR, length / 2, width / 2, -_THICK, length + 2 * _THICK, width + 2 * _THICK, _THICK, floor)
    ceiling = material(surface((0.93, 0.93, 0.92), "plain", 3.0, 0.04))
    add(CEILING, length / 2, width / 2, height, length + 2 * _THICK, width + 2 * _THICK, _THICK, ceiling)

    skirting = material(surface(tint * float(rng.choice([0.5, 0.6, 1.08]))))
    for wall in walls:
        x, y = wall.point(wall.length / 2, 0.006)
        add(WALL, x, y, 0, 0.012, wall.length, 0.1, skirting, wall.inward)

    keep_clear = np.zeros(shape, bool)
    order = rng.permutation(4)
    door_wall, window_wall = walls[order[0]], walls[order[1]]
    along = float(rng.uniform(0.7, door_wall.length - 0.7))
    _door(door_wall, along, rng, material, add)
    ex, ey = door_wall.point(along, 0.45)
    x0, x1, y0, y1 = (int(max(0, v / cell)) for v in (ex - 0.45, ex + 0.45, ey - 0.45, ey + 0.45))
    keep_clear[y0 : y1 + 1, x0 : x1 + 1] = True

    span = float(min(rng.choice([1.2, 1.6]), window_wall.length - 0.6))
    middle = float(rng.uniform(span / 2 + 0.2, window_wall.length - span / 2 - 0.2))
    _window(window_wall, middle, span, material, add)
    for index in order[2:]:
        if rng.random() < 0.75:
            _picture(walls[index], rng, material, add)

    warm = rng.uniform(0.0, 1.0)
    strength = 0.55 * (length * width) ** 0.5 * rng.uniform(0.9, 1.2)
    lamp = material(surface((1.0, 0.98, 0.92), emission=1.0))
    lx, ly = length * rng.uniform(0.35, 0.65), width * rng.uniform(0.35, 0.65)
    batch.add([Solid("cylinder", (0, 0, 0), (0.4, 0.4, 0.05), lamp)], CEILING, (lx, ly, height - 0.025), 0.0)
    lights.append(
        Light(
            (lx, ly, height - 0.12), (strength, strength * (0.97 - 0.05 * warm), strength * (0.93 - 0.18 * warm)), True
        )
    )
    wx, wy = window_wall.point(middle, 0.3)
    day = strength * rng.uniform(0.25, 0.6)
    lights.append(Light((wx, wy, 1.5), (day * 0.9, day * 0.97, day * 1.08)))
    return keep_clear


def _door(wall, along, rng, material, add) -> None:
    """A standard 0.9 m x 2.0 m door leaf with its frame and handle."""
    leaf = material(
        surface(named_colour(str(rng.choice(["brown", "white", "gray", "blue", "green"])), rng), "wood", 1.6, 0.15)
    )
    frame = material(surface((0.85, 0.84, 0.80)))
    metal = material(surface((0.3, 0.3, 0.32)))
    x, y = wall.point(along, 0.015)
    add(WALL, x, y, 0, 0.03, 0.9, 2.0, leaf, wall.inward)
    for side in (-1, 1):
        x, y = wall.point(along + side * 0.49, 0.02)
        add(WALL, x, y, 0, 0.04, 0.08, 2.08, frame, wall.inward)
    x, y = wall.point(along, 0.02)
    add(WALL, x, y, 2.0, 0.04, 0.9, 0.08, frame, wall.inward)
    x, y = wall.point(along + 0.36, 0.05)
    add(WALL, x, y, 1.0, 0.05, 0.12, 0.03, metal, wall.inward)


def _window(wall, middle, span, material, add) -> None:
    """A bright pane from 0.9 m to 2.0 m with a frame and a cross bar."""
    pane = material(Material((0.65, 0.80, 0.98), (0.55, 0.75, 0.95), "plain", 2.0, emission=0.9))
    frame = material(surface((0.92, 0.92, 0.92)))
    x, y = wall.point(middle, 0.005)
    add(WALL, x, y, 0.9, 0.01, span, 1.1, pane, wall.inward)
    for offset, wide in ((-span / 2, 0.07), (span / 2, 0.07), (0.0, 0.05)):
        x, y = wall.point(middle + offset, 0.015)
        add(WALL, x, y, 0.87, 0.03, wide, 1.16, frame, wall.inward)
    x, y = wall.point(middle, 0.015)
    for z in (0.87, 1.97):
        add(WALL, x, y, z, 0.03, span, 0.06, frame, wall.inward)


def _picture(wall, rng, material, add) -> None:
    """A flat framed picture, 1.3 m above the floor."""
    first, second = (named_colour(str(name), rng) for name in rng.choice(list(COLOURS), 2, replace=False))
    canvas = material(
        Material(
            tuple(np.square(first)),
            tuple(np.square(second)),
            str(rng.choice(["mosaic", "dots", "stripes", "brick"])),
            float(rng.choice([0.5, 0.8])),
        )
    )
    frame = material(surface((0.2, 0.15, 0.1)))
    w, h = float(rng.choice([0.5, 0.8])), float(rng.choice([0.4, 0.6]))
    x, y = wall.point(float(rng.uniform(0.6, wall.length - 0.6)), 0.01)
    add(WALL, x, y, 1.3, 0.02, w + 0.06, h + 0.06, frame, wall.inward)
    add(WALL, x, y, 1.33, 0.028, w, h, canvas, wall.inward)
