"""Windows with known geometry: a wall seen by cameras that move, and random ones."""

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.training.sample import Sample

H, W = 28, 42


def intrinsics(focal: tuple[float, float] = (30.0, 32.0)) -> np.ndarray:
    return np.array([[focal[0], 0, W / 2], [0, focal[1], H / 2], [0, 0, 1.0]])


def random_sample(frames: int = 3, seed: int = 0, unknown: float = 0.2) -> Sample:
    """Unrelated depths and poses with holes: arithmetic has to be right, the scene need not exist."""
    rng = np.random.default_rng(seed)
    T_world_camera = np.tile(np.eye(4), (frames, 1, 1))
    T_world_camera[:, :3, :3] = Rotation.random(frames, rng=rng).as_matrix()
    T_world_camera[:, :3, 3] = rng.normal(scale=2, size=(frames, 3))
    depth = rng.uniform(0.5, 5, size=(frames, H, W)).astype(np.float32)
    depth[rng.random(depth.shape) < unknown] = 0
    boxes = tuple(Box3D(rng.normal(size=3), np.ones(3), label=label) for label in ("chair", "table"))
    return Sample(
        name=f"random/{seed}",
        rgb=rng.integers(0, 256, size=(frames, H, W, 3), dtype=np.uint8),
        depth=depth,
        T_world_camera=T_world_camera,
        intrinsics=np.stack([intrinsics(tuple(focal)) for focal in rng.uniform(25, 50, size=(frames, 2))]),
        boxes=boxes,
        instances=rng.integers(-4, 2, size=(frames, H, W)).astype(np.int16),
        tasks=(),
        colors=("red", "green"),
    )


def wall_sample(shifts: list[float], distance: float = 3.0, seed: int = 0) -> Sample:
    """A wall at z = ``distance``; the cameras stand side by side, ``shifts`` metres right of the world's origin."""
    frames = len(shifts)
    T_world_camera = np.tile(np.eye(4), (frames, 1, 1))
    T_world_camera[:, 0, 3] = shifts
    return Sample(
        name=f"wall/{seed}",
        rgb=np.random.default_rng(seed).integers(0, 256, size=(frames, H, W, 3), dtype=np.uint8),
        depth=np.full((frames, H, W), distance, dtype=np.float32),
        T_world_camera=T_world_camera,
        intrinsics=np.tile(intrinsics(), (frames, 1, 1)),
        boxes=(),
        instances=np.full((frames, H, W), -1, dtype=np.int16),
        tasks=(),
    )
