"""How fast procedural rooms are rendered; prints a table.

python benchmarks/rooms.py [--threads 1] [--rooms 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from tables import machine, peak_memory, table  # first: it finds the checkout

# isort: split
import torch

from vidllm_ros.training.rooms import room_sample, room_video

NANO, CAMERA = (84, 112), (480, 640)


def measured(make: Callable[[int], int], rooms: int) -> tuple[int, float]:
    """Frames and seconds of ``rooms`` different rooms; one more before them does not count."""
    make(rooms)
    started = time.perf_counter()
    frames = sum(make(seed) for seed in range(rooms))
    return frames, time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the rendering of procedural rooms.")
    parser.add_argument("--threads", type=int, default=1, help="cores for ray casting (default: %(default)s)")
    parser.add_argument("--rooms", type=int, default=5, help="rooms for each row (default: %(default)s)")
    arguments = parser.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)

    def sample(frames: int, tasks: int, style: str = "robot") -> Callable[[int], int]:
        return lambda seed: len(room_sample(seed, "train", frames, NANO, style=style, tasks=tasks, threads=threads).rgb)

    def video(frames: int) -> Callable[[int], int]:
        return lambda seed: sum(1 for _ in room_video(seed, "test", frames, CAMERA, threads=threads))

    cases = [
        ("window of 2 frames", NANO, sample(2, 0)),
        ("window of 12 frames", NANO, sample(12, 0)),
        ("window of 32 frames", NANO, sample(32, 0)),
        ("window of 32 frames, 12 questions", NANO, sample(32, 12)),
        ("window of 32 frames, varied style", NANO, sample(32, 0, "varied")),
        ("video of 12 frames", CAMERA, video(12)),
    ]
    rows = []
    for name, (height, width), make in cases:
        frames, seconds = measured(make, arguments.rooms)
        rate = frames / seconds
        rays = f"{rate * height * width / 1e6:.2f}"
        rows.append((name, f"{width} x {height}", f"{rate:.1f}", rays, f"{1000 * seconds / arguments.rooms:.0f}"))
    print(f"{machine()}\n{arguments.rooms} rooms for each row; peak memory {peak_memory()}\n")
    print(table("Rendering", ["what", "pixels", "frames/s", "Mrays/s", "ms/room"], rows))


if __name__ == "__main__":
    main()
