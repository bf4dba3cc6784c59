"""Procedural shading of ray hits in NumPy: textures, smooth normals, lights, shadows; and the camera's processing.

Vectors are stored as [3, N]: NumPy is several times faster on three long rows than on N short ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidllm_ros.training.rooms.layout import Room
from vidllm_ros.training.rooms.materials import LEVELS, TEXELS, TEXTURES, texture_atlas
from vidllm_ros.training.rooms.solids import Mesh

#: How much of the main light still reaches a place in its shadow (by way of the walls).
_SHADOW_LIGHT = 0.25


@dataclass(frozen=True)
class Exposure:
    """What the camera does to light.

    Attributes:
        gain: RGB factors, exposure times white balance.
        vignette: share of light lost in the image corners.
        noise: standard deviation of the sensor noise in 8-bit grey levels.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays met the room.

    Attributes:
        t: float32 [N] distance in units of the ray's direction.
        triangle: int64 [N].
        normal: float32 [3, N] face normals.
        uv: float32 [N, 2] barycentric coordinates.
    """

    t: np.ndarray
    triangle: np.ndarray
    normal: np.ndarray
    uv: np.ndarray


class Shader:
    """The colours of one room."""

    def __init__(self, room: Room, mesh: Mesh, occluded: Callable[[np.ndarray], np.ndarray] | None) -> None:
        """Tables of materials and lights.

        Args:
            room: gives materials and lights.
            mesh: the room's triangles.
            occluded: whether something lies on each of the segments float32 [N, 6] (start, way); None for no shadows.
        """
        self._mesh, self._lights, self._occluded = mesh, room.lights, occluded
        self._atlas, offsets = texture_atlas()
        self._offsets = offsets.ravel()
        materials = room.materials
        first = np.array([m.colour for m in materials], np.float32).T
        second = np.array([m.second for m in materials], np.float32).T
        texture = np.array([TEXTURES.index(m.texture) for m in materials])
        density = TEXELS / np.array([m.repeat for m in materials], np.float32)
        emission = np.array([m.emission for m in materials], np.float32)
        self._first, self._change = np.ascontiguousarray(first), np.ascontiguousarray(second - first)
        self._density, self._emission = density.astype(np.float32), emission
        self._layer = (texture * LEVELS).astype(np.int32)
        self._cos, self._sin = np.cos(mesh.frame_yaw), np.sin(mesh.frame_yaw)
        self._material = mesh.material.astype(np.int64)

    def _texture(
        self, p: np.ndarray, n: np.ndarray, triangle: np.ndarray, material: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """Texture values [N] in [0, 1]; ``width`` [N] is the size of a pixel on the surface in metres."""
        c, s = self._cos[triangle], self._sin[triangle]
        x = c * p[0] + s * p[1]
        y = c * p[1] - s * p[0]
        upright = np.abs(n[2]) < 0.7
        # The plane that a face is nearest to: (x, y) for flat ones, (y, z) or (x, z) for upright ones.
        u = np.where(upright & (np.abs(c * n[0] + s * n[1]) > 0.7071), y, x)
        v = np.where(upright, p[2], y)
        density = self._density[material]
        # The exponent of a float is the floor of its base-2 logarithm, plus one.
        _, level = np.frexp(width * density)
        level = np.clip(level - 1, 0, LEVELS - 1)
        side = np.right_shift(TEXELS, level)
        column = np.right_shift((u * density).astype(np.int32), level) & (side - 1)
        row = np.right_shift((v * density).astype(np.int32), level) & (side - 1)
        return self._atlas[self._offsets[self._layer[material] + level] + row * side + column]

    def _normals(self, hits: Hits, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normals [3, N] towards the viewer, smooth on curved surfaces, and their cosine [N] to the view."""
        mesh, n = self._mesh, hits.normal
        curved = np.flatnonzero(mesh.smooth[hits.triangle])
        if len(curved):
            corner = mesh.normals[mesh.triangles[hits.triangle[curved]]]
            b, c = hits.uv[curved, :1], hits.uv[curved, 1:]
            bent = corner[:, 0] * (1 - b - c) + corner[:, 1] * b + corner[:, 2] * c
            n[:, curved] = (bent / np.linalg.norm(bent, axis=1, keepdims=True)).T
        facing = n[0] * directions[0] + n[1] * directions[1] + n[2] * directions[2]
        n *= -np.sign(facing)
        square = directions[0] ** 2 + directions[1] ** 2 + directions[2] ** 2
        return n, np.abs(facing) / np.sqrt(square)

    def shade(
        self, origin: np.ndarray, directions: np.ndarray, hits: Hits, pixel: float, shadow: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Linear RGB [3, N] of the hits of rays from ``origin`` [3] along ``directions`` [3, N].

        Args:
            origin: world metres.
            directions: world.
            hits: where they met the room.
            pixel: size of a pixel one metre away.
            shadow: [N] the main light's visibility when it is already known.

        Returns:
            The colours and the main light's visibility [N] (None without shadows).
        """
        p = directions * hits.t
        p += origin[:, None]
        n, cosine = self._normals(hits, directions)
        material = self._material[hits.triangle]
        value = self._texture(p, n, hits.triangle, material, pixel * hits.t / np.sqrt(np.maximum(cosine, 0.1)))

        # Light from everywhere: more from above than from below.
        ambient = np.float32(0.30) + np.float32(0.10) * n[2]
        light = [ambient, ambient.copy(), ambient.copy()]
        for lamp in self._lights:
            to = np.asarray(lamp.position, np.float32)[:, None] - p
            square = to[0] ** 2 + to[1] ** 2 + to[2] ** 2
            lambert = np.maximum(n[0] * to[0] + n[1] * to[1] + n[2] * to[2], 0.0)
            lambert /= np.sqrt(square) * (square + np.float32(1.0))
            if lamp.shadow and self._occluded is not None:
                if shadow is None:
                    shadow = self._visibility(p, n, to, lambert)
                lambert *= shadow
            for channel, strength in zip(light, lamp.colour, strict=True):
                channel += lambert * np.float32(strength)
        glow = self._emission[material]
        rgb = np.empty_like(p)
        for k in range(3):
            albedo = self._change[k][material]
            albedo *= value
            albedo += self._first[k][material]
            rgb[k] = albedo * (light[k] + glow * (1 - light[k]))
        return rgb, shadow

    def _visibility(self, p: np.ndarray, n: np.ndarray, to: np.ndarray, lambert: np.ndarray) -> np.ndarray:
        """How much of a lamp reaches each place [N]; only places that face it are asked for."""
        assert self._occluded is not None
        lit = np.flatnonzero(lambert > 0)
        segments = np.empty((len(lit), 6), np.float32)
        for k in range(3):
            segments[:, k] = (p[k] + np.float32(2e-3) * n[k])[lit]
            segments[:, 3 + k] = to[k][lit]
        seen = np.ones(p.shape[1], np.float32)
        seen[lit[self._occluded(segments)]] = _SHADOW_LIGHT
        return seen


#: Display values of linear light, after a soft shoulder that keeps bright walls from clipping, with gamma 2.
_LIGHT = np.linspace(0.0, 1.6, 4096, dtype=np.float32)
_TONES = np.sqrt(np.clip(_LIGHT * (1.0 + 0.25 * _LIGHT) / (1.0 + 0.75 * _LIGHT), 0.0, 1.0)) * np.float32(
    255.0
) + np.float32(0.5)


def develop(linear: np.ndarray, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Linear RGB [3, H, W] to the uint8 [H, W, 3] image a camera would give: exposure, vignette, tone curve, noise."""
    height, width = linear.shape[1:]
    y = (np.arange(height, dtype=np.float32) / height - 0.5) * 2
    x = (np.arange(width, dtype=np.float32) / width - 0.5) * 2
    steps = len(_TONES) / float(_LIGHT[-1])
    fall = steps * (1.0 - exposure.vignette * 0.5 * (x[None, :] ** 2 + y[:, None] ** 2))
    image = np.empty((height, width, 3), np.float32)
    for k in range(3):
        index = (linear[k] * (fall * exposure.gain[k]).astype(np.float32)).astype(np.int32)
        image[..., k] = _TONES[np.minimum(index, len(_TONES) - 1)]
    if exposure.noise > 0:
        image += np.float32(exposure.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)
