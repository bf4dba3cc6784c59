"""From the ``checkpoint`` and ``device`` parameters to a network on its device."""

from __future__ import annotations

from pathlib import Path

import torch

from vidllm_ros.model import CheckpointError, VidLLM

_BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints"


def resolve_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: a bundled one by its name, any other by its path.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not name.strip():
        raise CheckpointError("checkpoint is empty; give the folder of a checkpoint, or nano for the bundled one")
    bundled = _BUNDLED / name
    if "/" not in name and bundled.is_dir():
        return bundled
    path = Path(name).expanduser()
    if not path.is_dir():
        raise CheckpointError(
            f"checkpoint '{name}' is neither a folder ({path.absolute()}) nor one of the bundled checkpoints "
            f"({', '.join(bundled_checkpoints()) or 'there is none'})"
        )
    return path


def bundled_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in _BUNDLED.glob("*") if (path / "config.json").is_file())


def resolve_device(name: str) -> torch.device:
    """The device to use. ``auto`` takes CUDA where there is one; a device that is named is never replaced.

    Raises:
        CheckpointError: no such device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    problem = f"device is '{name}'; it must be auto, cpu, cuda or cuda:N"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(problem) from error
    if device.type == "cpu" and device.index is None:
        return device
    if device.type != "cuda":
        raise CheckpointError(problem)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise CheckpointError(
            f"device is '{name}' but PyTorch {torch.__version__} finds {count} CUDA devices here; set device to cpu, "
            f"or install a PyTorch built for this machine's driver"
        )
    return torch.device("cuda", device.index or 0)


def describe_device(device: torch.device) -> str:
    """The device in words, for the log."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def load_model(name: str, dtype: str, device: torch.device) -> VidLLM:
    """The network on its device.

    Raises:
        CheckpointError: the folder is no usable checkpoint; one sentence says why.
    """
    return VidLLM.from_pretrained(resolve_checkpoint(name), device=str(device), dtype=dtype)
