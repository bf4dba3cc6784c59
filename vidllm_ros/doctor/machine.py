"""The part of the doctor that needs no ROS: versions, device and checkpoint."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

from vidllm_ros.doctor.findings import Finding, note, ok, problem

_NEEDED = ("torch", "transformers", "numpy", "scipy", "opencv-python", "open3d", "safetensors")
_ALTERNATIVES = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv")}


def versions() -> list[Finding]:
    """This package, Python and the packages that the network and perception stand on."""
    found, missing = [], []
    for name in _NEEDED:
        known = next((v for n in (name, *_ALTERNATIVES.get(name, ())) if (v := _version(n))), None)
        (missing if known is None else found).append(name if known is None else f"{name} {known}")
    findings = [
        ok(f"vidllm_ros {_own_version()}, Python {platform.python_version()}, {platform.platform(terse=True)}"),
        ok(", ".join(found)),
    ]
    if missing:
        findings.append(note(f"pip knows no {', '.join(missing)} here; a system package may bring it"))
    return findings


def checkpoint(name: str, device: str, dtype: str) -> list[Finding]:
    """Loads a checkpoint on its device as the node does, runs it once, and frees it."""
    try:
        import torch

        from vidllm_ros.model import CheckpointError
        from vidllm_ros.node.checkpoints import describe_device, load_model, resolve_checkpoint, resolve_device
    except ImportError as error:
        return [problem(f"the network cannot be imported: {error}")]
    findings = []
    try:
        target = resolve_device(device)
        findings.append(ok(f"device {describe_device(target)}"))
        if device == "auto" and target.type == "cpu":
            findings.append(note("PyTorch finds no CUDA device here: the network runs on the processor"))
        model = load_model(name, dtype, target)
        height, width = model.config.image_size
        model.reconstruct(torch.zeros(1, 2, 3, height, width))
    except (CheckpointError, ValueError) as error:
        return [*findings, problem(str(error))]
    except Exception as error:  # a driver or an allocator: whatever it is, the node would meet it too
        return [*findings, problem(f"the network does not run on {device}: {type(error).__name__}: {error}")]
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    text = f"checkpoint {resolve_checkpoint(name)}: '{model.config.name}', {size:.1f} million parameters, runs"
    return [*findings, ok(text)]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _own_version() -> str:
    """From package.xml where it is at hand (the source tree and the ROS installation have it), else from pip."""
    for folder in Path(__file__).resolve().parents:
        file = folder / "package.xml"
        if file.is_file():
            return ElementTree.parse(file).getroot().findtext("version") or "of unknown version"
    return _version("vidllm_ros") or "of unknown version"
