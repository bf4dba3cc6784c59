"""The network's output after bundle adjustment: what questions and boxes see in the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.perception.adjustment.refine import refine
from vidllm_ros.perception.adjustment.tracks import Tracks
from vidllm_ros.perception.config import CameraConfig, RefineConfig
from vidllm_ros.perception.geometry.reconstruct import from_geometry
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.types import Frame, Window


def adjust_cameras(output: GeometryOutput, images: Sequence[np.ndarray]) -> GeometryOutput:
    """The same with cameras and depth adjusted as the node does it by default.

    Args:
        output: for B windows.
        images: for each of them, uint8 [S, H, W, 3] at network resolution.
    """
    cameras, depth = output.camera_from_world.clone(), output.depth.clone()
    for index, window in enumerate(images):
        frames = tuple(Frame(image, stamp) for stamp, image in enumerate(window))
        given = from_geometry(output, Window(frames), window, CameraConfig(), index)
        adjusted = refine(given, Tracks().find(frames, RefineConfig()))
        cameras[index] = torch.from_numpy(invert(adjusted.T_window_camera)[:, :3]).to(cameras)
        depth[index] = torch.from_numpy(adjusted.depth).to(depth)
    return replace(output, camera_from_world=cameras, depth=depth)
