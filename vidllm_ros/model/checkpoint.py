"""Checkpoint folders: config.json, model.safetensors and the tokenizer. Nothing is ever unpickled.

Knows files, not networks: what is to be filled is built by a function that the caller gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vidllm_ros.model.config import ConfigError, VidLLMConfig
from vidllm_ros.model.reasoning.tokenizer import load_tokenizer
from vidllm_ros.model.whole_files import replacing

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class CheckpointError(RuntimeError):
    """A folder that is no usable checkpoint."""


class Pretrained(nn.Module):
    """A network that is kept in a checkpoint folder, made from a configuration and a tokenizer.

    Attributes:
        config: what ``config.json`` describes.
    """

    config: VidLLMConfig

    def __init__(self, config: VidLLMConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        super().__init__()
        self.config = config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Of the language model; None where there is none."""
        raise NotImplementedError

    def set_precision(self, dtype: torch.dtype | None) -> None:
        """Weights to ``dtype`` (None: as they are), except those that need float32."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls: type[Network], folder: str | Path, device: str = "cpu", dtype: str = "auto") -> Network:
        """Load a checkpoint folder; see ``checkpoint.load``.

        Raises:
            CheckpointError: the folder is no usable checkpoint; one sentence says why.
        """
        return load(cls, folder, device, dtype)

    def save_pretrained(self, folder: str | Path, dtype: str = "auto") -> None:
        """Write config.json, model.safetensors and the tokenizer; see ``checkpoint.save``."""
        save(self, folder, dtype)


Network = TypeVar("Network", bound=Pretrained)


def _dtype(name: str) -> torch.dtype | None:
    if name == "auto":
        return None
    if name not in DTYPES:
        raise ValueError(f"dtype '{name}' is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def shared_names(model: nn.Module) -> dict[str, str]:
    """Names of parameters that are the same tensor as an earlier one, such as a tied output layer."""
    first: dict[int, str] = {}
    aliases = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            aliases[name] = first[id(parameter)]
        else:
            first[id(parameter)] = name
    return aliases


def save(model: Pretrained, folder: str | Path, dtype: str = "auto") -> None:
    """Write a checkpoint folder.

    Args:
        model: what to save.
        folder: made when missing; each file replaces the old one whole.
        dtype: of the floating-point weights: auto keeps each as it is.
    """
    target = _dtype(dtype)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aliases = shared_names(model)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name not in aliases:
            tensor = tensor.detach().cpu().contiguous()
            tensors[name] = tensor.to(target) if target and tensor.is_floating_point() else tensor
    with replacing(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    with replacing(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(folder)


def load(kind: type[Network], folder: str | Path, device: str = "cpu", dtype: str = "auto") -> Network:
    """Load a checkpoint folder.

    Args:
        kind: what the folder holds.
        folder: as ``save`` writes it.
        device: ``cpu`` or ``cuda[:n]``; there is no fallback to another.
        dtype: of the weights in memory; auto is float32 on the CPU and the stored type elsewhere. The reconstruction
            heads are float32 always: exp of the depth overflows in half precision.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit; the message names it.
        ValueError: an unknown dtype.
    """
    target = _dtype(dtype)
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint '{folder}' is not a folder; give one that holds {CONFIG_FILE}")
    config = _read_config(folder)
    tokenizer = None
    if config.language is not None:
        try:
            tokenizer = load_tokenizer(folder)
        except Exception as error:
            raise CheckpointError(f"checkpoint '{folder}' has no usable tokenizer: {error}") from error
    try:
        with weightless():
            model = kind(config, tokenizer)
    except (TypeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} describes no network that can be built: {error}") from error
    _fill(model, folder)
    try:
        if target is None and torch.device(device).type == "cpu":
            target = torch.float32
        model = model.to(device)
        model.set_precision(target)
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"the network cannot be put on device '{device}': {error}") from error
    return model.eval()


@contextmanager
def weightless() -> Iterator[None]:
    """Parameters that modules register inside have a shape but no values yet (meta device); buffers are as usual.

    Billions of numbers need not be drawn at random, and held, only to be replaced by those of a file.
    """
    register = nn.Module.register_parameter

    def without_values(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = without_values  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _read_config(folder: Path) -> VidLLMConfig:
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint '{folder}' has no {CONFIG_FILE}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a mapping, not {type(values).__name__}")
    try:
        return VidLLMConfig.from_dict(values)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _fill(model: Pretrained, folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise CheckpointError(f"checkpoint '{folder}' has no {WEIGHTS_FILE} (other weight formats are not read)")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    expected = model.state_dict()
    aliases = shared_names(model)
    missing = sorted(set(expected) - set(tensors) - set(aliases))
    unexpected = sorted(set(tensors) - set(expected))
    if missing or unexpected:
        raise CheckpointError(
            f"{path} does not fit {CONFIG_FILE}: {len(missing)} tensors are missing{_first(missing)}, "
            f"{len(unexpected)} are unexpected{_first(unexpected)}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: tensor '{name}' has shape {tuple(tensor.shape)}; "
                f"{CONFIG_FILE} makes it {tuple(expected[name].shape)}"
            )
    # Assigning keeps the stored precision, so that saving again gives the same bytes.
    model.load_state_dict(tensors, strict=False, assign=True)
    for alias, name in aliases.items():
        parent, _, leaf = alias.rpartition(".")
        owner, _, first = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, getattr(model.get_submodule(owner), first))


def _first(names: list[str]) -> str:
    return f" (first: '{names[0]}')" if names else ""
