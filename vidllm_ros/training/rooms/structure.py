"""The shell of a room: floor, ceiling, walls, door, window, baseboards, pictures, and its lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.training.rooms.materials import COLOURS, FLOORS, Material, linear, named_colour, surface
from vidllm_ros.training.rooms.solids import Solid, SolidBatch
from vidllm_ros.training.rooms.style import RoomStyle

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

_WALL_TEXTURES = (
    ("plain", 2.5, 0.08),
    ("brick", 1.0, 0.12),
    ("stripes", 0.8, 0.08),
    ("speckle", 0.6, 0.08),
    ("grid", 1.2, 0.1),
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


class _Shell:
    """Adds flat parts of the shell to a room's solids."""

    def __init__(self, batch: SolidBatch, materials: list[Material], rng: np.random.Generator) -> None:
        self.batch, self.materials, self.rng = batch, materials, rng

    def material(self, value: Material) -> int:
        """Register a material and return its index."""
        self.materials.append(value)
        return len(self.materials) - 1

    def slab(self, instance: int, x: float, y: float, z: float, size: tuple[float, float, float], index: int) -> None:
        """A box with centre x, y and bottom z."""
        self.batch.add([Solid("box", (0.0, 0.0, size[2] / 2), size, index)], instance, (x, y, z), 0.0)

    def panel(
        self, wall: _Wall, along: float, z: float, thick: float, wide: float, high: float, index: int, off: float = 0.0
    ) -> None:
        """A flat box on a wall, its middle ``along`` the wall, its bottom at z, its back ``off`` the wall."""
        x, y = wall.point(along, off + thick / 2)
        self.batch.add([Solid("box", (0.0, 0.0, high / 2), (thick, wide, high), index)], WALL, (x, y, z), wall.inward)

    def walls(self, walls: list[_Wall], height: float) -> None:
        """Four walls, some with a texture, sometimes one in a strong colour, and their skirting boards."""
        rng = self.rng
        tint = np.asarray(_WALL_TINTS[rng.integers(len(_WALL_TINTS))]) + rng.uniform(-0.05, 0.05, 3)
        accent = rng.integers(6)
        for k, wall in enumerate(walls):
            texture, repeat, contrast = _WALL_TEXTURES[rng.choice(5, p=[0.5, 0.15, 0.15, 0.1, 0.1])]
            colour = tint * (0.96 + 0.04 * (k % 2))
            if k == accent:
                names = ("red", "green", "blue", "yellow", "orange", "purple")
                colour = 0.55 * np.asarray(COLOURS[names[rng.integers(len(names))]]) + 0.35
            index = self.material(surface(colour, texture, repeat, contrast))
            self.panel(wall, wall.length / 2, 0.0, _THICK, wall.length + 2 * _THICK, height, index, off=-_THICK)
        skirting = self.material(surface(tint * float(rng.choice([0.5, 0.6, 1.08]))))
        for wall in walls:
            self.panel(wall, wall.length / 2, 0.0, 0.012, wall.length, 0.1, skirting)

    def floor_and_ceiling(self, size: tuple[float, float, float], floors: tuple[str, ...]) -> None:
        """A textured floor whose top is at z = 0, and a white ceiling."""
        rng, (length, width, height) = self.rng, size
        plate = (length + 2 * _THICK, width + 2 * _THICK, _THICK)
        texture, repeat = FLOORS[floors[rng.integers(len(floors))]]
        tint = np.asarray(_FLOOR_TINTS[rng.integers(len(_FLOOR_TINTS))]) + rng.uniform(-0.05, 0.05, 3)
        self.slab(FLOOR, length / 2, width / 2, -_THICK, plate, self.material(surface(tint, texture, repeat, 0.45)))
        white = self.material(surface((0.93, 0.93, 0.92), "plain", 3.0, 0.04))
        self.slab(CEILING, length / 2, width / 2, height, plate, white)

    def door(self, wall: _Wall, along: float) -> None:
        """A standard door leaf of 0.9 m x 2.0 m with its frame and handle."""
        name = str(self.rng.choice(["brown", "white", "gray", "blue", "green"]))
        leaf = self.material(surface(named_colour(name, self.rng), "wood", 1.6, 0.15))
        frame = self.material(surface((0.85, 0.84, 0.80)))
        metal = self.material(surface((0.3, 0.3, 0.32)))
        self.panel(wall, along, 0.0, 0.03, 0.9, 2.0, leaf)
        for side in (-1, 1):
            self.panel(wall, along + side * 0.49, 0.0, 0.04, 0.08, 2.08, frame)
        self.panel(wall, along, 2.0, 0.04, 0.9, 0.08, frame)
        self.panel(wall, along + 0.36, 1.0, 0.05, 0.12, 0.03, metal, off=0.025)

    def window(self, wall: _Wall, middle: float, span: float) -> None:
        """A bright pane from 0.9 m to 2.0 m with a frame and a bar."""
        pane = self.material(Material((0.65, 0.80, 0.98), (0.55, 0.75, 0.95), "plain", 2.0, emission=0.9))
        frame = self.material(surface((0.92, 0.92, 0.92)))
        self.panel(wall, middle, 0.9, 0.01, span, 1.1, pane)
        for offset, wide in ((-span / 2, 0.07), (span / 2, 0.07), (0.0, 0.05)):
            self.panel(wall, middle + offset, 0.87, 0.03, wide, 1.16, frame)
        for z in (0.87, 1.97):
            self.panel(wall, middle, z, 0.03, span, 0.06, frame)

    def picture(self, wall: _Wall) -> None:
        """A flat framed picture, 1.3 m above the floor."""
        rng = self.rng
        first, second = (named_colour(str(name), rng) for name in rng.choice(list(COLOURS), 2, replace=False))
        texture, repeat = str(rng.choice(["mosaic", "dots", "stripes", "brick"])), float(rng.choice([0.5, 0.8]))
        canvas = self.material(Material(tuple(linear(first)), tuple(linear(second)), texture, repeat))
        frame = self.material(surface((0.2, 0.15, 0.1)))
        w, h = float(rng.choice([0.5, 0.8])), float(rng.choice([0.4, 0.6]))
        along = float(rng.uniform(0.6, wall.length - 0.6))
        self.panel(wall, along, 1.3, 0.02, w + 0.06, h + 0.06, frame)
        self.panel(wall, along, 1.33, 0.028, w, h, canvas)


def build_structure(
    size: tuple[float, float, float],
    shape: tuple[int, int],
    cell: float,
    rng: np.random.Generator,
    style: RoomStyle,
    batch: SolidBatch,
    materials: list[Material],
    lights: list[Light],
) -> tuple[np.ndarray, np.ndarray]:
    """Add the shell to ``batch``, ``materials`` and ``lights``.

    Returns:
        Two masks bool [rows, columns] of floor cells of ``cell`` metres: those that furniture must leave free (in front
        of the door), and those above which nothing may hang (the window's).
    """
    length, width, height = size
    shell, walls = _Shell(batch, materials, rng), _walls(length, width)
    shell.walls(walls, height)
    shell.floor_and_ceiling(size, style.floors)

    keep_clear = np.zeros(shape, bool)
    order = rng.permutation(4)
    door_wall, window_wall = walls[order[0]], walls[order[1]]
    along = float(rng.uniform(0.7, door_wall.length - 0.7))
    shell.door(door_wall, along)
    _mark(keep_clear, door_wall.point(along, 0.45), 0.45, cell)

    span = float(min(rng.choice([1.2, 1.6]), window_wall.length - 0.6))
    middle = float(rng.uniform(span / 2 + 0.2, window_wall.length - span / 2 - 0.2))
    shell.window(window_wall, middle, span)
    window = np.zeros(shape, bool)
    for share in (-0.5, 0.0, 0.5):
        _mark(window, window_wall.point(middle + share * (span - 0.3), 0.2), 0.4, cell)
    for index in order[2:]:
        if rng.random() < 0.75:
            shell.picture(walls[index])

    warm = rng.uniform(0.0, 1.0)
    strength = 0.55 * (length * width) ** 0.5 * rng.uniform(0.9, 1.2)
    x, y = length * rng.uniform(0.35, 0.65), width * rng.uniform(0.35, 0.65)
    glass = shell.material(surface((1.0, 0.98, 0.92), emission=1.0))
    batch.add([Solid("cylinder", (0.0, 0.0, 0.0), (0.4, 0.4, 0.05), glass)], CEILING, (x, y, height - 0.025), 0.0)
    colour = (strength, strength * (0.97 - 0.05 * warm), strength * (0.93 - 0.18 * warm))
    lights.append(Light((x, y, height - 0.12), colour, shadow=True))
    day = strength * rng.uniform(0.25, 0.6)
    lights.append(Light((*window_wall.point(middle, 0.3), 1.5), (day * 0.9, day * 0.97, day * 1.08)))
    return keep_clear, window


def _mark(mask: np.ndarray, middle: tuple[float, float], reach: float, cell: float) -> None:
    """Set the cells of the square that reaches ``reach`` metres around a point."""
    (x, y), last = middle, reach / cell
    rows, columns = (slice(int(max(0, v / cell - last)), int(v / cell + last) + 1) for v in (y, x))
    mask[rows, columns] = True
