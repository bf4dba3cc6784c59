"""Single views of rooms from anywhere a person or robot may hold a camera, at any angle, through many lenses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.training.rooms.camera_path import camera_pose, intrinsic_matrix
from vidllm_ros.training.rooms.layout import CELL


@dataclass(frozen=True)
class ViewRange:
    """What cameras are drawn from. Metres and degrees.

    Attributes:
        height: of the camera above the floor.
        pitch: mean and standard deviation; positive looks up.
        steepest: limit of the pitch, either way.
        roll: standard deviation of the roll.
        horizontal_fov: smallest and largest field of view along the image's width.
        clearance: least distance on the floor plan to walls and to furniture.
        aimed: share of the cameras that look at a piece of furniture.
        nearest: a view in which a twentieth of the pixels is nearer than this is drawn again.
    """

    height: tuple[float, float] = (0.2, 2.2)
    pitch: tuple[float, float] = (-12.0, 20.0)
    steepest: float = 60.0
    roll: float = 5.0
    horizontal_fov: tuple[float, float] = (48.0, 100.0)
    clearance: float = 0.15
    aimed: float = 0.65
    nearest: float = 0.25


def draw_pose(clearance: np.ndarray, ceiling: float, views: ViewRange, rng: np.random.Generator) -> np.ndarray:
    """A camera pose T_world_camera [4, 4] in a free place.

    Args:
        clearance: [rows, columns] metres from each floor cell to the nearest furniture or wall.
        ceiling: metres.
        views: ranges.
        rng: draws.
    """
    free = np.flatnonzero(clearance > views.clearance)
    if len(free) == 0:
        free = np.array([int(clearance.argmax())])
    row, column = divmod(int(rng.choice(free)), clearance.shape[1])
    # Most pictures are taken by people who stand or sit: half of the heights lie around the eyes of one.
    low, high = views.height[0], min(views.height[1], ceiling - 0.15)
    height = rng.normal(1.4, 0.25) if rng.random() < 0.5 else rng.uniform(low, high)
    height = float(np.clip(height, low, high))
    position = np.array([(column + rng.random()) * CELL, (row + rng.random()) * CELL, height])
    roll = float(np.radians(rng.normal(0.0, views.roll)))
    yaw, pitch = rng.uniform(-np.pi, np.pi), rng.normal(*views.pitch)
    things = np.flatnonzero(clearance <= 0)
    if len(things) and rng.random() < views.aimed:
        # People film things, and from high up they look down.
        row, column = divmod(int(rng.choice(things)), clearance.shape[1])
        way = np.array([(column + 0.5) * CELL, (row + 0.5) * CELL, rng.uniform(0.0, 1.3)]) - position
        yaw = np.arctan2(way[1], way[0]) + rng.normal(0.0, 0.15)
        pitch = np.degrees(np.arctan2(way[2], np.hypot(way[0], way[1]))) + rng.normal(0.0, 8.0)
    pitch = float(np.clip(pitch, -views.steepest, views.steepest))
    return camera_pose(position, float(yaw), float(np.radians(pitch)), roll)


def draw_intrinsics(size: tuple[int, int], views: ViewRange, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A pinhole matrix [3, 3] for an (H, W) image, and its focal length in image widths.

    Focal lengths, not angles, are drawn evenly in their logarithm: depth goes with the focal length.
    """
    longest, shortest = (0.5 / np.tan(np.radians(fov) / 2) for fov in views.horizontal_fov)
    focal = float(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
    return intrinsic_matrix(size, float(np.degrees(2 * np.arctan(0.5 / focal)))), focal


def too_near(depth: np.ndarray, views: ViewRange) -> bool:
    """Whether something stands right before the camera."""
    return bool(np.quantile(depth, 0.05) < views.nearest)
