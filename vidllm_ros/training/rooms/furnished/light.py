"""Views of furnished rooms: ray casting, area lights with soft shadows, and one bounce of indirect light."""

from __future__ import annotations

import cv2
import numpy as np

from vidllm_ros.training.rooms.furnished.scene import Scene

#: Rays of indirect light for each of the coarse pixels, which are this many pixels wide.
BOUNCES, COARSE = 6, 2
#: How many of the lights a pixel asks for, each at one random place.
LIGHT_SAMPLES = 2
_MIP_LEVELS = 6
_OFFSET = np.float32(3e-3)


class SoftRenderer:
    """Renders one scene."""

    def __init__(self, scene: Scene, threads: int = 1) -> None:
        """Join the triangles, build the ray caster and the mipmaps."""
        import open3d

        self._tensor, self._threads = open3d.core.Tensor, threads
        starts = np.cumsum([0] + [len(part[0]) for part in scene.parts])
        vertices = np.concatenate([part[0] for part in scene.parts]).astype(np.float32)
        triangles = np.concatenate([part[1] + start for part, start in zip(scene.parts, starts, strict=False)])
        self._uv = np.concatenate([part[2] for part in scene.parts]).astype(np.float32)
        self._material = np.concatenate([part[3] for part in scene.parts])
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            self._tensor.from_numpy(vertices), self._tensor.from_numpy(triangles.astype(np.uint32))
        )
        corners = vertices[triangles]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1) / 2
        edges = self._uv[:, 1:] - self._uv[:, :1]
        uv_area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
        #: Texture lengths in a metre, for the choice of mipmaps.
        self._density = np.sqrt(uv_area / np.maximum(area, 1e-9)).astype(np.float32)
        self._colours = np.array(scene.colours, np.float32)
        self._texture = np.array(scene.textures)
        self._glow = np.array(scene.glow, np.float32)
        self._mips = _mipmaps(scene.images)
        means = self._mips[-1].reshape(len(scene.images), -1, 3).mean(axis=1) if scene.images else np.ones((1, 3))
        self._mean = self._colours * np.where(self._texture[:, None] >= 0, means[self._texture], 1.0)
        shining = np.flatnonzero(self._glow[self._material] > 0)
        # Lamps that hang face down give their light; a screen or pane gives it inwards.
        self._lights = corners[shining]
        power = self._glow[self._material[shining], None] * self._mean[self._material[shining]]
        self._power = (power * area[shining, None]).astype(np.float32)
        self._light_normal = (cross[shining] / np.maximum(2 * area[shining, None], 1e-9)).astype(np.float32)

    def render(
        self, pose: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Linear RGB float32 [3, H, W] and depth float32 [H, W] in metres along the optical axis.

        Args:
            pose: T_world_camera [4, 4].
            intrinsics: [3, 3] pixels; rays go through integer pixel coordinates.
            image_size: (H, W).
            rng: for the samples of light.
        """
        height, width = image_size
        v, u = (grid.astype(np.float32).ravel() for grid in np.mgrid[:height, :width])
        per_pixel = (pose[:3, :3] @ np.linalg.inv(intrinsics)).astype(np.float32)
        way = np.stack([u, v, np.ones_like(u)], axis=1) @ per_pixel.T
        origin = pose[:3, 3].astype(np.float32)
        point, normal, triangle, uv, depth = self._cast(np.broadcast_to(origin, way.shape), way)
        slant = np.abs(_dot(normal, way)) / np.linalg.norm(way, axis=1)
        footprint = depth / np.float32(intrinsics[0, 0]) / np.sqrt(np.maximum(slant, 0.1))
        albedo = self._albedo(triangle, uv, footprint)
        start = point + _OFFSET * normal
        light = self._direct(start, normal, LIGHT_SAMPLES, rng).reshape(height, width, 3)
        coarse = (np.mgrid[:height:COARSE, :width:COARSE].reshape(2, -1) * [[width], [1]]).sum(axis=0)
        bounced = self._indirect(start[coarse], normal[coarse], rng)
        shape = (-(-height // COARSE), -(-width // COARSE))
        depth_map, normal_map = depth.reshape(height, width), normal.reshape(height, width, 3)
        guide = (depth[coarse].reshape(shape), normal[coarse].reshape(*shape, 3))
        bounced = cv2.resize(_smooth(bounced.reshape(*shape, 3), *guide), (width, height))
        light = _smooth(light, depth_map, normal_map) + bounced
        rgb = albedo * (light.reshape(-1, 3) + self._glow[self._material[triangle], None])
        image = cv2.GaussianBlur(rgb.reshape(height, width, 3), (3, 3), 0.5)
        return np.moveaxis(image, 2, 0), depth_map

    def _cast(self, origin: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, ...]:
        """First hits: points, normals towards the origin, triangles, texture coordinates, and ray lengths."""
        rays = np.concatenate([origin, way], axis=1, dtype=np.float32)
        hits = self._scene.cast_rays(self._tensor.from_numpy(rays), nthreads=self._threads)
        length = hits["t_hit"].numpy()
        triangle = np.minimum(hits["primitive_ids"].numpy().astype(np.int64), len(self._material) - 1)
        length = np.where(np.isfinite(length), length, np.float32(30.0))
        bary = hits["primitive_uvs"].numpy()
        normal = hits["primitive_normals"].numpy()
        normal = normal * -np.sign(_dot(normal, way))[:, None]
        corner = self._uv[triangle]
        uv = corner[:, 0] + bary[:, :1] * (corner[:, 1] - corner[:, 0]) + bary[:, 1:] * (corner[:, 2] - corner[:, 0])
        return origin + way * length[:, None], normal, triangle, uv, length

    def _albedo(self, triangle: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Linear RGB [N, 3] of surfaces; ``footprint`` is the size of a pixel on them in metres."""
        material = self._material[triangle]
        albedo = self._colours[material].copy()
        textured = np.flatnonzero(self._texture[material] >= 0)
        side = self._mips[0].shape[1]
        texels = footprint[textured] * self._density[triangle[textured]] * side
        level = np.clip(np.log2(np.maximum(texels, 1.0)).astype(int), 0, _MIP_LEVELS - 1)
        image, wrapped = self._texture[material[textured]], uv[textured] - np.floor(uv[textured])
        for k in range(_MIP_LEVELS):
            chosen = level == k
            size = side >> k
            column = np.minimum((wrapped[chosen, 0] * size).astype(int), size - 1)
            row = size - 1 - np.minimum((wrapped[chosen, 1] * size).astype(int), size - 1)
            albedo[textured[chosen]] *= self._mips[k][image[chosen], row, column]
        return np.clip(albedo, 0.0, 0.95)

    def _direct(self, start: np.ndarray, normal: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Light [N, 3] that reaches places straight from lamps and windows, by random places on random ones."""
        count, total = len(start), np.zeros((len(start), 3), np.float32)
        if len(self._lights) == 0:
            return total + np.float32(0.4)
        for _ in range(samples):
            which = rng.integers(len(self._lights), size=count)
            a, b = np.sqrt(rng.random(count, np.float32)), rng.random(count, np.float32)
            corner = self._lights[which]
            spot = (
                corner[:, 0] * (1 - a)[:, None]
                + corner[:, 1] * (a * (1 - b))[:, None]
                + corner[:, 2] * (a * b)[:, None]
            )
            to = spot - start
            square = _dot(to, to)
            distance = np.sqrt(square)
            facing = np.maximum(_dot(to, normal), 0) / distance
            leaving = np.abs(_dot(to, self._light_normal[which])) / distance
            strength = facing * (0.3 + 0.7 * leaving) / (square + 0.15)
            segments = np.concatenate([start, to], axis=1, dtype=np.float32)
            blocked = self._scene.test_occlusions(self._tensor.from_numpy(segments), 0.0, 0.97, nthreads=self._threads)
            strength[blocked.numpy()] = 0.0
            total += strength[:, None] * self._power[which]
        return total * np.float32(len(self._lights) / samples / np.pi)

    def _indirect(self, start: np.ndarray, normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Light [N, 3] that comes by way of one other surface."""
        count = len(start)
        ray = rng.standard_normal((count, BOUNCES, 3)).astype(np.float32)
        ray = ray / np.linalg.norm(ray, axis=2, keepdims=True) + normal[:, None] * np.float32(1.001)
        origin = np.repeat(start, BOUNCES, axis=0)
        point, turned, triangle, _, _ = self._cast(origin, ray.reshape(-1, 3))
        there = self._direct(point + _OFFSET * turned, turned, 1, rng) + np.float32(0.12)
        material = self._material[triangle]
        bounced = self._mean[material] * there + np.minimum(self._glow[material, None] * 0.3, 1.0)
        return bounced.reshape(count, BOUNCES, 3).mean(axis=1).astype(np.float32)


def _mipmaps(images: list[np.ndarray]) -> list[np.ndarray]:
    """Linear RGB float32 [T, side, side, 3] of each level."""
    level = np.square(np.stack(images).astype(np.float32) / 255) if images else np.ones((1, 128, 128, 3), np.float32)
    levels = [level]
    for _ in range(_MIP_LEVELS - 1):
        count, side = level.shape[:2]
        level = level.reshape(count, side // 2, 2, side // 2, 2, 3).mean(axis=(2, 4))
        levels.append(level)
    return levels


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of the rows of two [N, 3], [N]."""
    return np.einsum("ij,ij->i", a, b)


def _smooth(light: np.ndarray, depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Light [H, W, 3] without the noise of its samples: means over places of the same surface, ever farther apart.

    H. Dammertz et al., Edge-Avoiding A-Trous Wavelet Transform for fast Global Illumination Filtering, 2010.
    """
    height, width = depth.shape
    for step in (1, 2, 4):
        total, weight = light.copy(), np.ones((height, width, 1), np.float32)
        for down, right in ((a, b) for a in (-step, 0, step) for b in (-step, 0, step) if a or b):
            here = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
            there = (slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right)))
            alike = np.einsum("ijk,ijk->ij", normal[here], normal[there]) > 0.85
            alike &= np.abs(depth[here] - depth[there]) < 0.04 * step * depth[here]
            share = alike[..., None].astype(np.float32)
            total[here] += share * light[there]
            weight[here] += share
        light = total / weight
    return light
