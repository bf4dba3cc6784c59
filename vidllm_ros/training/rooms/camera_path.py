"""Smooth, collision-free camera paths through a room."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from vidllm_ros.training.rooms.layout import CELL, Room
from vidllm_ros.training.rooms.style import RoomStyle

#: Metres and degrees between successive frames at the nominal rate.
NOMINAL_RATE_HZ = 4.0
STEP_METRES = (0.02, 0.12)
STEP_DEGREES = (1.0, 6.0)

_CLEARANCES = (0.5, 0.4, 0.3)
_POINT_SPACING = 0.02


def intrinsic_matrix(image_size: tuple[int, int], horizontal_fov: float) -> np.ndarray:
    """Pinhole matrix [3, 3] of an (H, W) image with square pixels and a horizontal field of view in degrees.

    A pixel's ray goes through its integer coordinates (u, v), and the principal point is (W / 2, H / 2): the
    convention of VGGT's unprojection, without a half-pixel shift.
    """
    height, width = image_size
    focal = width / 2 / np.tan(np.radians(horizontal_fov) / 2)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def camera_pose(position: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """T_world_camera [4, 4] of an optical camera (x right, y down, z forward); radians, positive pitch looks up."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    forward = np.array([cy * cp, sy * cp, sp])
    right0, down0 = np.array([sy, -cy, 0.0]), np.array([cy * sp, sy * sp, -cp])
    pose = np.eye(4)
    pose[:3, 0] = cr * right0 + sr * down0
    pose[:3, 1] = -sr * right0 + cr * down0
    pose[:3, 2] = forward
    pose[:3, 3] = position
    return pose


class _FreeSpace:
    """Where the camera may be: the largest connected area that keeps its distance from everything."""

    def __init__(self, room: Room) -> None:
        self.clearance = room.clearance()
        for self.limit in _CLEARANCES:
            wide = (self.clearance > self.limit).astype(np.uint8)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(wide, connectivity=4)
            if len(stats) > 1:
                largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
                self.allowed = labels == largest
                if stats[largest, cv2.CC_STAT_AREA] * CELL * CELL > 1.0 or self.limit == _CLEARANCES[-1]:
                    break
        else:
            raise RuntimeError("the room has no free space for a camera; this seed's layout is broken")
        rows, columns = np.nonzero(self.allowed)
        self.cells = np.stack([columns + 0.5, rows + 0.5], axis=1) * CELL

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether each point [..., 2] lies in the allowed area."""
        rows, columns = self.allowed.shape
        i = np.clip((points[..., 1] / CELL).astype(int), 0, rows - 1)
        j = np.clip((points[..., 0] / CELL).astype(int), 0, columns - 1)
        return np.asarray(self.allowed[i, j])

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random allowed points [count, 2]."""
        return self.cells[rng.integers(len(self.cells), size=count)] + rng.uniform(-0.4, 0.4, (count, 2)) * CELL

    def reachable(self, start: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Whether the straight way from ``start`` [2] to each of ``ends`` [N, 2] stays in the allowed area."""
        steps = np.linspace(0.0, 1.0, 60)[:, None, None]
        return np.asarray(self.contains(start + steps * (ends - start)).all(axis=0))


def _walk(space: _FreeSpace, length: float, rng: np.random.Generator) -> np.ndarray:
    """Points [N, 2] every 2 cm along a smooth walk of at least ``length`` metres."""
    corners, total = [space.random(rng, 1)[0]], 0.0
    while total < length:
        ends = space.random(rng, 24)
        distance = np.linalg.norm(ends - corners[-1], axis=1)
        good = space.reachable(corners[-1], ends) & (distance > 0.1)
        if not good.any():
            # A dead end: the walk turns back.
            ends, distance, good = np.array(corners[-2:-1] or corners), np.ones(1), np.ones(1, bool)
            distance = np.maximum(np.linalg.norm(ends - corners[-1], axis=1), 0.05)
        pick = np.flatnonzero(good)[int(np.argmin(np.abs(distance[good] - rng.uniform(0.8, 3.0))))]
        corners.append(ends[pick])
        total += float(distance[pick])
    points = np.array(corners)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    dense = np.append(np.arange(0.0, arc[-1], _POINT_SPACING), arc[-1])
    line = np.stack([np.interp(dense, arc, points[:, k]) for k in (0, 1)], axis=1)
    for sigma in (12.0, 6.0, 3.0):
        smooth = gaussian_filter1d(line, sigma, axis=0, mode="nearest")
        if space.contains(smooth).all():
            return smooth
    return line


def _wander(rng: np.random.Generator, count: int, period: float, low: float, high: float) -> np.ndarray:
    """A smooth random signal [count] between two limits, changing over about ``period`` frames."""
    knots = rng.uniform(low, high, int(np.ceil(count / period)) + 4)
    noise = np.interp(rng.uniform(0, 1) + np.arange(count) / period, np.arange(len(knots)), knots)
    return gaussian_filter1d(noise, period / 4, mode="nearest") if count > 2 else noise


def _sight(x: float, y: float, yaw: float, size: tuple[float, float, float]) -> float:
    """Metres from a point to the wall in a direction."""
    c, s = np.cos(yaw), np.sin(yaw)
    along_x = ((size[0] - x) / c if c > 0 else -x / c) if abs(c) > 1e-6 else np.inf
    along_y = ((size[1] - y) / s if s > 0 else -y / s) if abs(s) > 1e-6 else np.inf
    return float(min(along_x, along_y))


def _interest(x: float, y: float, yaw: float, room: Room, centers: np.ndarray) -> float:
    """How much furniture lies in a direction, from 0; less when a wall is close."""
    way = centers - (x, y)
    distance = np.hypot(way[:, 0], way[:, 1])
    ahead = (way @ (np.cos(yaw), np.sin(yaw))) / np.maximum(distance, 0.1)
    seen = float(np.count_nonzero((ahead > 0.87) & (distance > 0.7) & (distance < 5.0)))
    return seen * min(1.0, _sight(x, y, yaw, room.size) / 1.7)


def _headings(positions: np.ndarray, room: Room, rng: np.random.Generator, scale: float) -> np.ndarray:
    """A yaw [N] that looks around: slowly over furniture, fast past bare walls, mostly back when nothing is left."""
    count = len(positions)
    centers = np.array([thing.box.center[:2] for thing in room.objects]).reshape(-1, 2)
    options = rng.uniform(-np.pi, np.pi, 8)
    appeal = np.array([_interest(positions[0, 0], positions[0, 1], yaw, room, centers) for yaw in options]) + 0.05
    yaw = float(rng.choice(options, p=appeal / appeal.sum()))
    rate = np.radians(_wander(rng, count, 6.0 / scale, *STEP_DEGREES)) * scale
    fastest = np.radians(STEP_DEGREES[1]) * scale
    sign = 1.0 if rng.random() < 0.5 else -1.0
    yaws = np.empty(count)
    turn = sign * rate[0]
    flips, bounces = rng.random(count) < 0.03 * scale, rng.random(count) < 0.6
    was_dull = False
    for k in range(count):
        yaws[k] = yaw
        x, y = positions[k]
        here = _interest(x, y, yaw, room, centers)
        dull = here < 0.8
        if dull and not was_dull and bounces[k]:
            left, right = (_interest(x, y, yaw + side * 0.7, room, centers) for side in (1, -1))
            sign = 1.0 if left > right else -1.0
        elif flips[k] and not dull:
            sign = -sign
        was_dull = dull
        wanted = sign * (fastest if dull else rate[k])
        # Half of the change per frame: the turning rate itself stays smooth.
        turn += (wanted - turn) * min(1.0, 0.5 * scale)
        yaw += turn
    return yaws


def camera_path(
    room: Room, style: RoomStyle, frames: int, rng: np.random.Generator, rate_hz: float = NOMINAL_RATE_HZ
) -> np.ndarray:
    """Draw a camera path, T_world_camera float64 [frames, 4, 4].

    At the nominal rate of 4 Hz successive frames lie 0.02 to 0.12 m and about 1 to 6 degrees apart; another rate
    scales both. On the floor plan the camera stays 0.5 m away from furniture and walls; in crowded rooms 0.3 m.
    """
    scale = NOMINAL_RATE_HZ / rate_hz
    space = _FreeSpace(room)
    speed = _wander(rng, frames, 8.0 / scale, *STEP_METRES) * scale
    travelled = np.concatenate([[0.0], np.cumsum(speed[:-1])])
    # Smoothing cuts corners, so the walk is drawn longer than needed.
    walk = _walk(space, 1.3 * float(travelled[-1]) + 0.3, rng)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(walk, axis=0), axis=1))])
    travelled *= min(1.0, float(arc[-1]) / max(float(travelled[-1]), 1e-6))
    flat = np.stack([np.interp(travelled, arc, walk[:, k]) for k in (0, 1)], axis=1)

    height = rng.uniform(*style.camera_height) + _wander(rng, frames, 4.0 / scale, -style.height_bob, style.height_bob)
    pitch = rng.uniform(*style.pitch) + _wander(rng, frames, 5.0 / scale, -style.pitch_wander, style.pitch_wander)
    roll = _wander(rng, frames, 5.0 / scale, -style.roll, style.roll)
    yaws = _headings(flat, room, rng, scale)
    shake = rng.normal(0.0, 0.004, (frames, 2))
    poses = [
        camera_pose(np.array([*(flat[k] + shake[k]), height[k]]), yaws[k], np.radians(pitch[k]), np.radians(roll[k]))
        for k in range(frames)
    ]
    return np.stack(poses)
