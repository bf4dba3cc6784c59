"""The names of VGGT's and DINOv2's tensors, and what they are called here.

A table of patterns, first match first. A name that matches nothing is refused: a tensor that is silently left out bends
the world without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from vidllm_ros.model.convert.sources import ConversionError

ENCODER = "encoder.dinov2."
# VGGT parts that this network has no use for: depth and camera give more accurate points than the point head does.
DROPPED_PARTS = ("point_head.", "track_head.")

Rename = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    """What becomes of the names that a pattern describes.

    Attributes:
        pattern: of the whole name.
        targets: the new names, built from the match; more than one splits the tensor evenly along its first axis.
    """

    pattern: re.Pattern[str]
    targets: tuple[Rename, ...]


def _rule(pattern: str, *targets: str | Rename) -> Rule:
    def rename(target: str) -> Rename:
        return lambda match: match.expand(target)

    return Rule(re.compile(pattern), tuple(rename(t) if isinstance(t, str) else t for t in targets))


def _level(template: str) -> Rename:
    """VGGT counts the levels of its pyramid from 1, we from 0."""
    return lambda match: template.format(int(match[1]) - 1, *match.groups()[1:])


def _encoder_rules(prefix: str) -> list[Rule]:
    """DINOv2 with registers as its authors name it, behind ``prefix``."""
    p, layer = re.escape(prefix), rf"{ENCODER}encoder.layer.\1"
    return [
        _rule(rf"{p}(cls_token|mask_token|register_tokens)", rf"{ENCODER}embeddings.\1"),
        _rule(rf"{p}pos_embed", f"{ENCODER}embeddings.position_embeddings"),
        _rule(rf"{p}patch_embed\.proj\.(\w+)", rf"{ENCODER}embeddings.patch_embeddings.projection.\1"),
        _rule(
            rf"{p}blocks\.(\d+)\.attn\.qkv\.(\w+)", *(rf"{layer}.attention.{part}_proj.\2" for part in ("q", "k", "v"))
        ),
        _rule(rf"{p}blocks\.(\d+)\.attn\.proj\.(\w+)", rf"{layer}.attention.o_proj.\2"),
        _rule(rf"{p}blocks\.(\d+)\.ls([12])\.gamma", rf"{layer}.layer_scale\2.lambda1"),
        _rule(rf"{p}blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(\w+)", rf"{layer}.\2.\3"),
        _rule(rf"{p}norm\.(\w+)", rf"{ENCODER}layernorm.\1"),
    ]


BLOCK = r"(?:norm[12]|attn\.(?:qkv|proj|q_norm|k_norm)|mlp\.fc[12])\.(?:weight|bias)|ls[12]\.gamma"

VGGT = [
    *_encoder_rules("aggregator.patch_embed."),
    _rule(r"aggregator\.(camera_token|register_token)", r"backbone.\1"),
    _rule(rf"aggregator\.((?:frame|global)_blocks\.\d+\.(?:{BLOCK}))", r"backbone.\1"),
    _rule(r"camera_head\.empty_pose_tokens", "camera_head.empty_pose"),
    _rule(r"camera_head\.poseLN_modulation\.1\.(\w+)", r"camera_head.modulation.\1"),
    _rule(r"camera_head\.((?:token_norm|trunk_norm|embed_pose|pose_branch\.fc[12])\.\w+)", r"camera_head.\1"),
    _rule(rf"camera_head\.(trunk\.\d+\.(?:{BLOCK}))", r"camera_head.\1"),
    _rule(r"depth_head\.norm\.(\w+)", r"depth_head.decoder.norm.\1"),
    _rule(r"depth_head\.projects\.(\d)\.(\w+)", r"depth_head.decoder.projects.\1.\2"),
    _rule(r"depth_head\.resize_layers\.(\d)\.(\w+)", r"depth_head.decoder.resize.\1.\2"),
    _rule(r"depth_head\.scratch\.layer(\d)_rn\.(\w+)", _level("depth_head.decoder.level_convs.{}.{}")),
    _rule(r"depth_head\.scratch\.refinenet(\d)\.out_conv\.(\w+)", _level("depth_head.decoder.fusions.{}.out_conv.{}")),
    _rule(
        r"depth_head\.scratch\.refinenet(\d)\.resConfUnit([12])\.(conv[12])\.(\w+)",
        _level("depth_head.decoder.fusions.{}.unit{}.{}.{}"),
    ),
    _rule(r"depth_head\.scratch\.output_conv1\.(\w+)", r"depth_head.conv1.\1"),
    _rule(r"depth_head\.scratch\.output_conv2\.0\.(\w+)", r"depth_head.conv2.\1"),
    _rule(r"depth_head\.scratch\.output_conv2\.2\.(\w+)", r"depth_head.conv3.\1"),
]

DINOV2_HUB = _encoder_rules("")

# With or without the prefix that a model with a task head puts before its encoder.
_P = r"(?:dinov2_with_registers\.)?"
_LAYER = rf"{_P}encoder\.layer\.(\d+)\."
DINOV2_TRANSFORMERS = [
    _rule(rf"{_LAYER}attention\.attention\.query\.(\w+)", rf"{ENCODER}encoder.layer.\1.attention.q_proj.\2"),
    _rule(rf"{_LAYER}attention\.attention\.key\.(\w+)", rf"{ENCODER}encoder.layer.\1.attention.k_proj.\2"),
    _rule(rf"{_LAYER}attention\.attention\.value\.(\w+)", rf"{ENCODER}encoder.layer.\1.attention.v_proj.\2"),
    _rule(rf"{_LAYER}attention\.output\.dense\.(\w+)", rf"{ENCODER}encoder.layer.\1.attention.o_proj.\2"),
    _rule(rf"{_P}((?:embeddings|encoder|layernorm)\..+)", rf"{ENCODER}\1"),
]


def dinov2_rules(names: Iterable[str]) -> list[Rule]:
    """The table for the layout of a DINOv2 checkpoint: its authors' or that of ``transformers``."""
    return DINOV2_TRANSFORMERS if any("embeddings." in name for name in names) else DINOV2_HUB


@dataclass(frozen=True)
class Renamed:
    """Tensors under the names they have here.

    Attributes:
        tensors: by the names of ``ReconstructionModel``.
        origin: the name that each had before.
        dropped: names that were left out on purpose.
    """

    tensors: dict[str, Tensor]
    origin: dict[str, str]
    dropped: tuple[str, ...] = ()


def rename(tensors: dict[str, Tensor], rules: list[Rule], dropped_parts: tuple[str, ...] = ()) -> Renamed:
    """Give tensors the names they have here.

    Args:
        tensors: by their own names.
        rules: the table.
        dropped_parts: first words of names that are left out on purpose.

    Raises:
        ConversionError: a name that the table does not know, or two tensors for one place.
    """
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    dropped: list[str] = []
    for name, tensor in tensors.items():
        if name.startswith(dropped_parts):
            dropped.append(name)
            continue
        for target, part in _apply(name, tensor, rules):
            if target in renamed:
                raise ConversionError(f"'{name}' and '{origin[target]}' are two tensors for one place, '{target}'")
            renamed[target], origin[target] = part, name
    return Renamed(renamed, origin, tuple(dropped))


def _apply(name: str, tensor: Tensor, rules: list[Rule]) -> list[tuple[str, Tensor]]:
    for rule in rules:
        match = rule.pattern.fullmatch(name)
        if match is None:
            continue
        if len(rule.targets) == 1:
            return [(rule.targets[0](match), tensor)]
        if not tensor.ndim or tensor.shape[0] % len(rule.targets):
            raise ConversionError(
                f"'{name}' has shape {tuple(tensor.shape)}; it must be {len(rule.targets)} equal parts"
            )
        # Copies, so that no two of them share memory: such tensors cannot be saved apart.
        parts = (part.clone() for part in tensor.chunk(len(rule.targets)))
        return [(target(match), part) for target, part in zip(rule.targets, parts, strict=True)]
    raise ConversionError(
        f"the tensor '{name}' of shape {tuple(tensor.shape)} is not known: this is not the layout that was expected"
    )
