"""A window through the network and bundle adjustment; with half of its frames when memory does not suffice for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.features import FeatureCache
from vidllm_ros.perception.memory import halved, is_out_of_memory
from vidllm_ros.perception.reconstruct import reconstruct
from vidllm_ros.perception.refine import refine
from vidllm_ros.perception.tracks import Tracks
from vidllm_ros.perception.types import Frame, Reconstruction, Window


@dataclass(frozen=True, eq=False)
class Geometry:
    """What the network made of a window.

    Attributes:
        window: the frames that went through it.
        indices: which of the given window's they are.
        reconstruction: their geometry.
        seconds: encoding what had not been encoded yet, and everything after it.
        left_out: frames for which the memory did not suffice.
        warnings: one sentence when there are any.
    """

    window: Window
    indices: list[int]
    reconstruction: Reconstruction
    seconds: tuple[float, float]
    left_out: tuple[Frame, ...] = ()
    warnings: tuple[str, ...] = ()


def compute_geometry(
    model: VidLLM,
    features: FeatureCache,
    tracks: Tracks,
    window: Window,
    config: PerceptionConfig,
    free: Callable[[], None],
) -> Geometry:
    """Reconstructs a window, and adjusts its cameras to what the images show if ``config.refine`` says so.

    Args:
        model: the network.
        features: what is encoded already.
        tracks: the points that were followed already.
        window: its frames.
        config: everything that can be set.
        free: makes room before the second, smaller try.

    Raises:
        InferenceError: the network returned no geometry.
        MemoryError, torch.OutOfMemoryError: half of the frames were too many too.
    """
    try:
        return _run(model, features, tracks, window, list(range(len(window.frames))), config)
    except Exception as error:
        smaller = halved(window)
        if smaller is None or not is_out_of_memory(error):
            raise
    free()  # not in the handler, which would still hold the tensors of the first try
    less, indices = smaller
    kept = set(less.frames)
    warning = (
        f"the memory did not suffice for {len(window.frames)} frames, so {len(indices)} of them were used; lower "
        f"window.size"
    )
    geometry = _run(model, features, tracks, less, indices, config)
    left_out = tuple(frame for frame in window.frames if frame not in kept)
    return replace(geometry, left_out=left_out, warnings=(warning,))


def _run(
    model: VidLLM,
    features: FeatureCache,
    tracks: Tracks,
    window: Window,
    indices: list[int],
    config: PerceptionConfig,
) -> Geometry:
    started = time.perf_counter()
    seen = features.get(window.frames)
    encoded = time.perf_counter()
    reconstruction = reconstruct(model, window, seen, config.camera)
    if config.refine.enabled:
        reconstruction = refine(reconstruction, tracks.find(window.frames, config.refine))
    return Geometry(window, indices, reconstruction, (encoded - started, time.perf_counter() - encoded))
