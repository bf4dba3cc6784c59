"""Ray casting with Embree (through Open3D) and procedural shading in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layout import Room
from .materials import LEVELS, TEXELS, TEXTURES, texture_atlas
from .solids import build_mesh
from .structure import WALL

_CHUNK = 16384
_EXTRA_SAMPLES = ((-0.375, 0.125), (0.125, 0.375), (0.375, -0.25))


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


class Renderer:
    """Renders RGB, depth and instances of one room."""

    def __init__(self, room: Room, shadows: bool = True, threads: int = 1) -> None:
        """Build the ray casting scene; ``threads`` = 1 keeps to one core, as a data loader's worker should."""
        # Open3D takes seconds to import; modules that only need words or rooms do without.
        import open3d

        self._o3d = open3d
        self._threads = threads
        self._shadows = shadows
        mesh = build_mesh(room.batch)
        self.mesh = mesh
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(open3d.core.Tensor(mesh.vertices), open3d.core.Tensor(mesh.triangles))
        self._lights = room.lights
        self._tables(room)

    def _tables(self, room: Room) -> None:
        atlas, offsets = texture_atlas()
        self._atlas, self._offsets = atlas, offsets.ravel()
        first = np.array([m.colour for m in room.materials], np.float32)
        second = np.array([m.second for m in room.materials], np.float32)
        texture = np.array([TEXTURES.index(m.texture) for m in room.materials])
        repeat = np.array([m.repeat for m in room.materials], np.float32)
        emission = np.array([m.emission for m in room.materials], np.float32)
        self._material = np.column_stack([first, second - first, TEXELS / repeat, emission]).astype(np.float32)
        self._layer = (texture * LEVELS).astype(np.int32)
        mesh = self.mesh
        self._turn = np.column_stack([np.cos(mesh.frame_yaw), np.sin(mesh.frame_yaw)]).astype(np.float32)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First hits of rays float32 [N, 3].

        Returns:
            Distance [N] in units of the direction's length (inf: no hit), triangle [N], face normal [N, 3] and barycentric
            coordinates [N, 2].
        """
        rays = np.concatenate([np.broadcast_to(origins, directions.shape), directions], axis=1).astype(np.float32)
        hits = self._scene.cast_rays(self._o3d.core.Tensor.from_numpy(rays), nthreads=self._threads)
        return (
            hits["t_hit"].numpy(),
            hits["primitive_ids"].numpy(),
            hits["primitive_normals"].numpy(),
            hits["primitive_uvs"].numpy(),
        )

    def _texture(self, p: np.ndarray, n: np.ndarray, tri: np.ndarray, mat: np.ndarray, rows: np.ndarray, width: np.ndarray) -> np.ndarray:
        """Texture values [N] in [0, 1]; ``width`` [N] is the size of a pixel on the surface in metres."""
        turn = self._turn[tri]
        x = turn[:, 0] * p[:, 0] + turn[:, 1] * p[:, 1]
        y = turn[:, 0] * p[:, 1] - turn[:, 1] * p[:, 0]
        across = np.abs(turn[:, 0] * n[:, 0] + turn[:, 1] * n[:, 1])
        upright = np.abs(n[:, 2]) < 0.7
        # The plane that a face is nearest to: (x, y) for flat ones, (y, z) or (x, z) for upright ones.
        u = np.where(upright & (across > 0.7071), y, x)
        v = np.where(upright, p[:, 2], y)
        density = rows[:, 6]
        level = np.clip(np.log2(width * density + 1e-6), 0, LEVELS - 1).astype(np.int32)
        side = np.right_shift(TEXELS, level)
        column = np.right_shift((u * density).astype(np.int32), level) & (side - 1)
        row = np.right_shift((v * density).astype(np.int32), level) & (side - 1)
        return self._atlas[self._offsets[self._layer[mat] + level] + row * side + column]

    def _shade(
        self, origin: np.ndarray, directions: np.ndarray, t: np.ndarray, tri: np.ndarray, normal: np.ndarray, uv: np.ndarray, pixel: float
    ) -> np.ndarray:
        """Linear RGB [N, 3] of hits; ``pixel`` is the size of a pixel one metre away."""
        mesh = self.mesh
        p = origin + t[:, None] * directions
        n = normal
        curved = np.flatnonzero(mesh.smooth[tri])
        if len(curved):
            corner = mesh.normals[mesh.triangles[tri[curved]]]
            w = uv[curved]
            bent = corner[:, 0] * (1 - w[:, :1] - w[:, 1:]) + corner[:, 1] * w[:, :1] + corner[:, 2] * w[:, 1:]
            n = n.copy()
            n[curved] = bent / np.linalg.norm(bent, axis=1, keepdims=True)
        facing = np.einsum("ij,ij->i", n, directions)
        n = np.where(facing[:, None] > 0, -n, n)
        reach = np.einsum("ij,ij->i", directions, directions)
        cosine = np.abs(facing) / np.sqrt(reach)

        mat = mesh.material[tri]
        rows = self._material[mat]
        value = self._texture(p, n, tri, mat, rows, pixel * t / np.sqrt(np.maximum(cosine, 0.1)))
        albedo = rows[:, :3] + value[:, None] * rows[:, 3:6]

        # Light from everywhere: more from above than from below.
        ambient = 0.30 + 0.10 * n[:, 2]
        light = np.repeat(ambient[:, None], 3, axis=1)
        for lamp in self._lights:
            to = np.asarray(lamp.position, np.float32) - p
            square = np.einsum("ij,ij->i", to, to)
            lambert = np.maximum(np.einsum("ij,ij->i", n, to), 0.0) / (np.sqrt(square) * (square + 1.0))
            if lamp.shadow and self._shadows:
                lambert = np.where(self._occluded(p + 2e-3 * n, to, lambert), 0.25 * lambert, lambert)
            light += lambert[:, None] * np.asarray(lamp.colour, np.float32)
        glow = rows[:, 7:8]
        return albedo * (light * (1 - glow) + glow)

    def _occluded(self, start: np.ndarray, to: np.ndarray, lambert: np.ndarray) -> np.ndarray:
        """Whether something stands between a surface and a lamp; only lit places are asked for."""
        lit = np.flatnonzero(lambert > 0)
        rays = np.concatenate([start[lit], to[lit]], axis=1)
        blocked = self._scene.test_occlusions(self._o3d.core.Tensor.from_numpy(rays), 0.0, 0.98, nthreads=self._threads)
        result = np.zeros(len(start), bool)
        result[lit] = blocked.numpy()
        return result

    def render(
        self, pose: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int], antialias: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One view.

        Args:
            pose: T_world_camera [4, 4].
            intrinsics: [3, 3] pixels; rays go through integer pixel coordinates.
            image_size: (H, W).
            antialias: cast three more rays where neighbouring pixels differ.

        Returns:
            Linear RGB float32 [H, W, 3], depth float32 [H, W] metres along the optical axis at the pixels' own rays, and
            instance ids int16 [H, W].
        """
        height, width = image_size
        rotation, origin = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
        fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
        v, u = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
        pixel = float(1 / fx)

        def look(du: float, dv: float, which: np.ndarray | slice) -> np.ndarray:
            local = np.empty((len(u[which]), 3), np.float32)
            local[:, 0], local[:, 1], local[:, 2] = (u[which] + (du - cx)) / fx, (v[which] + (dv - cy)) / fy, 1.0
            return local @ rotation.T

        rgb = np.empty((height * width, 3), np.float32)
        depth = np.empty(height * width, np.float32)
        tri = np.empty(height * width, np.int64)
        for first in range(0, height * width, _CHUNK):
            part = slice(first, min(first + _CHUNK, height * width))
            directions = look(0.0, 0.0, part)
            t, ids, normal, uv = self.cast(origin, directions)
            depth[part], tri[part] = t, ids
            rgb[part] = self._shade(origin, directions, t, ids, normal, uv, pixel)
        instance = self.mesh.instance[tri]
        if antialias:
            self._soften(rgb, tri, height, width, origin, look, pixel)
        return rgb.reshape(height, width, 3), depth.reshape(height, width), instance.reshape(height, width)

    def _soften(self, rgb, tri, height, width, origin, look, pixel) -> None:
        """Average more rays, in place, into the pixels at edges."""
        grey = rgb.mean(axis=1)
        np.sqrt(grey, out=grey)
        grey = grey.reshape(height, width)
        solid = (self.mesh.material[tri].astype(np.int32) * 64 + self.mesh.instance[tri]).reshape(height, width)
        edge = np.zeros((height, width), bool)
        for axis in (0, 1):
            a, b = (slice(None), slice(None, -1)), (slice(None), slice(1, None))
            if axis == 0:
                a, b = a[::-1], b[::-1]
            jump = (solid[a] != solid[b]) | (np.abs(grey[a] - grey[b]) > 0.06)
            edge[a] |= jump
            edge[b] |= jump
        which = np.flatnonzero(edge.ravel())
        if not len(which):
            return
        total = np.minimum(rgb[which], 1.2)
        for du, dv in _EXTRA_SAMPLES:
            directions = look(du, dv, which)
            t, ids, normal, uv = self.cast(origin, directions)
            total += np.minimum(self._shade(origin, directions, t, ids, normal, uv, pixel), 1.2)
        rgb[which] = total / (1 + len(_EXTRA_SAMPLES))


_TONES = np.sqrt(np.linspace(0.0, 1.0, 4096)) * 255.0


def develop(linear: np.ndarray, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Linear RGB [H, W, 3] to the 8-bit image a camera would give: exposure, vignette, gamma, noise."""
    height, width = linear.shape[:2]
    y = (np.arange(height, dtype=np.float32) / height - 0.5) * 2
    x = (np.arange(width, dtype=np.float32) / width - 0.5) * 2
    fall = 1.0 - exposure.vignette * 0.5 * (x[None, :] ** 2 + y[:, None] ** 2)
    light = linear * np.asarray(exposure.gain, np.float32) * fall[..., None].astype(np.float32)
    # A soft shoulder keeps bright walls from clipping.
    light = light * (1.0 + 0.25 * light) / (1.0 + light * 0.75)
    image = np.sqrt(np.clip(light, 0.0, 1.0)) * 255.0
    if exposure.noise > 0:
        image += exposure.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


__all__ = ["WALL", "Exposure", "Renderer", "develop"]
