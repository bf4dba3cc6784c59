"""The network's depth or cameras replaced by what is true, to see what the rest of perception makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidllm_ros.evaluation.recordings.clips import Clip
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.types import Reconstruction, Window

# Of depth sensors within a room: what is called true is a per cent off.
_SENSOR = {"depth": 0.01, "depth_frame": 0.004}
# Of motion capture from frame to frame, and of a start that knows nothing.
_TRUE_MOTION = {"rotation_deg": 0.2, "translation": 0.005}
_NO_MOTION = {"rotation_deg": 60.0, "translation": 2.0}
TRUE_CONFIDENCE = 0.95  # of a pixel whose true depth is known


class ReplacedParts:
    """What a pipeline does to the network's reconstruction of each window before it adjusts it.

    Args:
        clip: what is true.
        depth: "network" or "truth".
        start: the cameras: "network", "truth", or "identity", which says that the camera never moved.
    """

    def __init__(self, clip: Clip, depth: str, start: str) -> None:
        self._clip = clip
        self._depth = depth
        self._start = start
        self._frames = {frame.stamp_ns: frame for frame in clip.frames}

    def __call__(self, window: Window, reconstruction: Reconstruction) -> Reconstruction:
        """The same with the parts replaced."""
        frames = [self._frames[frame.stamp_ns] for frame in window.frames]
        if self._start == "identity":
            poses = np.tile(np.eye(4), (len(frames), 1, 1))
            noise = replace(reconstruction.noise, **_NO_MOTION)
            reconstruction = replace(reconstruction, T_window_camera=poses, noise=noise)
        elif self._start == "truth":
            world = np.stack([frame.T_world_camera for frame in frames])
            noise = replace(reconstruction.noise, **_TRUE_MOTION)
            reconstruction = replace(reconstruction, T_window_camera=invert(world[0]) @ world, noise=noise)
        if self._depth == "truth":
            shape = reconstruction.depth.shape[1:]
            to_image = np.linalg.inv(reconstruction.image_to_network)
            depth = np.stack([sampled(self._clip.depth(frame), shape, to_image) for frame in frames])
            reconstruction = replace(
                reconstruction,
                depth=depth,
                confidence=np.where(depth > 0, TRUE_CONFIDENCE, 0).astype(np.float32),
                scale=1.0,
                scale_spread=0.0,
                noise=replace(reconstruction.noise, **_SENSOR),
            )
        return reconstruction


def sampled(depth: np.ndarray, shape: tuple[int, int], to_image: np.ndarray) -> np.ndarray:
    """Depth float32 [H, W] at the centres of a network's pixels, [h, w]: the nearest one, 0 where there is none.

    Args:
        depth: metres.
        shape: (h, w).
        to_image: float64 [3, 3], network pixels to image pixels.
    """
    u = np.rint(to_image[0, 0] * np.arange(shape[1]) + to_image[0, 2]).astype(int)
    v = np.rint(to_image[1, 1] * np.arange(shape[0]) + to_image[1, 2]).astype(int)
    u, v = u.clip(0, depth.shape[1] - 1), v.clip(0, depth.shape[0] - 1)
    return np.ascontiguousarray(depth[np.ix_(v, u)], dtype=np.float32)
