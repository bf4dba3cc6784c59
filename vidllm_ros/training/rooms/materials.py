"""Colours with names, and procedural textures baked into one small mipmapped atlas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: Nameable colours, display RGB in [0, 1].
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.10, 0.10),
    "green": (0.13, 0.56, 0.18),
    "blue": (0.12, 0.27, 0.80),
    "yellow": (0.95, 0.83, 0.15),
    "orange": (0.96, 0.49, 0.07),
    "purple": (0.50, 0.17, 0.66),
    "brown": (0.45, 0.27, 0.13),
    "black": (0.11, 0.11, 0.12),
    "white": (0.94, 0.94, 0.92),
    "gray": (0.52, 0.53, 0.54),
}

#: Texture names; the index of a name is its layer in the atlas.
TEXTURES = (
    "plain",
    "tiles",
    "grid",
    "wood",
    "stripes",
    "speckle",
    "brick",
    "carpet",
    "weave",
    "dots",
    "mosaic",
)

#: Texture and metres per repeat of each floor. "tiles" are 0.5 m squares of two alternating tones.
FLOORS = {
    "tiles": ("tiles", 1.0),
    "grid": ("grid", 1.2),
    "wood": ("wood", 1.2),
    "carpet": ("carpet", 0.9),
    "speckle": ("speckle", 0.8),
}

TEXELS = 512
LEVELS = 8


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        colour: linear RGB where the texture is 0.
        second: linear RGB where the texture is 1.
        texture: name of the texture.
        repeat: metres after which the texture repeats.
        emission: share of the colour that shines by itself, whatever the lights do.
    """

    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    texture: str = "plain"
    repeat: float = 1.0
    emission: float = 0.0


def linear(rgb: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """Display RGB to linear light, with the renderer's gamma of 2."""
    return np.square(np.asarray(rgb, dtype=np.float64))


def surface(
    rgb: tuple[float, float, float] | np.ndarray,
    texture: str = "plain",
    repeat: float = 1.0,
    contrast: float = 0.25,
    emission: float = 0.0,
) -> Material:
    """A material whose second tone is ``contrast`` darker than its display colour ``rgb``."""
    first = linear(rgb)
    second = linear(np.asarray(rgb) * (1.0 - contrast))
    return Material(tuple(first), tuple(second), texture, repeat, emission)


def named_colour(name: str, rng: np.random.Generator) -> np.ndarray:
    """Display RGB of a nameable colour with a little variation that keeps its name."""
    base = np.asarray(COLOURS[name])
    brightness = rng.uniform(0.92, 1.06)
    return np.clip(base * brightness + rng.uniform(-0.02, 0.02, 3), 0.03, 1.0)


def _smooth_noise(rng: np.random.Generator, sigma_u: float, sigma_v: float) -> np.ndarray:
    """Periodic noise in [0, 1], low-passed with the given texel widths."""
    f = np.fft.fftfreq(TEXELS)
    gain = np.exp(-2 * (np.pi * f[:, None] * sigma_v) ** 2) * np.exp(-2 * (np.pi * f[None, :] * sigma_u) ** 2)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((TEXELS, TEXELS))) * gain).real
    return np.clip(0.5 + 0.22 * noise / noise.std(), 0.0, 1.0)


def _cells(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random value for each cell of a grid that fills the texture."""
    values = rng.uniform(0.0, 1.0, (rows, columns))
    return np.kron(values, np.ones((TEXELS // rows, TEXELS // columns)))


def _textures() -> list[np.ndarray]:
    rng = np.random.default_rng(20)
    v, u = np.meshgrid(np.arange(TEXELS), np.arange(TEXELS), indexing="ij")
    half, fine, coarse = TEXELS // 2, _smooth_noise(rng, 2, 2), _smooth_noise(rng, 30, 30)
    joint = ((u % half) < 6) | ((v % half) < 6)
    tiles = np.where(joint, 1.0, 0.55 * ((u // half + v // half) % 2) + 0.12 * fine)
    grid_joint = ((u % (TEXELS // 4)) < 5) | ((v % (TEXELS // 4)) < 5)
    grid = np.where(grid_joint, 1.0, 0.35 * _cells(rng, 4, 4) + 0.1 * fine)
    grain = _smooth_noise(rng, 60, 1.5)
    plank = (v % 64) < 3
    wood = np.where(plank, 1.0, 0.45 * _cells(rng, 8, 1) + 0.45 * grain)
    stripes = ((u % 128) < 64).astype(float)
    speckle = np.where(_smooth_noise(rng, 2.5, 2.5) > 0.66, 1.0, 0.2 * coarse)
    shifted = (u + 64 * ((v // 64) % 2)) % 128
    brick = np.where((v % 64 < 6) | (shifted < 6), 1.0, 0.5 * _smooth_noise(rng, 30, 12))
    carpet = 0.6 * fine + 0.4 * coarse
    weave = 0.5 + 0.25 * np.sin(2 * np.pi * u / 32) * np.sin(2 * np.pi * v / 32) + 0.25 * (fine - 0.5)
    dots = (((u % 128) - 64) ** 2 + ((v % 128) - 64) ** 2 < 30**2).astype(float)
    plain = 0.35 * coarse
    mosaic = _cells(rng, 8, 8)
    layers = [plain, tiles, grid, wood, stripes, speckle, brick, carpet, weave, dots, mosaic]
    return [np.clip(layer, 0.0, 1.0) for layer in layers]


@lru_cache(maxsize=1)
def texture_atlas() -> tuple[np.ndarray, np.ndarray]:
    """All textures and their mipmaps.

    Returns:
        Texels float32 [T] in [0, 1], and offsets int32 [len(TEXTURES), LEVELS] of each level's first texel. Level ``l``
        of a texture has (512 >> l)^2 texels, row-major.
    """
    flat, offsets, cursor = [], np.zeros((len(TEXTURES), LEVELS), dtype=np.int32), 0
    for index, layer in enumerate(_textures()):
        level = layer
        for depth in range(LEVELS):
            offsets[index, depth] = cursor
            flat.append(level.astype(np.float32).ravel())
            cursor += level.size
            n = level.shape[0] // 2
            level = level.reshape(n, 2, n, 2).mean(axis=(1, 3))
    return np.concatenate(flat), offsets
