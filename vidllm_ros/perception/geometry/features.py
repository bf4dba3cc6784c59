"""What the network finds in each frame alone, computed once and reused by every window that holds the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.geometry.frame_cache import FrameCache
from vidllm_ros.perception.geometry.images import fit_image, to_tensor
from vidllm_ros.perception.types import Frame

_BATCH = 8  # frames encoded at once; bounds the memory


class FrameFeatures(NamedTuple):
    """What is known of frames before they see each other: of one frame, or with a leading S of several.

    Attributes:
        tokens: encoder features [L, N, C].
        metric_depth: [H, W] metres; None for a network without it.
        image: uint8 [H, W, 3], the image at network resolution.
    """

    tokens: Tensor
    metric_depth: Tensor | None
    image: np.ndarray


class FeatureCache(FrameCache[FrameFeatures]):
    """The features of every frame that is still of use.

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

    def get(self, frames: Sequence[Frame]) -> FrameFeatures:
        """The features of ``frames``, stacked, encoding those that are not yet."""
        held, _ = self._look_up(frames)
        tokens, depths, images = zip(*(held[frame] for frame in frames), strict=True)
        metric_depth = None if depths[0] is None else torch.stack(depths)
        return FrameFeatures(torch.stack(tokens), metric_depth, np.stack(images))

    def _look_up(self, frames: Sequence[Frame]) -> tuple[dict[Frame, FrameFeatures], int]:
        """What is held of ``frames``, all of them encoded, and how many had to be."""
        found = self.held(frames)
        missing = [frame for frame in frames if frame not in found]
        size = self._model.config.image_size
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            images = [fit_image(frame.rgb, size) for frame in batch]
            tokens = self._model.encode(to_tensor(images, self._model.device))
            depths = self._model.measure(tokens)
            # Copies, because a part of a batch would keep all of it in memory.
            fresh = {
                frame: FrameFeatures(tokens[i].clone(), None if depths is None else depths[i].clone(), images[i])
                for i, frame in enumerate(batch)
            }
            found.update(fresh)
            self.hold(fresh)
        return found, len(missing)
