"""Views of a room by ray casting with Embree, through Open3D."""

from __future__ import annotations

import numpy as np

from vidllm_ros.training.rooms.layout import Room
from vidllm_ros.training.rooms.shading import Hits, Shader
from vidllm_ros.training.rooms.solids import build_mesh

_CHUNK = 16384
_EXTRA_SAMPLES = ((-0.375, -0.125), (0.3, 0.35))
_CONTRAST = 0.08


class Renderer:
    """Renders RGB, depth and instances of one room."""

    def __init__(self, room: Room, shadows: bool = True, threads: int = 1) -> None:
        """Build the ray casting scene; ``threads`` = 1 keeps to one core, as a data loader's worker should."""
        # Open3D takes seconds to import; modules that only need words or rooms do without.
        import open3d

        self._tensor = open3d.core.Tensor
        self._threads = threads
        self.mesh = build_mesh(room.batch)
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            *(self._tensor.from_numpy(part) for part in (self.mesh.vertices, self.mesh.triangles))
        )
        self._shader = Shader(room, self.mesh, self._blocked if shadows else None)
        # Differs between any two surfaces worth a soft edge.
        self._surface = self.mesh.material.astype(np.int32) * 64 + self.mesh.instance

    def _blocked(self, segments: np.ndarray) -> np.ndarray:
        return self._scene.test_occlusions(self._tensor.from_numpy(segments), 0.0, 0.98, nthreads=self._threads).numpy()

    def cast(self, origin: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits of rays from ``origin`` [3] along ``directions`` float32 [3, N], in world."""
        rays = np.empty((directions.shape[1], 6), np.float32)
        rays[:, :3] = origin
        rays[:, 3:] = directions.T
        hits = self._scene.cast_rays(self._tensor.from_numpy(rays), nthreads=self._threads)
        normal = np.ascontiguousarray(hits["primitive_normals"].numpy().T)
        triangle = hits["primitive_ids"].numpy().astype(np.int64)
        return Hits(hits["t_hit"].numpy(), triangle, normal, hits["primitive_uvs"].numpy())

    def render(
        self, pose: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int], antialias: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One view.

        Args:
            pose: T_world_camera [4, 4].
            intrinsics: [3, 3] pixels; rays go through integer pixel coordinates.
            image_size: (H, W).
            antialias: cast two more rays where neighbouring pixels differ.

        Returns:
            Linear RGB float32 [3, H, W], depth float32 [H, W] metres along the optical axis at the pixels' own rays,
            and instance ids int16 [H, W].
        """
        height, width = image_size
        count = height * width
        origin = pose[:3, 3].astype(np.float32)
        # Directions with z = 1 in the camera make the hit distance the depth along the optical axis.
        per_pixel = (pose[:3, :3] @ np.linalg.inv(intrinsics)).astype(np.float32)
        v, u = (values.astype(np.float32) for values in np.divmod(np.arange(count), width))
        corner, right, down = per_pixel[:, 2:], per_pixel[:, :1], per_pixel[:, 1:2]
        directions = right * u + down * v + corner
        pixel = float(1 / intrinsics[0, 0])

        rgb, depth = np.empty((3, count), np.float32), np.empty(count, np.float32)
        triangle, shadow = np.empty(count, np.int64), np.ones(count, np.float32)
        for first in range(0, count, _CHUNK):
            part = slice(first, min(first + _CHUNK, count))
            look = directions[:, part]
            hits = self.cast(origin, look)
            depth[part], triangle[part] = hits.t, hits.triangle
            rgb[:, part], seen = self._shader.shade(origin, look, hits, pixel)
            if seen is not None:
                shadow[part] = seen
        if antialias:
            edges = np.flatnonzero(self._edges(rgb, triangle, height, width))
            total = np.minimum(rgb[:, edges], 1.2)
            for du, dv in _EXTRA_SAMPLES:
                for first in range(0, len(edges), _CHUNK):
                    part = slice(first, first + _CHUNK)
                    which = edges[part]
                    look = directions[:, which] + (right * np.float32(du) + down * np.float32(dv))
                    more, _ = self._shader.shade(origin, look, self.cast(origin, look), pixel, shadow[which])
                    total[:, part] += np.minimum(more, 1.2)
            rgb[:, edges] = total / np.float32(1 + len(_EXTRA_SAMPLES))
        instance = self.mesh.instance[triangle]
        return rgb.reshape(3, height, width), depth.reshape(height, width), instance.reshape(height, width)

    def _edges(self, rgb: np.ndarray, triangle: np.ndarray, height: int, width: int) -> np.ndarray:
        """Pixels [H * W] next to another surface or to another brightness."""
        grey = np.sqrt(rgb[1] + np.float32(0.5) * (rgb[0] + rgb[2])).reshape(height, width)
        surface = self._surface[triangle].reshape(height, width)
        edge = np.zeros((height, width), bool)
        beside = (surface[:, :-1] != surface[:, 1:]) | (np.abs(grey[:, :-1] - grey[:, 1:]) > _CONTRAST)
        edge[:, :-1] |= beside
        edge[:, 1:] |= beside
        below = (surface[:-1] != surface[1:]) | (np.abs(grey[:-1] - grey[1:]) > _CONTRAST)
        edge[:-1] |= below
        edge[1:] |= below
        return edge.ravel()
