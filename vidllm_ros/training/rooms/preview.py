"""Pictures of rooms for people: a contact sheet with frames, boxes and depth."""

from __future__ import annotations

import cv2
import numpy as np

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.training.rooms.generate import room_sample
from vidllm_ros.training.rooms.style import RoomStyle
from vidllm_ros.training.rooms.visibility import visible_boxes
from vidllm_ros.training.sample import Sample

_EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))
_NEAR = 0.1


def draw_box(
    image: np.ndarray, box: Box3D, pose: np.ndarray, intrinsics: np.ndarray, colour: tuple[int, int, int]
) -> None:
    """Draw the edges of a world box into an RGB image [H, W, 3], in place, and its label at the highest seen corner."""
    corners = (box.corners() - pose[:3, 3]) @ pose[:3, :3]
    height, width = image.shape[:2]
    tops = []
    for a, b in _EDGES:
        ends = corners[[a, b]]
        if (ends[:, 2] < _NEAR).all():
            continue
        for k in (0, 1):
            if ends[k, 2] < _NEAR:
                share = (_NEAR - ends[k, 2]) / (ends[1 - k, 2] - ends[k, 2])
                ends[k] += share * (ends[1 - k] - ends[k])
        uv = ends @ intrinsics.T
        start, stop = (np.clip(uv[:, :2] / uv[:, 2:], -1e4, 1e4).round().astype(int)).tolist()
        inside, start, stop = cv2.clipLine((0, 0, width, height), start, stop)
        if inside:
            cv2.line(image, start, stop, colour, 1, cv2.LINE_AA)
            tops += [start, stop]
    if tops:
        x, y = min(tops, key=lambda point: point[1])
        cv2.putText(
            image,
            box.label,
            (min(x, width - 60), max(y - 3, 10)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            colour,
            1,
            cv2.LINE_AA,
        )


def depth_picture(depth: np.ndarray, farthest: float = 6.0) -> np.ndarray:
    """Metres [H, W] as colours [H, W, 3], near is warm."""
    grey = (255 * (1 - np.clip(depth / farthest, 0, 1))).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[..., ::-1]


def _row(sample: Sample) -> np.ndarray:
    marked = sample.rgb[-1].copy()
    for index in visible_boxes(sample, min_pixels=sample.instances[0].size // 250):
        if (sample.instances[-1] == index).any():
            draw_box(marked, sample.boxes[index], sample.T_world_camera[-1], sample.intrinsics[-1], (255, 60, 200))
    return np.concatenate([*sample.rgb[:-1], marked, depth_picture(sample.depth[-1])], axis=1)


def contact_sheet(
    first_seed: int,
    rooms: int,
    split: str = "test",
    image_size: tuple[int, int] = (252, 336),
    style: str | RoomStyle = "robot",
) -> np.ndarray:
    """One row for each room: two frames, a third with the visible boxes, and its depth; uint8 RGB."""
    samples = [
        room_sample(seed, split, 3, image_size, style=style, stride=4, tasks=0)
        for seed in range(first_seed, first_seed + rooms)
    ]
    return np.concatenate([_row(sample) for sample in samples], axis=0)
