"""A synthetic room with exact geometry, and the real network with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import Frame, Reconstruction, Window

SIZE = (60, 80)
FRAME_STEP_NS = 250_000_000


@dataclass(frozen=True)
class Room:
    """An empty box room with cuboids, seen from the inside, and a camera path. World: z up, floor at z = 0, float64."""

    extent: tuple[float, float, float] = (6.0, 5.0, 2.6)
    boxes: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
        ((1.0, 3.2, 0.0), (2.2, 4.2, 0.8)),
        ((4.2, 1.0, 0.0), (5.0, 1.6, 1.9)),
        ((3.0, 4.0, 0.0), (3.6, 4.8, 1.2)),
    )

    @property
    def intrinsics(self) -> np.ndarray:
        return np.array([[62.0, 0, 39.5], [0, 61.0, 29.5], [0, 0, 1]])

    def camera(self, index: float) -> np.ndarray:
        """T_world_camera [4, 4] of a hand-held walk through the room, pitched down a little."""
        t = 0.05 * index
        position = np.array([3.0 + 1.2 * np.cos(t), 2.4 + 0.9 * np.sin(t), 1.4 + 0.05 * np.sin(3 * t)])
        level = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # optical axes of a camera that looks along x
        turn = Rotation.from_euler("ZYX", [t + 0.6, 0.25, 0.04 * np.sin(5 * t)]).as_matrix()
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn @ level, position
        return pose

    def depth(self, T_world_camera: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
        """Exact depth along the optical axis [H, W] by slab tests, float64."""
        v, u = np.mgrid[: size[0], : size[1]]
        rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(self.intrinsics).T
        rays = rays @ T_world_camera[:3, :3].T
        origin = T_world_camera[:3, 3]
        with np.errstate(divide="ignore"):
            inverse = 1.0 / rays
        depth = np.maximum((np.zeros(3) - origin) * inverse, (np.array(self.extent) - origin) * inverse).min(axis=1)
        for low, high in self.boxes:
            near, far = (np.array(low) - origin) * inverse, (np.array(high) - origin) * inverse
            enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
            hit = (enter < leave) & (enter > 0)
            depth = np.where(hit, np.minimum(depth, enter), depth)
        return depth.reshape(size)

    def world_points(self, T_world_camera: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
        """Exact points [H, W, 3] in world, worked out pixel by pixel."""
        depth = self.depth(T_world_camera, size)
        points = np.empty((*size, 3))
        (fx, _, cx), (_, fy, cy), _ = self.intrinsics
        for v in range(size[0]):
            for u in range(size[1]):
                d = depth[v, u]
                local = np.array([(u - cx) / fx * d, (v - cy) / fy * d, d])
                points[v, u] = T_world_camera[:3, :3] @ local + T_world_camera[:3, 3]
        return points

    def reconstruct(self, indices: list[float], scale: float = 1.0, spread: float = 0.02) -> Reconstruction:
        """What a perfect network would return for these cameras, all lengths multiplied by ``scale``."""
        poses = np.stack([self.camera(index) for index in indices])
        T_window_camera = np.linalg.inv(poses[0]) @ poses
        T_window_camera[:, :3, 3] *= scale
        depth = np.stack([self.depth(pose) for pose in poses]) * scale
        count = len(indices)
        return Reconstruction(
            stamps_ns=tuple(round(index * FRAME_STEP_NS) for index in indices),
            frame_ids=("camera",) * count,
            T_window_camera=T_window_camera,
            intrinsics=np.tile(self.intrinsics, (count, 1, 1)),
            depth=depth.astype(np.float32),
            confidence=np.full(depth.shape, 0.9, np.float32),
            rgb=np.full((*depth.shape, 3), 128, np.uint8),
            scale=1.0,
            scale_spread=spread,
            semantic_tokens=torch.zeros(count, 1, 1),
        )


def disturb(
    reconstruction: Reconstruction,
    seed: int,
    rotation: float = 0.0,
    translation: float = 0.0,
    depth: float = 0.0,
    outliers: float = 0.0,
) -> Reconstruction:
    """Noise: on camera rotations (degrees) and positions (metres), relative on depth, and a share of gross errors."""
    random = np.random.default_rng(seed)
    poses = reconstruction.T_window_camera.copy()
    turns = Rotation.from_rotvec(np.radians(rotation) * random.normal(size=(len(poses), 3))).as_matrix()
    poses[:, :3, :3] = poses[:, :3, :3] @ turns
    poses[:, :3, 3] += translation * random.normal(size=(len(poses), 3))
    metres = reconstruction.depth * (1 + depth * random.normal(size=reconstruction.depth.shape))
    wrong = random.random(metres.shape) < outliers
    metres = np.where(wrong, random.uniform(0.3, 8.0, metres.shape), metres)
    return replace(reconstruction, T_window_camera=poses, depth=np.maximum(metres, 0.05).astype(np.float32))


def make_frame(index: int, size: tuple[int, int] = (48, 64), stamp_ns: int | None = None, **values) -> Frame:
    """A textured frame that shows more of the same wall with every index."""
    random = np.random.default_rng(7)
    wall = random.integers(0, 255, (12, 4000), np.uint8).repeat(size[0] // 12 + 1, 0)[: size[0]]
    start = (5 * index) % 3800
    rgb = np.ascontiguousarray(np.repeat(wall[:, start : start + size[1], None], 3, 2))
    return Frame(rgb, index * FRAME_STEP_NS if stamp_ns is None else stamp_ns, **values)


@pytest.fixture(scope="session")
def room() -> Room:
    return Room()


@pytest.fixture(name="disturb")
def disturb_fixture():
    return disturb


@pytest.fixture(name="make_frame")
def make_frame_fixture():
    return make_frame


@pytest.fixture
def make_window():
    """A window of bare frames with the given camera indices; frames with the same index are the same object."""
    frames: dict[float, Frame] = {}

    def make(indices, shared=0) -> Window:
        for index in indices:
            frames.setdefault(index, Frame(np.zeros((60, 80, 3), np.uint8), round(index * FRAME_STEP_NS)))
        return Window(tuple(frames[index] for index in indices), shared)

    return make


SMALL_WINDOWS = {
    "window.size": 6,
    "window.stride": 3,
    "window.min_motion": 0.0,
    "window.history": 2,
    "cloud.min_confidence": 0.0,
    "query.max_new_tokens": 6,
    "detection.min_score": 0.0,
}


@pytest.fixture(scope="session")
def small_config():
    """Windows of 6 frames every 3, every point kept."""
    return PerceptionConfig().replace(SMALL_WINDOWS)


@pytest.fixture
def pipeline(model, small_config):
    return Pipeline(model, small_config)


@pytest.fixture
def run():
    """Feeds numbered frames to a pipeline and processes each window as it completes."""

    def feed(pipeline, numbers):
        results = []
        for number in numbers:
            window = pipeline.accept(make_frame(number))
            if window is not None:
                results.append(pipeline.process(window))
        return results

    return feed


@pytest.fixture(scope="session")
def model():
    """The whole network in its smallest size, with random weights."""
    from vidllm_ros.model import VidLLM
    from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
    from vidllm_ros.model.sizes import nano

    torch.manual_seed(0)
    return VidLLM(nano(), train_tokenizer(["How many chairs are in the room? There are 2 chairs."] * 20))
