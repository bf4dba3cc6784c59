"""The drawing board on which one object is put together from solids."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vidllm_ros.training.rooms.materials import Material, named_colour, surface
from vidllm_ros.training.rooms.solids import Solid


@dataclass
class Sketch:
    """Collects the solids of one object; owns no state but the room's list of materials, which it extends."""

    rng: np.random.Generator
    materials: list[Material]
    colour: str
    variation: float
    solids: list[Solid] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the object's main and secondary materials."""
        rng = self.rng
        texture, repeat, contrast = [
            ("plain", 1.0, 0.25),
            ("weave", 0.25, 0.22),
            ("stripes", 0.32, 0.2),
            ("wood", 0.9, 0.25),
            ("speckle", 0.4, 0.22),
        ][rng.integers(5)]
        self.main = self.material(surface(named_colour(self.colour, rng), texture, repeat, contrast))
        tone = rng.choice(["black", "gray", "brown"]) if self.colour != "black" else "gray"
        self.legs = self.material(surface(named_colour(str(tone), rng)))
        self.dark = self.material(surface((0.13, 0.13, 0.14)))
        self.light = self.material(surface((0.93, 0.92, 0.88)))

    def material(self, material: Material) -> int:
        """Register a material and return its index."""
        self.materials.append(material)
        return len(self.materials) - 1

    def length(self, standard: float) -> float:
        """A standard length with the style's modest variation."""
        return float(standard * (1 + self.rng.uniform(-self.variation, self.variation)))

    def box(self, x: float, y: float, z: float, dx: float, dy: float, dz: float, material: int, **turn: float) -> None:
        """A box with centre x, y, bottom z and edges dx, dy, dz."""
        self.solids.append(Solid("box", (x, y, z + dz / 2), (dx, dy, dz), material, **turn))

    def round(
        self, x: float, y: float, z: float, d: float, h: float, material: int, shape: str = "cylinder", **turn: float
    ) -> None:
        """A vertical cylinder, taper or flare with centre x, y, bottom z, diameter d and height h."""
        self.solids.append(Solid(shape, (x, y, z + h / 2), (d, d, h), material, **turn))

    def ball(self, x: float, y: float, z: float, dx: float, dy: float, dz: float, material: int) -> None:
        """An ellipsoid with its centre at x, y, z."""
        self.solids.append(Solid("sphere", (x, y, z), (dx, dy, dz), material))

    def legs4(self, dx: float, dy: float, h: float, thick: float, material: int) -> None:
        """Four legs whose outer faces span dx by dy."""
        for sx in (-1, 1):
            for sy in (-1, 1):
                self.box(sx * (dx - thick) / 2, sy * (dy - thick) / 2, 0.0, thick, thick, h, material)
