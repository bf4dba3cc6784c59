"""Encoder features, computed once for each frame and reused by every window that holds it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.images import fit_image, to_tensor
from vidllm_ros.perception.types import Frame

_BATCH = 8  # frames encoded at once; bounds the memory


class FeatureCache:
    """The features and the network-sized image of every frame that is still of use.

    ``encode`` runs the network and belongs to the thread that owns it; the rest may be called from anywhere.

    Args:
        model: the network.
    """

    def __init__(self, model: VidLLM) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._held: dict[Frame, tuple[Tensor, np.ndarray]] = {}

    def encode(self, frames: Sequence[Frame]) -> int:
        """Encodes those of ``frames`` that are not yet; how many there were."""
        with self._lock:
            missing = [frame for frame in frames if frame not in self._held]
        size = self._model.config.image_size
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            images = [fit_image(frame.rgb, size) for frame in batch]
            tokens = self._model.encode(to_tensor(images, self._model.device))
            with self._lock:
                self._held.update(zip(batch, zip(tokens.unbind(0), images, strict=True), strict=True))
        return len(missing)

    def get(self, frames: Sequence[Frame]) -> tuple[Tensor, np.ndarray]:
        """Features [S, ...] and images uint8 [S, H, W, 3] of encoded frames."""
        with self._lock:
            held = [self._held[frame] for frame in frames]
        return torch.stack([tokens for tokens, _ in held]), np.stack([image for _, image in held])

    def keep_only(self, frames: Iterable[Frame]) -> None:
        """Frees what belongs to other frames."""
        wanted = set(frames)
        with self._lock:
            self._held = {frame: held for frame, held in self._held.items() if frame in wanted}

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)
