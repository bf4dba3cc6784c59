"""Render single views of rooms: ``python -m vidllm_ros.training.metric_depth.render --out DIR --shards N``.

Run again, it goes on where it was; several processes may share the work by ``--first`` and ``--every``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.training.metric_depth.frame_cache import CACHED_SIZE, Frames, shard_exists, write_shard
from vidllm_ros.training.metric_depth.room_views import ViewRange, draw_intrinsics, draw_pose, too_near
from vidllm_ros.training.rooms.furnished.light import SoftRenderer
from vidllm_ros.training.rooms.furnished.scene import Furnisher
from vidllm_ros.training.rooms.generate import random_stream
from vidllm_ros.training.rooms.layout import CELL, build_room
from vidllm_ros.training.rooms.renderer import Renderer
from vidllm_ros.training.rooms.shading import Exposure, develop
from vidllm_ros.training.rooms.style import WIDE

ROOMS_PER_SHARD, VIEWS_PER_ROOM = 32, 12

RoomViews = list[tuple[np.ndarray, np.ndarray, float]]
RoomRenderer = Callable[[int, str, int], RoomViews]


def plain_views(seed: int, split: str, count: int) -> RoomViews:
    """Views of one room of simple solids: rgb uint8 [H, W, 3], depth [H, W] and focal length in image widths each."""
    room = build_room(random_stream(split, seed, "room"), WIDE)
    rng = random_stream(split, seed, "camera")
    renderer, views, clearance = Renderer(room, shadows=bool(rng.random() < 0.7)), ViewRange(), room.clearance()
    shots: RoomViews = []
    while len(shots) < count:
        intrinsics, focal = draw_intrinsics(CACHED_SIZE, views, rng)
        pose = draw_pose(clearance, room.size[2], views, rng)
        linear, depth, _ = renderer.render(pose, intrinsics, CACHED_SIZE)
        if too_near(depth, views):
            continue
        exposure = Exposure(tuple(rng.uniform(1.0, 1.8) * rng.uniform(0.9, 1.1, 3)), float(rng.uniform(0.0, 0.3)), 0.0)
        shots.append((develop(linear, exposure, rng), depth, focal))
    return shots


def furnished_views(assets: Path) -> RoomRenderer:
    """The function that gives views of rooms furnished with the pieces in a folder."""
    furnisher, views = Furnisher(assets), ViewRange()

    def render(seed: int, split: str, count: int) -> RoomViews:
        scene = furnisher.draw(random_stream(split, seed, "room"))
        rng, renderer = random_stream(split, seed, "camera"), SoftRenderer(scene)
        clear = np.pad(scene.clear.astype(np.uint8), 1)
        clearance = cv2.distanceTransform(clear, cv2.DIST_L2, 5)[1:-1, 1:-1] * CELL
        shots: RoomViews = []
        for _ in range(4 * count):
            intrinsics, focal = draw_intrinsics(CACHED_SIZE, views, rng)
            pose = draw_pose(clearance, scene.size[2], views, rng)
            linear, depth = renderer.render(pose, intrinsics, CACHED_SIZE, rng)
            if too_near(depth, views):
                continue
            # Automatic exposure by the brighter parts, sometimes well off.
            gain = rng.uniform(0.3, 0.6) / max(float(np.quantile(linear, rng.uniform(0.6, 0.95))), 1e-3)
            exposure = Exposure(tuple(gain * rng.uniform(0.93, 1.07, 3)), float(rng.uniform(0.0, 0.3)), 0.0)
            shots.append((develop(linear, exposure, rng), depth, focal))
            if len(shots) == count:
                break
        return shots

    return render


def render_shard(views: RoomRenderer, split: str, index: int) -> Frames:
    """The frames of one shard; room seeds follow from its index."""
    shots = [
        shot
        for seed in range(index * ROOMS_PER_SHARD, (index + 1) * ROOMS_PER_SHARD)
        for shot in views(seed, split, VIEWS_PER_ROOM)
    ]
    rgb, depth, focal = zip(*shots, strict=True)
    return Frames(np.stack(rgb), np.stack(depth), np.array(focal))


def main() -> None:
    """Render the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--style", default="plain", choices=("plain", "furnished"), help="kind of rooms")
    parser.add_argument("--assets", type=Path, help="folder of fetched furniture and textures, for furnished rooms")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"), help="whose rooms never coincide")
    parser.add_argument("--shards", type=int, default=8, help=f"shards of {ROOMS_PER_SHARD} rooms in all")
    parser.add_argument("--first", type=int, default=0, help="first shard of this process")
    parser.add_argument("--every", type=int, default=1, help="this process takes every so many-th shard")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    views: RoomRenderer = plain_views
    if arguments.style == "furnished":
        if arguments.assets is None:
            parser.error("furnished rooms need --assets, the folder that rooms.furnished.assets filled")
        views = furnished_views(arguments.assets)
    for index in range(arguments.first, arguments.shards, arguments.every):
        if shard_exists(arguments.out, index):
            continue
        started = time.monotonic()
        frames = render_shard(views, arguments.split, index)
        write_shard(arguments.out, index, frames)
        print(f"shard {index}: {len(frames)} frames in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
