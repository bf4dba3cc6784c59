"""What a step of stage 2 costs at a size: memory and arithmetic of one window on each GPU, computed; prints a table.

python benchmarks/training.py [--size large] [--frames 32] [--gpus 8] [--text 1500]

No weight is made: forward and backward pass run on the meta device as config/accelerate_fsdp.yaml has them run, in
bfloat16 and with blocks computed again in the backward pass. Tensors that are alive at once and multiplications are
added up.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tables import table  # first: it finds the checkout

# isort: split
import torch
import torch.nn.functional as F
from live_memory import LiveBytes
from sizes import GIGABYTE, network
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vidllm_ros.model import VidLLM
from vidllm_ros.model.sizes import SIZES

BLOCKS = ("Dinov2WithRegistersLayer", "Block", "Qwen2DecoderLayer", "DPTDecoder")
UTILISATION = 0.4
# Dense peak rates in 1e12 operations a second, of the makers' data sheets: bfloat16, and TF32 for the float32 heads.
PEAKS = {"A100": (312.0, 156.0), "H100 SXM": (989.0, 494.0)}


class FusedAttention(torch.autograd.Function):
    """Shapes of a fused attention kernel: it keeps inputs, output and one float32 per query and head."""

    operations = 0

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """An output without values."""
        FusedAttention.operations += 4 * query.numel() * key.shape[-2]
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Gradients without values; five products where the forward pass has two."""
        query, key, value, _, _ = ctx.saved_tensors
        FusedAttention.operations += 10 * query.numel() * key.shape[-2]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """Stands in for ``F.scaled_dot_product_attention``."""
    return FusedAttention.apply(query, key, value)


def recompute_blocks(model: nn.Module) -> None:
    """Keep only the inputs of blocks for the backward pass."""

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
        )

    for module in model.modules():
        if type(module).__name__ in BLOCKS:
            module.forward = wrapped(module.forward)


@dataclass(frozen=True)
class Cost:
    """Of a forward and a backward pass.

    Attributes:
        peak: most bytes alive at once, beside the weights.
        kept: bytes between the two passes.
        operations: multiplications and additions.
    """

    peak: int
    kept: int
    operations: int


def cost(model: nn.Module, forward: Callable[[], Tensor]) -> Cost:
    """Of ``forward`` and the way back from the number it returns.

    Gradients of the weights are left out of the bytes: FSDP shares them out block by block, and ``states`` counts them.
    """
    FusedAttention.operations = 0
    with mock.patch.object(F, "scaled_dot_product_attention", fused):
        with FlopCounterMode(display=False) as flops:
            forward().backward()
        operations = flops.get_total_flops() + FusedAttention.operations
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        with LiveBytes() as counter:
            loss = forward()
            kept = counter.now
            loss.backward()
        model.requires_grad_(True)
    return Cost(counter.peak, kept, operations)


def step_costs(model: VidLLM, frames: int, text: int) -> dict[str, Cost]:
    """Costs of one window: encoder to camera head, each dense head, the language model."""
    network, config = model.reconstruction, model.config
    size = config.image_size
    grid = (size[0] // config.patch_size, size[1] // config.patch_size)
    dtype, n = torch.bfloat16, grid[0] * grid[1]
    images = torch.empty(frames, 3, *size, device="meta", requires_grad=True)

    def related() -> Tensor:
        features = network.encode(images).unflatten(0, (1, frames))
        geometry, semantic = network.adapter(features[:, :, -1])
        layers = network.backbone(geometry, grid)
        encodings = network.camera_head(layers[-1][:, :, 0].float())
        parts = [*encodings, semantic, *layers, features]
        return torch.stack([part.float().sum() for part in parts]).sum()

    layers = [
        torch.empty(1, frames, n, 2 * config.encoder.dim, dtype=dtype, device="meta", requires_grad=True)
        for _ in range(4)
    ]
    kept = len(config.encoder.feature_layers)
    features = torch.empty(1, frames, kept, n, config.encoder.dim, dtype=dtype, device="meta", requires_grad=True)

    def dense() -> Tensor:
        return torch.stack([part.sum() for part in network.depth_head(layers, grid, size)]).sum()

    def metric() -> Tensor:
        assert network.metric_depth is not None
        return network.metric_depth(features, grid, size).sum()

    language = model.language
    tokens = model.patches.config.language_tokens + text
    mask = torch.empty(1, 1, tokens, tokens, dtype=dtype, device="meta")
    embeddings = torch.empty(1, tokens, language.hidden, dtype=dtype, device="meta", requires_grad=True)

    def speak() -> Tensor:
        # Only answers need the wide output layer; they are about half of the text.
        columns = torch.arange(text // 2)
        outputs = language.llm(inputs_embeds=embeddings, attention_mask=mask, use_cache=False, logits_to_keep=columns)
        return outputs.logits.float().sum()

    steps = {"encoder to camera head": related, "depth head": dense, "metric depth": metric, "language model": speak}
    return {name: cost(model, forward) for name, forward in steps.items()}


def states(model: VidLLM, gpus: int, lora: bool) -> float:
    """Gigabytes of weights, gradients, optimiser state and weight average on each GPU, in float32, shared out.

    What belongs to no block (embedding and output layer above all) is on every GPU during a step, in float32.
    """
    whole = sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for p in model.language.llm.parameters()) if lora else 0
    blocks = sum(p.numel() for m in model.modules() if type(m).__name__ in BLOCKS for p in m.parameters())
    return (4 * frozen + 20 * (whole - frozen)) / gpus / GIGABYTE + 4 * (whole - blocks) / GIGABYTE


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description="What a training step of stage 2 costs, computed.")
    parser.add_argument("--size", choices=SIZES, default="large", help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=32, help="of a window (default: %(default)s)")
    parser.add_argument("--gpus", type=int, default=8, help="that share everything (default: %(default)s)")
    parser.add_argument("--text", type=int, default=1500, help="tokens of a window's questions and answers")
    arguments = parser.parse_args()
    print(report(arguments.size, arguments.frames, arguments.gpus, arguments.text))


def report(size: str, frames: int, gpus: int, text: int) -> str:
    """The tables of docs/training.md."""
    model = network(SIZES[size]()).to("meta").train()
    shared = {lora: states(model, gpus, lora) for lora in (False, True)}
    model.set_precision(torch.bfloat16)
    recompute_blocks(model)
    costs = step_costs(model, frames, text)
    rows = [
        [name, f"{c.kept / GIGABYTE:.1f}", f"{c.peak / GIGABYTE:.1f}", f"{c.operations / 1e12:,.0f}"]
        for name, c in costs.items()
    ]
    kept = sum(c.kept for c in costs.values()) / GIGABYTE
    peak = kept + max(c.peak - c.kept for c in costs.values()) / GIGABYTE
    heads = ("depth head", "metric depth")
    wide = sum(c.operations for name, c in costs.items() if name not in heads) / 1e12
    exact = sum(costs[name].operations for name in heads) / 1e12
    rows.append(["**everything**", f"{kept:.1f}", f"{peak:.1f}", f"{wide + exact:,.0f}"])
    memory = [
        [name, f"{shared[lora]:.1f}", f"{peak:.1f}", f"{shared[lora] + peak:.1f}"]
        for name, lora in (("everything learns", False), ("--lora", True))
    ]
    times = [[gpu, f"{(wide / bf16 + exact / tf32) / UTILISATION:.1f}"] for gpu, (bf16, tf32) in PEAKS.items()]
    title = f"{size}: one window of {frames} frames and {text} tokens of text, forward and backward"
    return "\n".join(
        [
            table(title, ["", "kept, GB", "peak, GB", "1e12 operations"], rows),
            table(f"Gigabytes on each of {gpus} GPUs", ["", "weights and states", "activations", "sum"], memory),
            table(f"Seconds a window at {UTILISATION:.0%} of the peak rate", ["", "seconds"], times),
        ]
    )


if __name__ == "__main__":
    main()
