"""One typed configuration for every size of the network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from vidllm_ros.model.reasoning.grounding import GroundingConfig
from vidllm_ros.model.reasoning.language_types import LanguageConfig
from vidllm_ros.model.reasoning.patches import PatchConfig
from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig

MAY_BE_ZERO = ("registers", "frames", "seed")


class ConfigError(ValueError):
    """A configuration value that cannot work."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class EncoderConfig:
    """Shared image encoder, DINOv2 with registers.

    Args:
        dim: channels C.
        layers: transformer layers.
        heads: attention heads.
        patch_size: pixels along a patch side.
        registers: register tokens.
        mlp_ratio: expansion of the MLPs.
        layer_scale: initial LayerScale gain.
        position_grid: side of the learned position grid, in patches; other grids are interpolated.
        feature_layers: layers whose patch tokens are kept, ascending, the last one the final layer.
    """

    dim: int = 1024
    layers: int = 24
    heads: int = 16
    patch_size: int = 14
    registers: int = 4
    mlp_ratio: int = 4
    layer_scale: float = 1.0
    position_grid: int = 37
    feature_layers: tuple[int, ...] = (4, 11, 17, 23)

    def __post_init__(self) -> None:
        layers = self.feature_layers
        _require(
            bool(layers) and list(layers) == sorted(set(layers)) and layers[-1] == self.layers - 1,
            f"encoder.feature_layers {layers} must ascend and end with the last layer {self.layers - 1}",
        )


@dataclass(frozen=True)
class AdapterConfig:
    """Cross-Task Adapter (paper section 3.1, Table 6).

    Args:
        variant: ``bridge`` (the paper's), ``cross`` (streams attend to each other, no bridge tokens), ``concat``
            (self-attention over both streams) or ``none`` (shared features go to both branches unchanged).
        bridge_tokens: K.
        heads: heads of the adapter's attention.
        expansion: of the projection MLPs phi_geom and phi_lang.
    """

    variant: str = "bridge"
    bridge_tokens: int = 16
    heads: int = 16
    expansion: int = 4

    def __post_init__(self) -> None:
        variants = ("bridge", "cross", "concat", "none")
        _require(self.variant in variants, f"adapter.variant '{self.variant}' is not one of {', '.join(variants)}")
        _require(self.bridge_tokens >= 1, f"adapter.bridge_tokens {self.bridge_tokens} must be at least 1")


@dataclass(frozen=True)
class BackboneConfig:
    """Global-Frame attention (paper section 3.2).

    Args:
        pairs: frame block and global block pairs.
        heads: attention heads.
        registers: register tokens per frame.
        mlp_ratio: expansion of the MLPs.
        layer_scale: initial LayerScale gain.
        rope_base: base frequency of the rotary positions.
        head_layers: the four pairs whose outputs the depth head reads, ascending; the last is also the camera head's.
    """

    pairs: int = 24
    heads: int = 16
    registers: int = 4
    mlp_ratio: float = 4.0
    layer_scale: float = 0.01
    rope_base: float = 100.0
    head_layers: tuple[int, int, int, int] = (4, 11, 17, 23)

    def __post_init__(self) -> None:
        layers = self.head_layers
        _require(
            len(layers) == 4 and list(layers) == sorted(layers) and layers[-1] == self.pairs - 1,
            f"backbone.head_layers {layers} must be four ascending pair indices ending with {self.pairs - 1}",
        )


@dataclass(frozen=True)
class CameraHeadConfig:
    """Camera head.

    Args:
        blocks: transformer blocks of the trunk.
        heads: attention heads.
        mlp_ratio: expansion of the trunk's MLPs.
        layer_scale: initial LayerScale gain.
        iterations: refinement iterations.
    """

    blocks: int = 4
    heads: int = 16
    mlp_ratio: float = 4.0
    layer_scale: float = 0.01
    iterations: int = 4


@dataclass(frozen=True)
class DepthHeadConfig:
    """DPT head for relative depth.

    Args:
        features: channels of the fusion stages.
        channels: channels of the four pyramid levels, finest first.
        head_features: channels of the last convolution before the output.
        frames_chunk: frames decoded at once; bounds the memory.
    """

    features: int = 256
    channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    head_features: int = 32
    frames_chunk: int = 8


@dataclass(frozen=True)
class MetricDepthConfig:
    """Metric Depth Model (paper section 3.2); bins as in ZoeDepth where the paper is silent.

    Args:
        enabled: False leaves the module out (ablation "w/o MD"): the scale is then 1.
        encoder: ``tokens`` decodes the shared encoder's tokens into bins, as the paper does; ``convolutional`` sees the
            frames themselves with an encoder of its own (``conv_depth``), and the settings of bins and decoder do not
            matter. With ``scale.align`` off its depth is the depth of a frame.
        bins: number of depth bins N.
        min_depth: smallest depth in metres.
        max_depth: largest depth in metres.
        normalization: ``log_binomial`` (ordinal-aware, unimodal over the bins) or ``softmax``.
        features: channels of the decoder.
        channels: channels of the four pyramid levels, finest first.
        frames_chunk: frames decoded at once; bounds the memory.
        convolutional: sizes of the convolutional model.
    """

    enabled: bool = True
    encoder: str = "tokens"
    bins: int = 64
    min_depth: float = 0.1
    max_depth: float = 10.0
    normalization: str = "log_binomial"
    features: int = 256
    channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    frames_chunk: int = 8
    convolutional: ConvDepthConfig = field(default_factory=ConvDepthConfig)

    def __post_init__(self) -> None:
        encoders = ("tokens", "convolutional")
        _require(self.encoder in encoders, f"metric_depth.encoder '{self.encoder}' is not one of {', '.join(encoders)}")
        kinds = ("log_binomial", "softmax")
        _require(
            self.normalization in kinds,
            f"metric_depth.normalization '{self.normalization}' is not one of {', '.join(kinds)}",
        )
        _require(self.bins >= 2, f"metric_depth.bins {self.bins} must be at least 2")
        _require(
            0 < self.min_depth < self.max_depth,
            f"metric_depth range {self.min_depth} to {self.max_depth} m must be positive and ascending",
        )


@dataclass(frozen=True)
class ScaleConfig:
    """Real-Scale Alignment (paper section 3.2).

    Args:
        align: False uses the metric depth itself as the depth, and the scale for translation only (ablation
            "w/o Alignment").
        frames: images drawn per window; 0 or more than there are takes all.
        seed: of the draw, so that a replay repeats itself.
        weighting: ``relative`` weighs each pixel by confidence / relative depth squared (equal relative errors),
            ``absolute`` by confidence alone (plain least squares).
    """

    align: bool = True
    frames: int = 16
    seed: int = 0
    weighting: str = "relative"

    def __post_init__(self) -> None:
        kinds = ("relative", "absolute")
        _require(self.weighting in kinds, f"scale.weighting '{self.weighting}' is not one of {', '.join(kinds)}")
        _require(self.frames >= 0, f"scale.frames {self.frames} must not be negative")


@dataclass(frozen=True)
class VidLLMConfig:
    """The whole network.

    Args:
        name: size name, for reports.
        image_size: (height, width) in pixels that the network was made for; multiples of the patch size. Other sizes
            work where both sides are multiples of the patch size.
        window_size: frames of a window it was made for.
        encoder: shared image encoder.
        adapter: Cross-Task Adapter.
        backbone: Global-Frame attention.
        camera_head: poses and field of view.
        depth_head: relative depth.
        metric_depth: metres from bins.
        scale: Real-Scale Alignment.
        patches: 3D patch construction; None (with ``language`` and ``grounding``) leaves a reconstruction-only network.
        language: language model.
        grounding: box decoder.
    """

    name: str = "large"
    image_size: tuple[int, int] = (518, 686)
    window_size: int = 32
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    camera_head: CameraHeadConfig = field(default_factory=CameraHeadConfig)
    depth_head: DepthHeadConfig = field(default_factory=DepthHeadConfig)
    metric_depth: MetricDepthConfig = field(default_factory=MetricDepthConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    patches: PatchConfig | None = None
    language: LanguageConfig | None = None
    grounding: GroundingConfig | None = None

    def __post_init__(self) -> None:
        self._check_counts()
        patch = self.encoder.patch_size
        _require(
            all(side > 0 and side % patch == 0 for side in self.image_size),
            f"image_size {self.image_size} must be positive multiples of the patch size {patch}",
        )
        parts = (self.patches, self.language, self.grounding)
        _require(
            all(part is None for part in parts) or all(part is not None for part in parts),
            "patches, language and grounding come together: configure all three or none",
        )

    def _check_counts(self) -> None:
        parts = ("encoder", "adapter", "backbone", "camera_head", "depth_head", "metric_depth", "scale")
        for part in parts:
            values = getattr(self, part)
            for counted in (f.name for f in dataclasses.fields(values) if f.type == "int"):
                value, least = getattr(values, counted), 0 if counted in MAY_BE_ZERO else 1
                right = isinstance(value, int) and not isinstance(value, bool) and value >= least
                _require(right, f"{part}.{counted} is {value!r}; it must be a whole number of at least {least}")
        dim, heads = self.encoder.dim, self.encoder.heads
        _require(dim % heads == 0, f"encoder.dim is {dim}; it must be a multiple of encoder.heads, {heads}")

    @property
    def patch_size(self) -> int:
        """Pixels along a patch side."""
        return self.encoder.patch_size

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VidLLMConfig:
        """The configuration that ``to_dict`` described; an unknown key or an unusable value is a ConfigError."""
        return _from_dict(cls, values, "")


def _from_dict(cls: type, values: dict[str, Any], path: str) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        _require(key in known, f"unknown configuration key '{path}{key}'; known keys are {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        kind = hints[key]
        if type(None) in get_args(kind):
            kind = next(k for k in get_args(kind) if k is not type(None))
            if value is None:
                arguments[key] = None
                continue
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            _require(isinstance(value, dict), f"configuration key '{path}{key}' must hold a mapping, not {value!r}")
            arguments[key] = _from_dict(kind, value, f"{path}{key}.")
        elif get_origin(kind) is tuple and get_args(kind):
            _require(isinstance(value, list | tuple), f"configuration key '{path}{key}' must be a list, not {value!r}")
            arguments[key] = tuple(value)
        else:
            arguments[key] = value
    return cls(**arguments)
