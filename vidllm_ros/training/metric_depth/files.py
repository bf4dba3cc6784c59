"""The folder of a trained convolutional Metric Depth Model: config.json and model.safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig, ConvDepthModel


def save_model(model: ConvDepthModel, folder: Path) -> None:
    """Write configuration and float16 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(model.config), indent=2) + "\n")
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")


def load_model(folder: Path) -> ConvDepthModel:
    """Read a model in float32, ready to measure."""
    values = json.loads((folder / "config.json").read_text())
    values["image_size"] = tuple(values["image_size"])
    model = ConvDepthModel(ConvDepthConfig(**values))
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in weights.items()})
    return model.eval().to(memory_format=torch.channels_last)
