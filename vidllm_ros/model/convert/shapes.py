"""The network's sizes as the shapes of foreign tensors imply them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vidllm_ros.model.config import (
    BackboneConfig,
    CameraHeadConfig,
    ConfigError,
    DepthHeadConfig,
    EncoderConfig,
    VidLLMConfig,
)
from vidllm_ros.model.convert.names import ENCODER
from vidllm_ros.model.convert.sources import ConversionError

# The width of an attention head in every DINOv2 model.
DINOV2_HEAD = 64


@dataclass(frozen=True)
class Heads:
    """Numbers of attention heads, which no shape tells; None: as the family of networks has them.

    Attributes:
        encoder: by default one for each 64 channels, as in every DINOv2.
        camera: of the camera head; by default as many as the backbone has, as in VGGT.
    """

    encoder: int | None = None
    camera: int | None = None


class Shapes:
    """Shapes by name (as ``ReconstructionModel`` names its tensors), asked for by what they mean."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def side(self, name: str, axis: int) -> int:
        """Length of a tensor along an axis."""
        if name not in self.tensors:
            raise ConversionError(f"the weights lack '{name}' (as it is called here)")
        shape = self.tensors[name].shape
        if not -len(shape) <= axis < len(shape) or shape[axis] < 1:
            raise ConversionError(f"'{name}' (as it is called here) has the unusable shape {tuple(shape)}")
        return shape[axis]

    def has(self, part: str) -> bool:
        """Whether any tensor belongs to this part of the network."""
        return any(name.startswith(part) for name in self.tensors)

    def layers(self, part: str) -> int:
        """How many numbered modules ``part`` holds: the highest number and one."""
        numbers = [int(m[1]) for name in self.tensors if (m := re.match(rf"{re.escape(part)}\.(\d+)\.", name))]
        if not numbers:
            raise ConversionError(f"the weights hold no '{part}' (as it is called here)")
        return max(numbers) + 1


def implied_config(tensors: Mapping[str, Tensor], base: VidLLMConfig, heads: Heads) -> VidLLMConfig:
    """A reconstruction configuration that the tensors fit.

    Args:
        tensors: by the names of ``ReconstructionModel``; parts that are not there keep the sizes of ``base``.
        base: everything that shapes do not tell.
        heads: what shapes do not tell either, where ``base`` is of another width.

    Raises:
        ConversionError: a tensor that decides a size is missing, or the sizes make no network.
    """
    shapes = Shapes(tensors)
    try:
        encoder = _encoder(shapes, base.encoder, heads)
        scaled = replace(base, encoder=encoder, patches=None, language=None, grounding=None)
        if encoder.dim % base.adapter.heads:
            scaled = replace(scaled, adapter=replace(base.adapter, heads=encoder.heads))
        if shapes.has("backbone."):
            scaled = replace(scaled, backbone=_backbone(shapes, base.backbone))
        if shapes.has("camera_head."):
            camera = _camera_head(shapes, base.camera_head, heads.camera or scaled.backbone.heads)
            scaled = replace(scaled, camera_head=camera)
        if shapes.has("depth_head."):
            scaled = replace(scaled, depth_head=_depth_head(shapes, base.depth_head))
    except ConfigError as error:
        raise ConversionError(f"the shapes of the weights make no network: {error}") from error
    if scaled.encoder.dim != base.encoder.dim:
        # The metric decoder follows the depth decoder, whose size fits this width.
        depth = scaled.depth_head
        metric = replace(base.metric_depth, features=depth.features, channels=depth.channels)
        scaled = replace(scaled, metric_depth=metric)
    same = replace(base, patches=None, language=None, grounding=None) == scaled
    return scaled if same else replace(scaled, name="converted")


def spread(layers: int, like: Sequence[int], of: int) -> list[int]:
    """Layers to read of a network of ``layers``, at the same relative depths as ``like`` in one of ``of``."""
    return [math.ceil((layer + 1) * layers / of) - 1 for layer in like]


def _ratio(hidden: int, dim: int) -> float:
    """An MLP's expansion such that ``int(dim * ratio)`` is ``hidden`` again."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _encoder(shapes: Shapes, base: EncoderConfig, heads: Heads) -> EncoderConfig:
    if not shapes.has(ENCODER):
        return base
    if not shapes.has(f"{ENCODER}embeddings.register_tokens"):
        raise ConversionError(
            "this encoder has no register tokens: take a DINOv2 model with registers, such as *14_reg"
        )
    dim = shapes.side(f"{ENCODER}embeddings.cls_token", -1)
    layers = shapes.layers(f"{ENCODER}encoder.layer")
    slots = shapes.side(f"{ENCODER}embeddings.position_embeddings", 1) - 1
    hidden = shapes.side(f"{ENCODER}encoder.layer.0.mlp.fc1.weight", 0)
    if math.isqrt(slots) ** 2 != slots or hidden % dim:
        raise ConversionError(
            f"an encoder with {slots} patch positions and MLPs of {hidden} for {dim} channels cannot be represented; "
            "positions must make a square and the MLPs a whole multiple"
        )
    usual = base.heads if dim == base.dim else dim // DINOV2_HEAD
    if heads.encoder is None and (usual < 1 or dim % usual):
        raise ConversionError(
            f"the encoder has {dim} channels, no multiple of the {DINOV2_HEAD} per head of every DINOv2: "
            "say how many heads it has with --encoder-heads"
        )
    return replace(
        base,
        dim=dim,
        layers=layers,
        heads=heads.encoder or usual,
        patch_size=shapes.side(f"{ENCODER}embeddings.patch_embeddings.projection.weight", -1),
        registers=shapes.side(f"{ENCODER}embeddings.register_tokens", 1),
        mlp_ratio=hidden // dim,
        position_grid=math.isqrt(slots),
        feature_layers=tuple(sorted(set(spread(layers, base.feature_layers, base.layers)))),
    )


def _backbone(shapes: Shapes, base: BackboneConfig) -> BackboneConfig:
    dim = shapes.side("backbone.camera_token", -1)
    pairs = shapes.layers("backbone.frame_blocks")
    first, second, third, last = spread(pairs, base.head_layers, base.pairs)
    return replace(
        base,
        pairs=pairs,
        # Query and key norms work within a head, so their length is its width.
        heads=dim // shapes.side("backbone.frame_blocks.0.attn.q_norm.weight", 0),
        registers=shapes.side("backbone.register_token", 2),
        mlp_ratio=_ratio(shapes.side("backbone.frame_blocks.0.mlp.fc1.weight", 0), dim),
        head_layers=(first, second, third, last),
    )


def _camera_head(shapes: Shapes, base: CameraHeadConfig, heads: int) -> CameraHeadConfig:
    dim = shapes.side("camera_head.token_norm.weight", 0)
    hidden = shapes.side("camera_head.trunk.0.mlp.fc1.weight", 0)
    return replace(base, blocks=shapes.layers("camera_head.trunk"), heads=heads, mlp_ratio=_ratio(hidden, dim))


def _depth_head(shapes: Shapes, base: DepthHeadConfig) -> DepthHeadConfig:
    channels = [shapes.side(f"depth_head.decoder.projects.{level}.weight", 0) for level in range(4)]
    return replace(
        base,
        features=shapes.side("depth_head.decoder.level_convs.0.weight", 0),
        channels=(channels[0], channels[1], channels[2], channels[3]),
        head_features=shapes.side("depth_head.conv2.weight", 0),
    )
