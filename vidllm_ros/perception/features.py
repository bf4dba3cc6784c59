"""Encoder features, computed once for each frame and reused by every window that holds it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.frame_cache import FrameCache
from vidllm_ros.perception.images import fit_image, to_tensor
from vidllm_ros.perception.types import Frame

_BATCH = 8  # frames encoded at once; bounds the memory


class FeatureCache(FrameCache[tuple[Tensor, np.ndarray]]):
    """The features and the network-sized image of every frame that is still of use.

    ``encode`` runs the network and belongs to the thread that owns it; the rest may be called from anywhere.

    Args:
        model: the network.
    """

    def __init__(self, model: VidLLM) -> None:
        super().__init__()
        self._model = model

    def encode(self, frames: Sequence[Frame]) -> int:
        """Encodes those of ``frames`` that are not yet; how many there were."""
        return self._look_up(frames)[1]

    def get(self, frames: Sequence[Frame]) -> tuple[Tensor, np.ndarray]:
        """Features [S, ...] and images uint8 [S, H, W, 3] of ``frames``, encoding those that are not yet."""
        held, _ = self._look_up(frames)
        return torch.stack([held[frame][0] for frame in frames]), np.stack([held[frame][1] for frame in frames])

    def _look_up(self, frames: Sequence[Frame]) -> tuple[dict[Frame, tuple[Tensor, np.ndarray]], int]:
        """What is held of ``frames``, all of them encoded, and how many had to be."""
        found = self.held(frames)
        missing = [frame for frame in frames if frame not in found]
        size = self._model.config.image_size
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            images = [fit_image(frame.rgb, size) for frame in batch]
            tokens = self._model.encode(to_tensor(images, self._model.device))
            fresh = dict(zip(batch, zip((t.clone() for t in tokens), images, strict=True), strict=True))
            found.update(fresh)
            self.hold(fresh)
        return found, len(missing)
