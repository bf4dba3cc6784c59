"""Reading tensors from the files that others publish. Nothing is ever unpickled but plain tensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

SAFETENSORS = ".safetensors"
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
WRAPPERS = ("model", "state_dict")


class ConversionError(RuntimeError):
    """Weights that cannot be converted; one sentence says which and why."""


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, in the precision in which they are stored.

    Args:
        source: a ``.safetensors`` file, a ``.pt``, ``.pth`` or ``.bin`` file of tensors, or a folder that holds
            ``model.safetensors`` (or its index and parts).

    Raises:
        ConversionError: there is no such file, it is damaged, or it holds more than tensors.
    """
    if source.is_dir():
        return _read_folder(source)
    if not source.is_file():
        raise ConversionError(f"there is no weight file '{source}'")
    if source.suffix == SAFETENSORS:
        return _read_safetensors(source)
    if source.suffix in TORCH_SUFFIXES:
        return _read_torch(source)
    raise ConversionError(f"'{source}' is neither {SAFETENSORS} nor one of {', '.join(TORCH_SUFFIXES)}")


def _read_folder(folder: Path) -> dict[str, Tensor]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return _read_safetensors(single)
    if not index.is_file():
        raise ConversionError(f"folder '{folder}' holds no {single.name}; name the weight file itself")
    try:
        parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{index} is not an index of weight files: {error}") from error
    tensors: dict[str, Tensor] = {}
    for part in parts:
        if not isinstance(part, str) or Path(part).name != part:
            raise ConversionError(f"{index} points outside its folder, to {part!r}")
        tensors |= _read_safetensors(folder / part)
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConversionError(f"{path} is not a whole safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = _torch_load(path)
    except pickle.UnpicklingError as error:
        # The first line says what was found; the rest advises to trust the file, which nobody should.
        reason = str(error).split("\n")[0]
        raise ConversionError(f"{path} holds more than tensors, so it is not read: {reason}") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ConversionError(f"{path} is not a whole torch file: {error}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise ConversionError(f"{path} holds no tensors by name, but a {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ConversionError(f"{path} holds {name!r}, a {type(tensor).__name__}, among its tensors")
    return content


def _torch_load(path: Path) -> object:
    try:
        # Mapped, a file of gigabytes is not held twice.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # files of before torch 1.6
