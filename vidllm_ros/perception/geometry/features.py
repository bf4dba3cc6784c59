"""What the network finds in each frame alone, computed once and reused by every window that holds the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.geometry.frame_cache import FrameCache
from vidllm_ros.perception.geometry.images import fit_image, image_to_network, to_tensor
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
        use_known_cameras: whether a network that measures depth by the focal length gets that of known cameras.
    """

    def __init__(self, model: VidLLM, use_known_cameras: bool = True) -> None:
        super().__init__()
        self._model, self._use_known_cameras = model, use_known_cameras

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
            depths = self._measure(batch, tokens)
            # Copies, because a part of a batch would keep all of it in memory.
            fresh = {
                frame: FrameFeatures(tokens[i].clone(), None if depths is None else depths[i].clone(), images[i])
                for i, frame in enumerate(batch)
            }
            found.update(fresh)
            self.hold(fresh)
        return found, len(missing)

    def _measure(self, frames: list[Frame], tokens: Tensor) -> Tensor | None:
        """Metric depth [F, H, W] of frames; they are shown to networks that look at more than tokens."""
        size = self._model.measured_size
        if size is None:
            return self._model.measure(tokens)
        images = to_tensor([fit_image(frame.rgb, size) for frame in frames], self._model.device)
        focal = torch.full((len(frames),), torch.nan)
        for index, frame in enumerate(frames):
            if frame.intrinsics is not None and self._use_known_cameras:
                fitted = image_to_network(frame.rgb.shape[:2], size) @ np.asarray(frame.intrinsics, dtype=np.float64)
                focal[index] = float(fitted[0, 0]) / size[1]
        return self._model.measure(tokens, images=images, focal=focal)
