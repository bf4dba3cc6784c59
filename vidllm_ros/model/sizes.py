"""The network's sizes: other numbers for the same code. `docs/sizes.md` compares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidllm_ros.model.config import (
    AdapterConfig,
    BackboneConfig,
    CameraHeadConfig,
    DepthHeadConfig,
    EncoderConfig,
    MetricDepthConfig,
    VidLLMConfig,
)
from vidllm_ros.model.reasoning.grounding import GroundingConfig
from vidllm_ros.model.reasoning.language_types import LanguageConfig
from vidllm_ros.model.reasoning.patches import PatchConfig


def nano() -> VidLLMConfig:
    """The bundled demonstration size: 32 frames of 112 x 84 pixels within a second on two CPU cores."""
    return VidLLMConfig(
        name="nano",
        image_size=(84, 112),
        encoder=EncoderConfig(
            dim=128, layers=6, heads=4, registers=2, layer_scale=0.5, position_grid=8, feature_layers=(1, 3, 5)
        ),
        adapter=AdapterConfig(heads=4, expansion=2),
        backbone=BackboneConfig(pairs=4, heads=4, registers=2, layer_scale=0.2, head_layers=(0, 1, 2, 3)),
        camera_head=CameraHeadConfig(blocks=1, heads=4, mlp_ratio=2.0, layer_scale=0.2),
        depth_head=DepthHeadConfig(features=32, channels=(32, 48, 64, 64), head_features=16, frames_chunk=32),
        metric_depth=MetricDepthConfig(
            bins=32, min_depth=0.2, max_depth=10.0, features=32, channels=(32, 48, 64, 64), frames_chunk=32
        ),
        patches=PatchConfig(
            feature_dim=128, position_hidden=128, position_frequencies=6, max_tokens=768, language_tokens=192
        ),
        language=LanguageConfig(feature_dim=128, llm=qwen2(hidden=160, layers=4, heads=4), projector_hidden=160),
        grounding=GroundingConfig(feature_dim=128, state_dim=160, dim=96, queries=96, neighbours=(8, 16, 32)),
    )


def small() -> VidLLMConfig:
    """For Jetson-class devices: a DINOv2-S/14 encoder with registers, and a language model of half a billion.

    The language model has the shape of Qwen2.5-0.5B.
    """
    return VidLLMConfig(
        name="small",
        image_size=(252, 336),
        encoder=EncoderConfig(dim=384, layers=12, heads=6, feature_layers=(2, 5, 8, 11)),
        adapter=AdapterConfig(heads=6),
        backbone=BackboneConfig(pairs=12, heads=6, head_layers=(2, 5, 8, 11)),
        camera_head=CameraHeadConfig(heads=6),
        depth_head=DepthHeadConfig(features=128, channels=(96, 192, 384, 384)),
        metric_depth=MetricDepthConfig(features=128, channels=(96, 192, 384, 384)),
        patches=PatchConfig(feature_dim=384, position_hidden=384, max_tokens=2048, language_tokens=1024),
        language=LanguageConfig(
            feature_dim=384,
            llm=pretrained_qwen2(hidden=896, intermediate=4864, layers=24, heads=14, key_value_heads=2, tied=True)
            | {"vocab_size": 151936},
            projector_hidden=896,
            scene_attention="causal",
        ),
        grounding=GroundingConfig(
            feature_dim=384, state_dim=896, dim=192, heads=6, queries=256, neighbours=(16, 32, 64)
        ),
    )


def large() -> VidLLMConfig:
    """The paper's network: DINOv2-L/14 with registers and VGGT's 24 block pairs and heads, 518 pixels high.

    The paper does not name its language model; the shape here is Qwen2-7B's, which LLaVA-Video and LLaVA-3D build on.
    The grounding decoder has LLaVA-3D's 512 queries and four layers.
    """
    return VidLLMConfig(
        name="large",
        image_size=(518, 686),
        patches=PatchConfig(feature_dim=1024, position_hidden=1024, max_tokens=3096, language_tokens=3096),
        language=LanguageConfig(
            feature_dim=1024,
            llm=pretrained_qwen2(hidden=3584, intermediate=18944, layers=28, heads=28, key_value_heads=4, tied=False)
            | {"vocab_size": 152064},
            projector_hidden=3584,
            scene_attention="causal",
        ),
        grounding=GroundingConfig(
            feature_dim=1024, state_dim=3584, dim=512, heads=8, queries=512, neighbours=(16, 32, 64, 128)
        ),
    )


SIZES: dict[str, Callable[[], VidLLMConfig]] = {"nano": nano, "small": small, "large": large}


def qwen2(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """A small Qwen2 configuration; the tokenizer sets its vocabulary."""
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
    }


def pretrained_qwen2(
    hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int, tied: bool
) -> dict[str, Any]:
    """A Qwen2 configuration with the constants that the released weights of that family share."""
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
        "attention_dropout": 0.0,
    }
