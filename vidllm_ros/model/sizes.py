"""The network's sizes: other numbers for the same code."""

from __future__ import annotations

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
from vidllm_ros.model.grounding import GroundingConfig
from vidllm_ros.model.language_types import LanguageConfig
from vidllm_ros.model.patches import PatchConfig


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
