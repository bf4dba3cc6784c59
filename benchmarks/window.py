"""One window through the whole network, step by step, and what caching saves; prints tables.

python benchmarks/window.py [--checkpoint DIR] [--threads 2] [--device cpu] [--repeats 3]
"""

from __future__ import annotations

import argparse
import sys

from tables import clock, machine, peak_memory, table, timed  # first: it finds the checkout

# isort: split
import torch
from torch import Tensor, nn

from vidllm_ros.model import CheckpointError, VidLLM
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reconstruction.scale import align_scale
from vidllm_ros.perception.adjustment.refine import refine
from vidllm_ros.perception.adjustment.tracks import Tracks
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.geometry.reconstruct import from_geometry
from vidllm_ros.perception.types import Frame, Window
from vidllm_ros.training.rooms import room_sample

CHECKPOINT = "vidllm_ros/checkpoints/nano"
QUESTION = "Describe the room."
LABELS = ["chair", "table", "sofa", "bed"]


def frames_of_a_room(count: int, image_size: tuple[int, int]) -> Tensor:
    """Frames of a held-out room, float32 [count, 3, H, W]."""
    sample = room_sample(0, "test", count, image_size, tasks=0)
    return torch.from_numpy(sample.rgb).permute(0, 3, 1, 2).float() / 255


class Stopwatch:
    """Seconds spent inside modules, by name, while they run as parts of something larger."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_pre_hook(lambda *_, name=name: self.seconds[name].append(-clock()))
            module.register_forward_hook(lambda *_, name=name: self._stop(name))

    def _stop(self, name: str) -> None:
        self.seconds[name][-1] += clock()

    def median(self, name: str) -> float:
        """The middle one of all runs but the first."""
        runs = sorted(self.seconds[name][1:])
        return runs[len(runs) // 2]


def reconstruction_rows(model: VidLLM, images: Tensor, repeats: int) -> tuple[list[tuple[str, float]], Tensor]:
    """Seconds of the reconstruction's steps, and the features they start from."""
    network = model.reconstruction
    heads = {"camera head": network.camera_head, "depth head": network.depth_head}
    if network.metric_depth is not None:
        heads["metric depth"] = network.metric_depth
    watch = Stopwatch({"adapter": network.adapter, "backbone": network.backbone} | heads)
    encode, features = timed(lambda: model.encode(images), repeats)
    image_size = (images.shape[-2], images.shape[-1])
    whole, out = timed(lambda: model.reconstruct(tokens=features[None], image_size=image_size), repeats)
    with torch.inference_mode():
        depths = (out.relative_depth, out.metric_depth, out.confidence)
        scale, _ = timed(lambda: align_scale(*depths, model.config.scale), repeats)
    steps = [(name, watch.median(name)) for name in watch.seconds]
    return [
        ("encode", encode),
        *steps,
        ("scale alignment", scale),
        ("encode and reconstruct", encode + whole),
    ], features


def adjustment_rows(model: VidLLM, images: Tensor, repeats: int) -> list[tuple[str, float]]:
    """Seconds of following points, and of the bundle adjustment."""
    config = PerceptionConfig()
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    frames = tuple(Frame(rgb, index) for index, rgb in enumerate(pixels))
    given = from_geometry(model.reconstruct(images[None]), Window(frames), pixels, config.camera)
    follow, tracks = timed(lambda: Tracks().find(frames, config.refine), repeats)
    adjust, _ = timed(lambda: refine(given, tracks), repeats)
    return [("points followed", follow), (f"bundle adjustment ({len(tracks.point)} sightings)", adjust)]


def reading_rows(model: VidLLM, features: Tensor, image_size: tuple[int, int], repeats: int) -> list[tuple[str, float]]:
    """Seconds of the way from a reconstruction to an answer and to boxes."""
    geometry = model.reconstruct(tokens=features[None], image_size=image_size)
    build, scene = timed(lambda: model.build_scene(geometry), repeats)
    read, prefix = timed(lambda: model.read_scene(scene), repeats)
    ask, answer = timed(lambda: model.ask(prefix, QUESTION, max_new_tokens=32), repeats)
    locate, _ = timed(lambda: model.locate(prefix, LABELS), repeats)
    tokens = max(answer.token_count, 1)
    return [
        (f"scene tokens ({len(scene.positions)})", build),
        ("scene prefill", read),
        (f"answer ({answer.token_count} tokens)", ask),
        ("32 answer tokens at that pace", 32 * ask / tokens),
        (f"locate ({len(LABELS)} labels)", locate),
    ]


def reuse_rows(model: VidLLM, images: Tensor, stride: int, repeats: int) -> list[tuple[str, float, float]]:
    """(what, seconds the first time, seconds the second time)."""
    image_size = (images.shape[-2], images.shape[-1])
    size = len(images) - stride

    def seen(new: Tensor) -> list[Tensor]:
        tokens = model.encode(new)
        depth = model.measure(tokens)
        return [tokens] if depth is None else [tokens, depth]

    def window(features: list[Tensor]) -> GeometryOutput:
        tokens, *depth = (part[None] for part in features)
        return model.reconstruct(tokens=tokens, metric_depth=depth[0] if depth else None, image_size=image_size)

    def slid() -> list[Tensor]:
        return [torch.cat(parts) for parts in zip((part[stride:] for part in kept), seen(images[size:]), strict=True)]

    kept = seen(images[:size])
    first_window, _ = timed(lambda: window(seen(images[:size])), repeats)
    second_window, _ = timed(lambda: window(slid()), repeats)
    third_window, geometry = timed(lambda: window(kept), repeats)
    scene = model.build_scene(geometry)
    first, prefix = timed(lambda: _read_and_ask(model, scene), repeats)
    second, _ = timed(lambda: model.ask(prefix, QUESTION, max_new_tokens=32), repeats)
    return [
        (f"window, {stride} of {size} frames new", first_window, second_window),
        ("window, its frames prepared as they came", first_window, third_window),
        ("question", first, second),
    ]


def _read_and_ask(model: VidLLM, scene: object) -> object:
    prefix = model.read_scene(scene)
    model.ask(prefix, QUESTION, max_new_tokens=32)
    return prefix


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time one window of the network step by step.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="checkpoint folder (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs whose median counts (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        model = VidLLM.from_pretrained(arguments.checkpoint, arguments.device)
    except CheckpointError as error:
        sys.exit(str(error))
    size, stride = model.config.window_size, PerceptionConfig().window.stride
    images = frames_of_a_room(size + stride, model.config.image_size).to(arguments.device)
    steps, features = reconstruction_rows(model, images[:size], arguments.repeats)
    steps += adjustment_rows(model, images[:size], arguments.repeats)
    steps += reading_rows(model, features, model.config.image_size, arguments.repeats)
    reuse = reuse_rows(model, images, stride, arguments.repeats)
    height, width = model.config.image_size
    print(f"{machine()}\n{model.config.name}: {size} frames of {width} x {height}; peak memory {peak_memory()}\n")
    print(table("One window", ["step", "ms"], [(name, f"{1000 * s:.1f}") for name, s in steps]))
    rows = [(name, f"{1000 * a:.1f}", f"{1000 * b:.1f}", f"{b / a:.2f}") for name, a, b in reuse]
    print(table("What is reused", ["", "first ms", "second ms", "second / first"], rows))


if __name__ == "__main__":
    main()
