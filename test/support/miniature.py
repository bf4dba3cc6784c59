"""A whole network small enough to run in milliseconds, with random weights, and windows to show it."""

from dataclasses import replace

import torch
from float64_layers import randomize

from vidllm_ros.model import VidLLM, VidLLMConfig
from vidllm_ros.model.config import (
    AdapterConfig,
    BackboneConfig,
    CameraHeadConfig,
    DepthHeadConfig,
    EncoderConfig,
    MetricDepthConfig,
    ScaleConfig,
)
from vidllm_ros.model.reasoning.grounding import GroundingConfig
from vidllm_ros.model.reasoning.language_types import LanguageConfig
from vidllm_ros.model.reasoning.patches import PatchConfig
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.reconstruction.branch import ReconstructionModel

IMAGE_SIZE = (28, 42)
GRID = (2, 3)
TEXTS = ["How many chairs are there? There are 12 chairs.", "The table is brown.", "Locate: the chair"] * 10


def config(**changes) -> VidLLMConfig:
    """Reconstruction only; ``full_config`` adds the reasoning branch."""
    values = {
        "name": "miniature",
        "image_size": IMAGE_SIZE,
        "window_size": 4,
        "encoder": EncoderConfig(
            dim=32,
            layers=4,
            heads=2,
            registers=2,
            mlp_ratio=2,
            layer_scale=0.5,
            position_grid=4,
            feature_layers=(1, 2, 3),
        ),
        "adapter": AdapterConfig(bridge_tokens=4, heads=2, expansion=2),
        "backbone": BackboneConfig(
            pairs=4, heads=2, registers=2, mlp_ratio=2.0, layer_scale=0.3, head_layers=(0, 1, 2, 3)
        ),
        "camera_head": CameraHeadConfig(blocks=1, heads=2, mlp_ratio=2.0, layer_scale=0.3, iterations=3),
        "depth_head": DepthHeadConfig(features=16, channels=(8, 12, 16, 16), head_features=8, frames_chunk=3),
        "metric_depth": MetricDepthConfig(
            bins=8, min_depth=0.2, max_depth=10.0, features=16, channels=(8, 12, 16, 16), frames_chunk=3
        ),
        "scale": ScaleConfig(frames=16),
    }
    return VidLLMConfig(**(values | changes))


def full_config(**changes) -> VidLLMConfig:
    llm = {
        "model_type": "qwen2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    return replace(
        config(),
        patches=PatchConfig(feature_dim=32, position_hidden=16),
        language=LanguageConfig(feature_dim=32, llm=llm, projector_hidden=24),
        grounding=GroundingConfig(feature_dim=32, state_dim=32, dim=16, heads=2, queries=6, neighbours=(4, 4)),
        **changes,
    )


def reconstruction_model(seed: int = 0, **changes) -> ReconstructionModel:
    return randomize(ReconstructionModel(config(**changes)), seed).eval()


def vidllm(seed: int = 0, **changes) -> VidLLM:
    torch.manual_seed(seed)
    model = VidLLM(full_config(**changes), train_tokenizer(TEXTS))
    randomize(model.reconstruction, seed)
    return model


def window(frames: int = 4, batch: int = 1, seed: int = 0, image_size: tuple[int, int] = IMAGE_SIZE) -> torch.Tensor:
    """Random images [B, S, 3, H, W]."""
    return torch.rand(batch, frames, 3, *image_size, generator=torch.Generator().manual_seed(seed))
