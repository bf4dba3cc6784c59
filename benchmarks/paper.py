"""A whole window at any size with random weights, step by step, beside the paper's seconds for a scene; prints a table.

python benchmarks/paper.py [--size large] [--device cuda] [--dtype bfloat16] [--frames 32]

Speed and memory do not depend on what the weights are, so none are needed. Without a GPU, `large` is not for the
patient: try `--size nano --device cpu --dtype float32`.
"""

from __future__ import annotations

import argparse

from tables import machine, peak_memory, table  # first: it finds the checkout

# isort: split
import torch
from sizes import network_tokenizer
from window import reading_rows, reconstruction_rows

from vidllm_ros.model import VidLLM
from vidllm_ros.model.checkpoint import DTYPES
from vidllm_ros.model.sizes import SIZES

PAPER_SECONDS = 1.6  # Vid-LLM, Table 5: a scene; its hardware is not stated


def random_network(size: str, device: str, dtype: str) -> VidLLM:
    """A network with random weights, made where it will run."""
    torch.manual_seed(0)
    with torch.device(device):
        model = VidLLM(SIZES[size](), network_tokenizer())
    model = model.to(device)
    model.set_precision(DTYPES[dtype])
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time one window of a size with random weights.")
    parser.add_argument("--size", choices=SIZES, default="large", help="(default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=32, help="of the window (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs whose median counts (default: %(default)s)")
    arguments = parser.parse_args()
    model = random_network(arguments.size, arguments.device, arguments.dtype)
    height, width = model.config.image_size
    images = torch.rand(arguments.frames, 3, height, width).to(arguments.device)
    steps, features = reconstruction_rows(model, images, arguments.repeats)
    memory = peak_memory()
    reading = reading_rows(model, features, model.config.image_size, arguments.repeats)
    seconds = dict(steps + reading)
    once = seconds["encode and reconstruct"] + sum(
        value for name, value in reading if name.startswith(("scene", "32 answer"))
    )
    rows = [(name, f"{1000 * value:.1f}") for name, value in [*steps, *reading]]
    rows.append(("**images to 32 answer tokens**", f"{1000 * once:.1f}"))
    rows.append(("the paper, on unstated hardware", f"{1000 * PAPER_SECONDS:.1f}"))
    print(f"{machine()}\n{arguments.size} in {arguments.dtype}: {arguments.frames} frames of {width} x {height}")
    print(f"peak memory of the reconstruction {memory}, of everything {peak_memory()}\n")
    print(table("One window, random weights", ["step", "ms"], rows))


if __name__ == "__main__":
    main()
