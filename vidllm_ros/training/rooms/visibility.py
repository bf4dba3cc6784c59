"""What the frames of a sample show, and the scene frame that questions are asked in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.training.sample import Sample

#: An object counts as seen when it fills at least this share of some frame, and as unseen when no frame shows any of
#: it. In between it is only glimpsed: no question may depend on it.
SEEN_SHARE = 0.004


def scene_from_world(T_world_camera: np.ndarray) -> np.ndarray:  # noqa: N803
    """T_scene_world [4, 4] from the poses [S, 4, 4] or the first pose [4, 4] of a sample.

    The scene frame has z up, its origin at the first camera's centre, x along that camera's horizontal viewing
    direction (the way its picture's top points, when it looks straight down or up) and y to the left.
    """
    first = np.asarray(T_world_camera, np.float64).reshape(-1, 4, 4)[0]
    forward = first[:2, 2]
    if np.linalg.norm(forward) < 1e-3:
        forward = -first[:2, 1]
    c, s = forward / np.linalg.norm(forward)
    pose = np.eye(4)
    pose[:2, :2] = [[c, s], [-s, c]]
    pose[:3, 3] = -pose[:3, :3] @ first[:3, 3]
    return pose


def box_in_scene(box: Box3D, T_scene_world: np.ndarray) -> Box3D:  # noqa: N803
    """The same box in the scene frame."""
    turn = T_scene_world[:3, :3]
    return Box3D(turn @ box.center + T_scene_world[:3, 3], box.size, turn @ box.rotation, box.label, box.score)


def axis_aligned(box: Box3D) -> np.ndarray:
    """[6] centre and edge lengths, metres, of the box around ``box`` whose edges follow its holder's axes."""
    return np.concatenate([box.center, np.abs(box.rotation) @ box.size])


@dataclass(frozen=True, eq=False)
class Visibility:
    """How well each box of a sample is seen.

    Attributes:
        pixels: int [N, S] pixels of each box in each frame.
        seen: bool [N].
        glimpsed: bool [N], some pixels but too few to count as seen.
        centered: bool [N], seen in a frame that holds the projection of its centre: its place and size can be judged.
    """

    pixels: np.ndarray
    seen: np.ndarray
    glimpsed: np.ndarray
    centered: np.ndarray


def visibility(sample: Sample, seen_share: float = SEEN_SHARE) -> Visibility:
    """Count pixels and project centres."""
    number, (frames, height, width) = len(sample.boxes), sample.instances.shape
    pixels = np.zeros((number, frames), dtype=np.int64)
    for k in range(frames):
        ids = sample.instances[k]
        pixels[:, k] = np.bincount(ids[ids >= 0], minlength=number)[:number]
    least = max(4, round(seen_share * height * width))
    enough = pixels >= least
    centers = np.array([box.center for box in sample.boxes]).reshape(-1, 3)
    inside = np.zeros((number, frames), bool)
    for k in range(frames):
        pose = sample.T_world_camera[k]
        local = (centers - pose[:3, 3]) @ pose[:3, :3]
        image = local @ sample.intrinsics[k].T
        front = image[:, 2] > 0.1
        uv = image[:, :2] / np.where(front, image[:, 2], 1.0)[:, None]
        inside[:, k] = front & (uv >= 0).all(axis=1) & (uv < (width, height)).all(axis=1)
    seen = enough.any(axis=1)
    return Visibility(pixels, seen, (pixels.sum(axis=1) > 0) & ~seen, (enough & inside).any(axis=1))


def visible_boxes(sample: Sample, min_pixels: int = 40) -> tuple[int, ...]:
    """Indices of the boxes of which some frame shows at least ``min_pixels`` pixels."""
    pixels = visibility(sample).pixels
    return tuple(int(i) for i in np.flatnonzero(pixels.max(axis=1, initial=0) >= min_pixels))
