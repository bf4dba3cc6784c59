"""What each size of the network holds: parameters, tokens and memory; prints the tables of docs/sizes.md.

python benchmarks/sizes.py [--frames 32]

Nothing is measured and no weight is made: the network's own code runs on the meta device, and every tensor that it
would hold is counted.
"""

from __future__ import annotations

import argparse

from tables import table  # first: it finds the checkout

# isort: split
import torch
from live_memory import peak_bytes
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vidllm_ros.model import VidLLM, VidLLMConfig
from vidllm_ros.model.checkpoint import weightless
from vidllm_ros.model.reasoning.tokenizer import CONVERSATION_MARKS, train_tokenizer
from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.model.sizes import SIZES

GIGABYTE = 1e9
MEMORY = {
    "weights": "weights",
    "features": "features of all frames",
    "encode": "+ encode a frame",
    "relate": "+ adapter, backbone, camera head",
    "depth": "+ depth head",
    "metric": "+ metric depth",
    "peak": "**geometry, peak**",
}
PARTS = ("encoder", "adapter", "backbone", "camera_head", "depth_head", "metric_depth")


def network_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of a thousand tokens; only its length matters, where no vocabulary size is given."""
    texts = [f"{a}{b}{c} " for a in "abcdefghij" for b in "klmnopqrst" for c in CONVERSATION_MARKS]
    return train_tokenizer(texts * 2, 1000)


def network(config: VidLLMConfig) -> VidLLM:
    """The whole network without a single weight."""
    with weightless():
        return VidLLM(config, network_tokenizer())


def millions(module: nn.Module | None) -> str:
    """Parameters, tied ones once."""
    return "-" if module is None else f"{sum(p.numel() for p in module.parameters()) / 1e6:,.1f}"


def parameter_rows(models: list[VidLLM]) -> list[list[str]]:
    """Parameters of each part in millions."""
    rows = [[part.replace("_", " "), *(millions(getattr(m.reconstruction, part)) for m in models)] for part in PARTS]
    rows.append(["**geometry**", *(millions(m.reconstruction) for m in models)])
    rows.append(["3D patches", *(millions(m.patches) for m in models)])
    rows.append(["language model", *(millions(m.language) for m in models)])
    rows.append(["grounding", *(millions(m.grounding) for m in models)])
    return [*rows, ["**everything**", *(millions(m) for m in models)]]


def token_rows(configs: list[VidLLMConfig], frames: int) -> list[list[str]]:
    """Pixels, patches and tokens of a window."""
    grids = [(c.image_size[0] // c.patch_size, c.image_size[1] // c.patch_size) for c in configs]
    patches = [rows * columns for rows, columns in grids]
    special = [1 + c.backbone.registers for c in configs]
    scenes = [c.patches for c in configs]
    return [
        ["image, pixels", *(f"{c.image_size[1]} x {c.image_size[0]}" for c in configs)],
        ["patches of a frame", *(f"{g[1]} x {g[0]} = {n:,}" for g, n in zip(grids, patches, strict=True))],
        [f"patches of {frames} frames", *(f"{frames * n:,}" for n in patches)],
        ["tokens in global attention", *(f"{frames * (n + k):,}" for n, k in zip(patches, special, strict=True))],
        ["3D tokens for grounding, at most", *(f"{p.max_tokens:,}" if p else "-" for p in scenes)],
        ["of them for the language model", *(f"{p.language_tokens:,}" if p else "-" for p in scenes)],
    ]


def geometry_memory(config: VidLLMConfig, frames: int, dtype: torch.dtype, encode_at_once: int = 1) -> dict[str, float]:
    """Gigabytes that the geometry branch holds on a GPU for one window: weights, and the most of each step.

    Args:
        config: the size.
        frames: of the window.
        dtype: of encoder, adapter and backbone; the heads are float32.
        encode_at_once: frames that are encoded together; the node encodes each as it arrives.
    """
    with torch.device("meta"):
        model = ReconstructionModel(config).eval()
    model.set_precision(dtype)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    size, patch = config.image_size, config.patch_size
    grid = (size[0] // patch, size[1] // patch)
    images = torch.empty(encode_at_once, 3, *size, device="meta")
    layers = len(config.encoder.feature_layers)
    features = torch.empty(1, frames, layers, grid[0] * grid[1], config.encoder.dim, dtype=dtype, device="meta")
    related: list[tuple[list[Tensor], Tensor]] = []

    def relate() -> None:
        geometry, semantic = model.adapter(features[:, :, -1])
        outputs = model.backbone(geometry, grid)
        model.camera_head(outputs[-1][:, :, 0].float())
        related.append((outputs, semantic))

    before = {"weights": weights, "features": features.nbytes}
    steps = {
        "encode": peak_bytes(lambda: model.encode(images)),
        "relate": peak_bytes(relate),
    }
    outputs, semantic = related[0]
    held = semantic.nbytes + sum(output.nbytes for output in outputs)
    patches = [output[:, :, model.backbone.special_tokens :] for output in outputs]
    steps["depth"] = held + peak_bytes(lambda: model.depth_head(patches, grid, size))
    maps = 2 * frames * size[0] * size[1] * 4  # relative depth and confidence
    if model.metric_depth is not None:
        metric = model.metric_depth
        steps["metric"] = held + maps + peak_bytes(lambda: metric(features, grid, size))
    peak = sum(before.values()) + max(steps.values())
    return {name: value / GIGABYTE for name, value in {**before, **steps, "peak": peak}.items()}


def language_memory(model: VidLLM) -> dict[str, float]:
    """Gigabytes of the language model in bfloat16: its weights, and the cache of the largest scene that it reads."""
    llm = model.language.llm.config
    head = getattr(llm, "head_dim", None) or llm.hidden_size // llm.num_attention_heads
    tokens = model.patches.config.language_tokens
    cache = 2 * llm.num_hidden_layers * llm.num_key_value_heads * head * tokens * 2
    weights = 2 * sum(p.numel() for p in model.language.parameters())
    return {"language model": weights / GIGABYTE, "scene that it has read": cache / GIGABYTE}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Parameters, tokens and memory of each size.")
    parser.add_argument("--frames", type=int, default=32, help="frames of a window (default: %(default)s)")
    frames = parser.parse_args().frames
    print(tables(frames))


def tables(frames: int = 32) -> str:
    """The three tables of docs/sizes.md."""
    configs = [make() for make in SIZES.values()]
    models = [network(config) for config in configs]
    names = list(SIZES)
    memory = [geometry_memory(config, frames, torch.bfloat16) for config in configs]
    rows = [[MEMORY[step], *(f"{figures[step]:.2f}" for figures in memory)] for step in memory[0]]
    reading = [language_memory(model) for model in models]
    rows += [[step, *(f"{figures[step]:.2f}" for figures in reading)] for step in reading[0]]
    title = f"Gigabytes on a GPU for a window of {frames} frames; encoder, adapter, backbone and language in bfloat16"
    return "\n".join(
        [
            table("Millions of parameters", ["", *names], parameter_rows(models)),
            table(f"A window of {frames} frames", ["", *names], token_rows(configs, frames)),
            table(title, ["", *names], rows),
        ]
    )


if __name__ == "__main__":
    main()
