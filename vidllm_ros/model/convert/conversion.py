"""Foreign weights to a network: read, rename, infer the sizes, build, fill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.model.convert.card import (
    DINOV2_LICENCE,
    VGGT_LICENCE,
    Origin,
    hub_licence,
    inherited_origins,
    inherited_untrained,
    stated_licence,
)
from vidllm_ros.model.convert.names import DROPPED_PARTS, ENCODER, VGGT, Renamed, dinov2_rules, rename
from vidllm_ros.model.convert.shapes import Heads, implied_config
from vidllm_ros.model.convert.sources import ConversionError, read_tensors
from vidllm_ros.model.reasoning.language import LanguageModel
from vidllm_ros.model.vidllm import VidLLM

# What a source fills completely or not at all.
GEOMETRY = (ENCODER, "backbone.", "camera_head.", "depth_head.")
REASONING = "scene projector, 3D patches, grounding"


@dataclass(frozen=True)
class Request:
    """What to convert.

    Attributes:
        base: sizes and settings that the weights do not tell.
        vggt: VGGT's weight file, a folder that holds one, or a checkpoint folder of this package.
        dinov2: DINOv2 with registers, file or folder; replaces the encoder that ``vggt`` brings.
        llm: folder or hub name of a causal language model.
        heads: attention heads where they are not the usual ones.
        seed: of the parts that start at random.
    """

    base: VidLLMConfig
    vggt: Path | None = None
    dinov2: Path | None = None
    llm: str | None = None
    heads: Heads = Heads()
    seed: int = 0


@dataclass(frozen=True)
class Conversion:
    """The result.

    Attributes:
        model: the network.
        origins: where its parts come from.
        untrained: parts that no source filled.
        used: tensors that were taken over.
        dropped: names that were left out on purpose.
    """

    model: VidLLM
    origins: tuple[Origin, ...]
    untrained: tuple[str, ...]
    used: int
    dropped: tuple[str, ...]


def convert(request: Request) -> Conversion:
    """Build a network from published weights.

    Raises:
        ConversionError: a file cannot be read, or a tensor is unknown, missing or of a wrong shape; it is named.
        CheckpointError: ``vggt`` is a checkpoint folder of this package, and a damaged one.
    """
    if request.vggt is None and request.dinov2 is None and request.llm is None:
        raise ConversionError("nothing to convert: give VGGT, DINOv2 or a language model")
    start = VidLLM.from_pretrained(request.vggt) if request.vggt is not None and is_checkpoint(request.vggt) else None
    given, used, origins = _gather(request, start)
    config = start.config if start is not None else implied_config(given.tensors, request.base, request.heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        model = _build(request, config, start)
    fill(model, given)
    return Conversion(model, tuple(origins), tuple(_untrained(request, start)), used, given.dropped)


def is_checkpoint(path: Path) -> bool:
    """Whether this is a checkpoint folder of this package rather than somebody else's."""
    try:
        values = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "camera_head" in values


def _gather(request: Request, start: VidLLM | None) -> tuple[Renamed, int, list[Origin]]:
    """All foreign tensors of the reconstruction branch, how many they were, and where they come from."""
    given, used = Renamed({}, {}), 0
    origins: list[Origin] = []
    if request.vggt is not None and start is not None:
        origins += inherited_origins(request.vggt)
    elif request.vggt is not None:
        read = read_tensors(request.vggt)
        given = rename(read, VGGT, DROPPED_PARTS)
        _require_whole(given.tensors, "VGGT", request.vggt)
        used += len(read) - len(given.dropped)
        licence = stated_licence(_folder_of(request.vggt), VGGT_LICENCE)
        origins.append(Origin("encoder, backbone, camera head, depth head", request.vggt.name, licence))
    if request.dinov2 is not None:
        read = read_tensors(request.dinov2)
        encoder = rename(read, dinov2_rules(read))
        _check_transformers_config(request.dinov2)
        others = {name: tensor for name, tensor in given.tensors.items() if not name.startswith(ENCODER)}
        given = Renamed(others | encoder.tensors, given.origin | encoder.origin, given.dropped)
        used += len(read)
        licence = stated_licence(_folder_of(request.dinov2), DINOV2_LICENCE)
        remark = "" if request.vggt is None else "not the one that the backbone was trained with"
        origins.append(Origin("encoder", request.dinov2.name, licence, remark))
    if request.llm is not None:
        name = Path(request.llm).resolve().name if Path(request.llm).is_dir() else request.llm
        origins.append(Origin("language model", name, hub_licence(request.llm)))
    return given, used, origins


def _require_whole(tensors: Mapping[str, Tensor], what: str, path: Path) -> None:
    absent = [part for part in GEOMETRY if not any(name.startswith(part) for name in tensors)]
    if absent:
        raise ConversionError(
            f"{path} is no whole {what}: nothing in it belongs to '{absent[0]}' (as it is called here)"
        )


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.resolve().parent


def _check_transformers_config(path: Path) -> None:
    """Settings beside the weights that shapes do not show and that would change what the encoder computes."""
    file = _folder_of(path) / "config.json"
    if not file.is_file():
        return
    try:
        values = json.loads(file.read_text())
    except ValueError as error:
        raise ConversionError(f"{file} is not JSON: {error}") from error
    needed = {"layer_norm_eps": 1e-6, "hidden_act": "gelu", "use_swiglu_ffn": False, "qkv_bias": True}
    for key, value in needed.items():
        if values.get(key, value) != value:
            raise ConversionError(f"{file}: {key} is {values[key]!r}; only {value!r} can be represented")


def _build(request: Request, config: VidLLMConfig, start: VidLLM | None) -> VidLLM:
    """The network at its start, with the language model in place."""
    if request.llm is None:
        return start if start is not None else _at_random(config)
    dim, like = config.encoder.dim, request.base
    if like.patches is None or like.grounding is None:
        raise ConversionError(f"configuration '{like.name}' has no reasoning branch for a language model to stand in")
    language = _language(request.llm, dim)
    config = replace(
        config,
        patches=replace(like.patches, feature_dim=dim),
        language=language.config,
        grounding=replace(like.grounding, feature_dim=dim, state_dim=language.hidden),
    )
    model = _at_random(config, language)
    if start is not None:
        model.reconstruction = start.reconstruction
    return model


def _language(source: str, feature_dim: int) -> LanguageModel:
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ConversionError(f"'{source}' is no causal language model: it holds no config.json")
    try:
        return LanguageModel.from_causal_lm(source, feature_dim)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        # What transformers says runs over many lines.
        reason = " ".join(str(error).split())
        raise ConversionError(f"'{source}' is no causal language model that can be read: {reason}") from error


def _at_random(config: VidLLMConfig, language: LanguageModel | None = None) -> VidLLM:
    try:
        return VidLLM(config, language.tokenizer if language is not None else None, language)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ConversionError(f"the weights are of sizes that no network can have: {error}") from error


def fill(model: VidLLM, given: Renamed) -> None:
    """Put tensors into the reconstruction branch, in float32.

    Args:
        model: changed in place.
        given: tensors that fill each part of ``GEOMETRY`` wholly or not at all.

    Raises:
        ConversionError: a tensor is missing, of no use, of a wrong shape, or not finite.
    """
    check(given, model.reconstruction.state_dict())
    for name, tensor in given.tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ConversionError(f"'{given.origin[name]}' holds {tensor.dtype} that are not finite real numbers")
    exact = {name: tensor.to(torch.float32) for name, tensor in given.tensors.items()}
    model.reconstruction.load_state_dict(exact, strict=False, assign=True)


def check(given: Renamed, expected: Mapping[str, Tensor]) -> None:
    """Whether tensors fill their parts of the network exactly; see ``fill`` for the errors."""
    tensors = given.tensors
    for name, tensor in tensors.items():
        if name not in expected:
            raise ConversionError(
                f"the network has no place for '{given.origin[name]}', of shape {tuple(tensor.shape)}: '{name}'"
            )
        if tensor.shape != expected[name].shape:
            raise ConversionError(
                f"'{given.origin[name]}' makes '{name}' of shape {tuple(tensor.shape)}; "
                f"the rest of the weights makes it {tuple(expected[name].shape)}"
            )
    for part in GEOMETRY:
        if any(name.startswith(part) for name in tensors):
            missing = [name for name in expected if name.startswith(part) and name not in tensors]
            if missing:
                raise ConversionError(
                    f"the weights lack {len(missing)} tensors, first '{missing[0]}' (as it is called here)"
                )


def _untrained(request: Request, start: VidLLM | None) -> list[str]:
    parts: list[str] = []
    if start is not None:
        assert request.vggt is not None
        parts = [part for part in inherited_untrained(request.vggt) or [] if part != REASONING or request.llm is None]
        if request.dinov2 is not None and "encoder" in parts:
            parts.remove("encoder")
    else:
        if request.dinov2 is None and request.vggt is None:
            parts.append("encoder")
        if request.vggt is None:
            parts.append("backbone, camera head, depth head")
        parts += ["adapter", "metric depth"]
    return [*parts, REASONING] if request.llm is not None else parts
