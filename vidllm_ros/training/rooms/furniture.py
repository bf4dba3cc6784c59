"""Fourteen kinds of furniture of standard sizes, built from simple solids.

Every builder draws in the object's own frame: origin on the floor under its middle, x towards its front, y left, z up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.materials import COLOURS, Material, named_colour, surface
from vidllm_ros.training.rooms.sketch import Sketch
from vidllm_ros.training.rooms.solids import Solid

#: Colours that a class usually has; the other colours stay common, so that a colour cannot be guessed from the class.
TYPICAL_COLOURS: dict[str, tuple[str, ...]] = {
    "bed": ("blue", "white"),
    "sofa": ("gray", "red"),
    "table": ("brown", "white"),
    "desk": ("brown", "white"),
    "chair": ("black", "brown"),
    "stool": ("yellow", "red"),
    "cabinet": ("white", "brown"),
    "bookshelf": ("brown", "white"),
    "television": ("black", "gray"),
    "lamp": ("yellow", "white"),
    "plant": ("green",),
    "refrigerator": ("white", "gray"),
    "box": ("brown", "orange"),
    "bin": ("green", "blue"),
}

#: Every class name that a box can carry.
LABELS = tuple(TYPICAL_COLOURS)

_TYPICAL_SHARE = 0.25


def _chair(s: Sketch) -> None:
    w, d, seat, top = s.length(0.45), s.length(0.46), s.length(0.45), s.length(0.88)
    s.box(0, 0, seat - 0.05, d, w, 0.05, s.main)
    if s.rng.random() < 0.65:
        s.legs4(d, w, seat - 0.05, 0.045, s.legs)
        s.box(-d / 2 + 0.025, 0, seat + 0.12, 0.04, w, top - seat - 0.12, s.main)
        for y in (-1, 1):
            s.box(-d / 2 + 0.025, y * (w / 2 - 0.025), seat, 0.04, 0.045, 0.12, s.legs)
    else:
        s.round(0, 0, 0.06, 0.06, seat - 0.11, s.dark)
        s.box(0, 0, 0.0, 0.5, 0.06, 0.06, s.dark)
        s.box(0, 0, 0.0, 0.06, 0.5, 0.06, s.dark)
        s.box(-d / 2 + 0.03, 0, seat, 0.05, w * 0.9, top - seat, s.main)
        if s.rng.random() < 0.5:
            for y in (-1, 1):
                s.box(0, y * (w / 2 - 0.02), seat + 0.18, d * 0.7, 0.05, 0.03, s.dark)
                s.box(0.05, y * (w / 2 - 0.02), seat, 0.04, 0.04, 0.18, s.dark)


def _stool(s: Sketch) -> None:
    d, h = s.length(0.35), s.length(float(s.rng.choice([0.45, 0.65])))
    s.round(0, 0, h - 0.06, d, 0.06, s.main)
    if s.rng.random() < 0.6:
        s.legs4(d * 0.75, d * 0.75, h - 0.06, 0.04, s.legs)
    else:
        s.round(0, 0, 0.03, 0.06, h - 0.09, s.legs)
        s.round(0, 0, 0, d * 0.9, 0.03, s.legs)


def _table(s: Sketch) -> None:
    h = s.length(0.74)
    kind = s.rng.integers(3)
    if kind == 0:
        d = s.length(1.0)
        s.round(0, 0, h - 0.04, d, 0.04, s.main)
        s.round(0, 0, 0.04, 0.1, h - 0.08, s.legs)
        s.round(0, 0, 0, 0.55, 0.04, s.legs)
    else:
        dx, dy = (s.length(0.8), s.length(1.4)) if kind == 1 else (s.length(0.6), s.length(1.0))
        if kind == 2:
            h = s.length(0.45)
        s.box(0, 0, h - 0.045, dx, dy, 0.045, s.main)
        s.legs4(dx - 0.04, dy - 0.04, h - 0.045, 0.06, s.legs)


def _desk(s: Sketch) -> None:
    dx, dy, h = s.length(0.65), s.length(1.3), s.length(0.74)
    s.box(0, 0, h - 0.035, dx, dy, 0.035, s.main)
    side = 1 if s.rng.random() < 0.5 else -1
    s.box(0, side * (dy / 2 - 0.02), 0, dx * 0.95, 0.035, h - 0.035, s.main)
    s.box(0, -side * (dy / 2 - 0.21), 0.05, dx * 0.9, 0.4, h - 0.085, s.main)
    for k in range(3):
        z = 0.08 + k * (h - 0.12) / 3
        s.box(dx * 0.45 + 0.004, -side * (dy / 2 - 0.21), z, 0.014, 0.36, (h - 0.12) / 3 - 0.03, s.legs)
    s.box(-dx / 2 + 0.03, 0, 0.3, 0.02, dy * 0.9, h - 0.335, s.main)


def _sofa(s: Sketch) -> None:
    dx, dy, h = s.length(0.88), s.length(float(s.rng.choice([1.5, 1.95]))), s.length(0.82)
    s.box(0, 0, 0.06, dx, dy, 0.24, s.main)
    s.box(-dx / 2 + 0.11, 0, 0.3, 0.22, dy, h - 0.3, s.main)
    for y in (-1.0, 1.0):
        s.box(0.02, y * (dy / 2 - 0.1), 0.3, dx - 0.06, 0.2, 0.3, s.main)
        for x in (-1, 1):
            s.box(x * (dx / 2 - 0.08), y * (dy / 2 - 0.08), 0, 0.06, 0.06, 0.06, s.dark)
    count = 2 if dy < 1.7 else 3
    width = (dy - 0.4) / count
    for k in range(count):
        s.box(0.1, -dy / 2 + 0.2 + width * (k + 0.5), 0.3, dx - 0.24, width - 0.02, 0.13, s.main)


def _bed(s: Sketch) -> None:
    dx, dy = s.length(2.05), s.length(float(s.rng.choice([0.95, 1.45])))
    s.box(0, 0, 0.1, dx, dy, 0.2, s.legs)
    s.legs4(dx - 0.05, dy - 0.05, 0.1, 0.08, s.dark)
    s.box(0.02, 0, 0.3, dx - 0.08, dy - 0.06, 0.2, s.light)
    s.box(0.27, 0, 0.36, dx - 0.56, dy + 0.02, 0.17, s.main)
    s.box(-dx / 2 + 0.03, 0, 0.1, 0.06, dy, s.length(0.85), s.main)
    for y in (-1.0, 1.0) if dy > 1.2 else (0.0,):
        s.box(-dx / 2 + 0.3, y * dy / 4, 0.5, 0.36, min(0.6, dy * 0.42), 0.1, s.light, tilt=0.15)


def _cabinet(s: Sketch) -> None:
    dx, dy = s.length(0.45), s.length(float(s.rng.choice([0.8, 1.2])))
    h = s.length(float(s.rng.choice([0.6, 0.9, 1.9])))
    s.box(0, 0, 0.05, dx, dy, h - 0.05, s.main)
    s.box(-0.02, 0, 0, dx - 0.06, dy - 0.04, 0.05, s.dark)
    s.box(dx / 2 + 0.002, 0, 0.08, 0.006, 0.012, h - 0.12, s.dark)
    for y in (-1.0, 1.0):
        s.box(dx / 2 + 0.015, y * 0.06, min(h * 0.5, 1.0) - 0.08, 0.03, 0.02, 0.16, s.legs)


def _bookshelf(s: Sketch) -> None:
    dx, dy, h = s.length(0.3), s.length(0.85), s.length(float(s.rng.choice([1.2, 1.85])))
    t = 0.03
    for y in (-1.0, 1.0):
        s.box(0, y * (dy - t) / 2, 0, dx, t, h, s.main)
    s.box(-dx / 2 + 0.01, 0, 0, 0.02, dy, h, s.main)
    shelves = 4 if h < 1.5 else 6
    gap = (h - t) / (shelves - 1)
    names = list(COLOURS)
    book_materials = [
        s.material(surface(named_colour(names[i], s.rng))) for i in s.rng.choice(len(names), 4, replace=False)
    ]
    for k in range(shelves):
        s.box(0, 0, k * gap, dx, dy - 2 * t, t, s.main)
        if k == shelves - 1:
            continue
        y = -dy / 2 + t + s.rng.uniform(0.0, 0.1)
        while y < dy / 2 - t - 0.16:
            w = s.rng.uniform(0.06, 0.15)
            s.box(
                -0.02,
                y + w / 2,
                k * gap + t,
                dx * 0.7,
                w,
                gap * s.rng.uniform(0.55, 0.8),
                int(s.rng.choice(book_materials)),
            )
            y += w + (s.rng.uniform(0.05, 0.25) if s.rng.random() < 0.25 else 0.004)


def _television(s: Sketch) -> None:
    dy = s.length(1.1)
    h = dy * 0.57
    picture = s.material(surface((0.10, 0.13, 0.22), "mosaic", 1.3, -0.9, emission=0.5))
    s.box(0, 0, 0.06, 0.06, dy, h, s.main)
    s.box(0.031, 0, 0.1, 0.008, dy - 0.08, h - 0.08, picture)
    s.box(0, 0, 0.02, 0.05, 0.1, 0.05, s.dark)
    s.box(0, 0, 0, 0.2, dy * 0.45, 0.02, s.dark)


def _lamp(s: Sketch) -> None:
    h, d = s.length(1.55), s.length(0.4)
    base = s.materials[s.main]
    shade = s.material(Material(base.colour, base.second, "plain", 1.0, emission=0.35))
    s.round(0, 0, 0, 0.28, 0.03, s.dark)
    s.round(0, 0, 0.03, 0.03, h - 0.33, s.dark)
    s.round(0, 0, h - 0.32, d, 0.32, shade, "taper")


def _plant(s: Sketch) -> None:
    pot, h = s.length(0.34), s.length(float(s.rng.choice([0.8, 1.2])))
    clay = s.material(surface(named_colour(str(s.rng.choice(["brown", "white", "orange", "gray"])), s.rng)))
    s.round(0, 0, 0, pot, 0.3, clay, "flare")
    s.round(0, 0, 0.3, 0.04, h - 0.5, s.legs)
    leaf = s.material(surface(named_colour("green", s.rng), "speckle", 0.2, 0.35))
    s.ball(0, 0, h - 0.22, 0.42, 0.42, 0.42, leaf)
    for k in range(3):
        a = 2 * np.pi * (k + s.rng.uniform(0, 0.6)) / 3
        r, z = 0.16, h - s.rng.uniform(0.3, 0.5)
        s.ball(r * np.cos(a), r * np.sin(a), max(z, 0.45), 0.3, 0.3, 0.26, leaf)


def _refrigerator(s: Sketch) -> None:
    dx, dy, h = s.length(0.66), s.length(0.66), s.length(1.75)
    split = h * 0.63
    s.box(-0.02, 0, 0.03, dx - 0.04, dy, h - 0.03, s.main)
    s.box(-0.02, 0, 0, dx - 0.1, dy - 0.06, 0.03, s.dark)
    s.box(dx / 2 - 0.018, 0, 0.05, 0.04, dy, split - 0.06, s.main)
    s.box(dx / 2 - 0.018, 0, split + 0.005, 0.04, dy, h - split - 0.005, s.main)
    s.box(dx / 2 - 0.035, 0, split - 0.012, 0.05, dy * 0.99, 0.02, s.dark)
    for z, length in ((split - 0.42, 0.36), (split + 0.08, 0.28)):
        s.box(dx / 2 + 0.02, -dy / 2 + 0.07, z, 0.035, 0.03, length, s.legs)


def _box(s: Sketch) -> None:
    dx, dy, dz = s.length(0.4), s.length(0.5), s.length(float(s.rng.choice([0.3, 0.45])))
    s.box(0, 0, 0, dx, dy, dz, s.main)
    tape = s.material(surface((0.80, 0.70, 0.48)))
    s.box(0, 0, dz - 0.001, dx, 0.06, 0.004, tape)


def _bin(s: Sketch) -> None:
    d, h = s.length(0.32), s.length(float(s.rng.choice([0.4, 0.6])))
    s.round(0, 0, 0, d, h, s.main, "flare")
    s.round(0, 0, h - 0.005, d * 0.88, 0.01, s.dark)


_BUILDERS: dict[str, Callable[[Sketch], None]] = {
    "bed": _bed,
    "sofa": _sofa,
    "table": _table,
    "desk": _desk,
    "chair": _chair,
    "stool": _stool,
    "cabinet": _cabinet,
    "bookshelf": _bookshelf,
    "television": _television,
    "lamp": _lamp,
    "plant": _plant,
    "refrigerator": _refrigerator,
    "box": _box,
    "bin": _bin,
}


def draw_colour(label: str, rng: np.random.Generator) -> str:
    """A colour name for an object of that class: typical in a quarter of the cases, else any."""
    if label == "plant":
        return "green"
    if rng.random() < _TYPICAL_SHARE:
        return str(rng.choice(TYPICAL_COLOURS[label]))
    return str(rng.choice(list(COLOURS)))


def build_object(
    label: str, colour: str, rng: np.random.Generator, materials: list[Material], variation: float
) -> list[Solid]:
    """The solids of one object in its own frame; its materials are appended to ``materials``.

    Raises:
        RoomError: for a class or colour that does not exist.
    """
    if label not in _BUILDERS:
        raise RoomError(f"furniture class {label!r} is unknown; choose one of {', '.join(LABELS)}")
    if colour not in COLOURS:
        raise RoomError(f"colour {colour!r} is unknown; choose one of {', '.join(COLOURS)}")
    sketch = Sketch(rng, materials, colour, variation)
    _BUILDERS[label](sketch)
    return sketch.solids


def local_bounds(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner [3] of an object in its own frame, exact for the solids that the builders use."""
    center = np.array([solid.center for solid in solids])
    half = np.array([solid.size for solid in solids]) / 2
    tilt = np.array([solid.tilt for solid in solids])
    c, s = np.abs(np.cos(tilt)), np.abs(np.sin(tilt))
    reach = np.stack([c * half[:, 0] + s * half[:, 2], half[:, 1], s * half[:, 0] + c * half[:, 2]], axis=1)
    return (center - reach).min(axis=0), (center + reach).max(axis=0)
