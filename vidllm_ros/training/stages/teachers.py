"""Stage 1's teachers: frozen networks that turn frames into features."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.training.losses.distillation import on_grid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class TeacherError(ValueError):
    """A teacher that cannot be had; one sentence says why."""


class Teacher(Protocol):
    """A frozen network.

    Attributes:
        name: what its cached features are filed under; different for different weights.
        dim: channels of its features.
    """

    name: str
    dim: int

    def features(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Frames [F, 3, H, W], RGB in [0, 1], to features [F, N, C] on a grid of N = rows * columns tokens."""
        ...


class CheckpointTeacher:
    """A checkpoint of ours. Converted from VGGT, its encoder is the paper's geometry teacher.

    Args:
        folder: of the checkpoint.
        stream: ``encoder`` for the encoder's output, ``semantic`` for the adapter's language stream.
        device: where it runs.
    """

    def __init__(self, folder: Path, stream: str = "encoder", device: str = "cpu") -> None:
        if stream not in ("encoder", "semantic"):
            raise TeacherError(f"a checkpoint has no stream {stream!r}; choose encoder or semantic")
        self._network = VidLLM.from_pretrained(folder, device).reconstruction.requires_grad_(False)
        self._stream = stream
        self.dim = self._network.config.encoder.dim
        self.name = f"{stream}-{_fingerprint(folder / 'model.safetensors')}"

    @torch.no_grad()
    def features(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See ``Teacher``."""
        patch = self._network.config.patch_size
        encoded = self._network.encode(images.to(self._network.encoder.mean.device))
        tokens = encoded[:, -1]
        if self._stream == "semantic":
            # Frame by frame: what a teacher says of an image must not depend on what is shown beside it.
            tokens = self._network.adapter(tokens.unsqueeze(1))[1].squeeze(1)
        own = (images.shape[-2] // patch, images.shape[-1] // patch)
        return on_grid(tokens.float(), own, grid).cpu()


class ClipTeacher:
    """The vision tower of a CLIP model in transformers' layout; LLaVA's, and so the paper's, semantic teacher.

    Args:
        source: a folder, or a model id that transformers finds.
        layer: which hidden states to take; the last but one is what LLaVA reads.
        device: where it runs.
    """

    def __init__(self, source: str | Path, layer: int = -2, device: str = "cpu") -> None:
        from transformers import CLIPVisionModel

        try:
            tower = CLIPVisionModel.from_pretrained(str(source), use_safetensors=True)
        except (OSError, ValueError) as error:
            raise TeacherError(
                f"{source} is no CLIP model with safetensors that transformers can read: {error}"
            ) from error
        self._tower = tower.to(device).eval().requires_grad_(False)
        self._layer, self._device = layer, device
        config = tower.config
        self._side, self._patch = config.image_size, config.patch_size
        self.dim = config.hidden_size
        sample = next(tower.parameters()).detach().float().cpu().contiguous()
        digest = hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:16]
        self.name = f"clip-{config.hidden_size}-{config.num_hidden_layers}-{layer}-{digest}"

    @torch.no_grad()
    def features(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See ``Teacher``. The whole frame is squeezed to CLIP's square, so that both grids cover the same view."""
        squared = F.interpolate(images, size=(self._side, self._side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = images.new_tensor(CLIP_MEAN)[:, None, None], images.new_tensor(CLIP_STD)[:, None, None]
        pixels = ((squared - mean) / std).to(self._device)
        states = self._tower(pixel_values=pixels, output_hidden_states=True).hidden_states[self._layer]
        own = self._side // self._patch
        return on_grid(states[:, 1:].float(), (own, own), grid).cpu()


class CachedTeacher:
    """Keeps a teacher's features on disk: a data set is shown many times, and the teachers never change.

    Args:
        teacher: who computes what is not there yet.
        folder: gets ``<teacher>/<sample>.safetensors``, float16.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self._teacher = teacher
        self._folder = folder / teacher.name
        self._folder.mkdir(parents=True, exist_ok=True)
        self.name, self.dim = teacher.name, teacher.dim
        self.computed = 0

    def features(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See ``Teacher``. The key is made of the pixels, so a changed frame is never answered with old features."""
        key = hashlib.sha256(images.mul(255).round().to(torch.uint8).cpu().contiguous().numpy().tobytes())
        key.update(repr((tuple(images.shape), grid)).encode())
        path = self._folder / f"{key.hexdigest()[:32]}.safetensors"
        if path.exists():
            return load_file(path)["features"].float()
        features = self._teacher.features(images, grid)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({"features": features.half().contiguous()}, partial)
        os.replace(partial, path)
        self.computed += 1
        return features.half().float()


def _fingerprint(path: Path) -> str:
    """A short name for a file's contents."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:16]
