"""What floors, walls and covers look like: pieces of photographs, painted plaster and patterns of no fixed size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidllm_ros.training.rooms.furnished.assets import TEXTURE_SIDE
from vidllm_ros.training.rooms.materials import TEXTURES, texture_atlas

if TYPE_CHECKING:
    from vidllm_ros.training.rooms.furnished.scene import Scene


class SurfaceMaker:
    """Draws materials from the textures of all fetched pieces."""

    def __init__(self, folder: Path) -> None:
        images = []
        for entry in json.loads((folder / "catalogue.json").read_text()):
            if entry["category"] == "Characters":
                continue  # faces
            with np.load(folder / "pieces" / entry["file"]) as stored:
                images += [image for image in stored["textures"] if image.std() > 6]
        self.photographs = np.stack(images)
        atlas, offsets = texture_atlas()
        # The first mipmap of 128 texels.
        self.patterns = [
            atlas[start : start + TEXTURE_SIDE**2].reshape(TEXTURE_SIDE, TEXTURE_SIDE)
            for start in (int(offsets[k, 2]) for k in range(len(TEXTURES)))
        ]

    def view(self, rng: np.random.Generator) -> np.ndarray:
        """A picture: any photograph."""
        return self.photographs[rng.integers(len(self.photographs))]

    def photograph(self, rng: np.random.Generator, colour: np.ndarray, contrast: float) -> np.ndarray:
        """A photograph as a texture around one colour, so that any may serve as plaster, cloth, wood or stone."""
        image = self.view(rng).astype(np.float32) / 255
        centred = (image - image.mean(axis=(0, 1))) * contrast / max(float(image.std()), 0.05)
        return (np.clip(np.sqrt(colour) + centred, 0, 1) * 255).astype(np.uint8)

    def pattern(self, rng: np.random.Generator, colour: np.ndarray, contrast: float) -> np.ndarray:
        """A made pattern around one colour."""
        grey = self.patterns[rng.integers(len(self.patterns))]
        other = np.clip(np.sqrt(colour) * (1 - contrast) + contrast * rng.uniform(-0.2, 0.2, 3), 0, 1)
        mixed = np.sqrt(colour) + grey[..., None] * (other - np.sqrt(colour))
        return (np.clip(mixed, 0, 1) * 255).astype(np.uint8)

    def floor(self, scene: Scene, rng: np.random.Generator) -> tuple[int, float]:
        """Material and repeat in metres of a floor."""
        return self._plane(scene, rng, rng.uniform(0.05, 0.7), rng.uniform(0.05, 0.2), 0.85)

    def wall(self, scene: Scene, rng: np.random.Generator) -> tuple[int, float]:
        """Material and repeat of a wall: mostly bright and nearly plain."""
        bright = rng.uniform(0.5, 0.92) if rng.random() < 0.75 else rng.uniform(0.05, 0.5)
        contrast = rng.uniform(0.01, 0.05) if rng.random() < 0.7 else rng.uniform(0.05, 0.2)
        return self._plane(scene, rng, bright, contrast, 0.6)

    def ceiling(self, scene: Scene, rng: np.random.Generator) -> tuple[int, float]:
        """Material and repeat of a ceiling."""
        return self._plane(scene, rng, rng.uniform(0.6, 0.92), rng.uniform(0.005, 0.06), 0.3)

    def cover(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Another colour or another photograph for a part of a piece."""
        colour = rng.uniform(0.02, 0.8) * np.exp(rng.normal(0, 0.35, 3))
        colour = np.clip(colour, 0.01, 0.9)
        if rng.random() < 0.5:
            return colour, None
        return np.ones(3), self.photograph(rng, colour, float(rng.uniform(0.03, 0.15)))

    def _plane(
        self, scene: Scene, rng: np.random.Generator, bright: float, contrast: float, photographs: float
    ) -> tuple[int, float]:
        tint = np.exp(rng.normal(0, 0.08 if bright > 0.45 else 0.25, 3))
        colour = np.clip(bright * tint, 0.02, 0.95)
        drawn = rng.random()
        image = None
        if drawn < photographs * 0.75:
            image = self.photograph(rng, colour, contrast)
        elif drawn < photographs:
            image = self.view(rng) if contrast > 0.08 else self.pattern(rng, colour, contrast * 3)
        elif drawn < photographs + 0.2:
            image = self.pattern(rng, colour, min(contrast * 3, 0.6))
        # No fixed size: a floor is no ruler.
        repeat = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
        return scene.material(np.ones(3) if image is not None else colour, image), repeat
