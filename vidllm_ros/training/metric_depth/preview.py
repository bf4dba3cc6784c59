"""A picture of what the depth model learns from: ``python -m vidllm_ros.training.metric_depth.preview --out FILE.png``.

Rendered frames on the left, real ones on the right, each beside its depth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.training.metric_depth.frame_cache import Frames, read_shards
from vidllm_ros.training.metric_depth.real_frames import join, training_clips
from vidllm_ros.training.rooms.preview import depth_picture


def column(frames: Frames, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Random frames below each other, each beside its depth (near is warm, unknown black), uint8 RGB."""
    parts = []
    for index in np.sort(rng.choice(len(frames), rows, replace=len(frames) < rows)):
        depth = frames.depth[index].astype(np.float32)
        coloured = np.where((depth > 0)[..., None], depth_picture(depth), 0)
        parts.append(np.concatenate([frames.rgb[index], coloured], axis=1))
    return np.concatenate(parts).astype(np.uint8)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rooms", type=Path, nargs="+", required=True, help="caches of rendered rooms")
    parser.add_argument("--real", type=Path, help="folder of small clips with depth")
    parser.add_argument("--rows", type=int, default=8, help="frames of each source")
    parser.add_argument("--seed", type=int, default=0, help="which frames")
    parser.add_argument("--out", type=Path, required=True, help="PNG or JPEG file")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    columns = [column(join(read_shards(folder)[:8]), arguments.rows, rng) for folder in arguments.rooms]
    if arguments.real:
        columns.append(column(join(list(training_clips(arguments.real).values())), arguments.rows, rng))
    if not cv2.imwrite(str(arguments.out), np.concatenate(columns, axis=1)[..., ::-1]):
        raise OSError(f"{arguments.out} cannot be written")


if __name__ == "__main__":
    main()
