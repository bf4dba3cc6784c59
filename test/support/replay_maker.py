"""A replay of a made-up room, for tests of scores and the report."""

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.metrics.trajectory import Similarity
from vidllm_ros.evaluation.recordings.truth import GroundTruth
from vidllm_ros.evaluation.results import AskedQuestion, Replay, SeenFrame
from vidllm_ros.model.outputs import Box3D

WORLD_FROM_MAP = Similarity(Rotation.from_euler("z", 0.7).as_matrix(), np.array([3.0, -2.0, 1.2]))
CHAIR = Box3D(
    np.array([2.0, 0.5, -0.8]), np.array([0.5, 0.5, 0.9]), Rotation.from_euler("z", 0.3).as_matrix(), "chair", 0.9
)


def camera_path(count: int = 12) -> np.ndarray:
    """Level cameras on an arc, T_map_camera [K, 4, 4]; optical axes, the map is z up."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for k, angle in enumerate(np.linspace(0, 1.0, count)):
        forward = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([np.sin(angle), -np.cos(angle), 0.0])
        poses[k, :3, :3] = np.stack([right, [0, 0, -1], forward], axis=1)
        poses[k, :3, 3] = np.array([np.sin(angle), 1 - np.cos(angle), 0.1 * angle**2])
    return poses


def window(window_id: int, **changes) -> dict:
    row = {
        "window_id": window_id,
        "status": "stitched" if window_id else "first",
        "reason": "",
        "frame_count": 8,
        "shared_frames": 4 if window_id else 0,
        "scale": 1.1,
        "scale_spread": 0.02,
        "scale_ratio": 1.0,
        "scale_source": "metric",
        "gravity_source": "floor",
        "point_count": 500,
        "used_frames": 8 + 4 * window_id,
        "encode_time": 0.1,
        "reconstruct_time": 0.4 + 0.1 * window_id,
        "fuse_time": 0.05,
        "locate_time": 0.02,
        "publish_time": 0.01,
    }
    return {**row, **changes}


def replay(**changes) -> Replay:
    rng = np.random.default_rng(0)
    poses = camera_path()
    values = {
        "recording": {"name": "made up", "topic": "/image", "frames": 12, "size": "8 x 6", "duration": 3.0},
        "settings": {"model": "nano", "command": "vidllm replay made_up", "machine": "two cores"},
        "stamps_ns": np.arange(12) * 250_000_000,
        "T_map_camera": poses,
        "points": rng.uniform([-1, -2, -1.3], [4, 2, 1.3], (500, 3)).astype(np.float32),
        "colors": rng.integers(0, 255, (500, 3), dtype=np.uint8),
        "boxes": (CHAIR,),
        "asked": (AskedQuestion("How many chairs are there?", "one", 0.8, window_id=1, latency=0.2),),
        "windows": (window(0), window(1)),
        "frames": (
            SeenFrame(0, np.full((48, 64, 3), 90, np.uint8)),
            SeenFrame(250_000_000, np.full((48, 64, 3), 120, np.uint8)),
        ),
        "depth": {0: np.full((6, 8), 2.2, np.float32)},
        "published": 12,
        "used_frames": 12,
        "wall_time": 4.2,
    }
    return Replay(**{**values, **changes})


def truth(**changes) -> GroundTruth:
    moved = Box3D(
        WORLD_FROM_MAP.points(CHAIR.center), CHAIR.size, WORLD_FROM_MAP.rotation @ CHAIR.rotation, CHAIR.label
    )
    values = {
        "sources": {"trajectory": "a file", "boxes": "another"},
        "stamps_ns": np.arange(12) * 250_000_000 + 1_000_000,
        "T_world_camera": WORLD_FROM_MAP.poses(camera_path()),
        "boxes": (moved, Box3D(np.array([9.0, 9.0, 0.5]), np.ones(3), label="table")),
        "answers": {"How many chairs are there?": ("1",), "Never asked?": ("no",)},
        "depth": {0: lambda: np.full((48, 64), 2.0, np.float32)},
    }
    return GroundTruth(**{**values, **changes})
