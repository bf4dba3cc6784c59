"""Window to metric reconstruction: the network's output as poses and depth one can compute with."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.perception.config import CameraConfig
from vidllm_ros.perception.errors import InferenceError
from vidllm_ros.perception.geometry.features import FrameFeatures
from vidllm_ros.perception.geometry.images import image_to_network
from vidllm_ros.perception.geometry.transforms import invert, nearest_rotation
from vidllm_ros.perception.types import Reconstruction, Window


def reconstruct(model: VidLLM, window: Window, features: FrameFeatures, config: CameraConfig) -> Reconstruction:
    """Runs the reconstruction branch on one window.

    Args:
        model: the network.
        window: its S frames.
        features: of its frames, from ``FeatureCache``.
        config: what to believe about the lens.

    Raises:
        InferenceError: a pose, the scale or every depth is not finite.
        ValueError: the frames differ in size.
    """
    shapes = {frame.rgb.shape for frame in window.frames}
    if len(shapes) != 1:
        raise ValueError(f"a window needs frames of one size, found {sorted(shapes)}")
    geometry = model.reconstruct(
        tokens=features.tokens[None],
        metric_depth=None if features.metric_depth is None else features.metric_depth[None],
        image_size=(features.image.shape[1], features.image.shape[2]),
    )
    return from_geometry(geometry, window, features.image, config)


def from_geometry(
    geometry: GeometryOutput, window: Window, images: np.ndarray, config: CameraConfig, batch: int = 0
) -> Reconstruction:
    """The network's output for one window (entry ``batch``) in perception's conventions.

    Poses become camera-to-window with the first camera as the window frame. The confidence c >= 1 of the depth loss
    (VGGT, arXiv 2503.11651) becomes ``1 - 1/c``, from 0 to 1. A depth that is not finite and positive gets confidence
    0.

    A known camera matrix replaces the estimated one for un-projection; depth and poses stay as the network gave them.
    """
    cameras = _numpy(geometry.camera_from_world[batch]).astype(np.float64)
    intrinsics = _numpy(geometry.intrinsics[batch]).astype(np.float64)
    depth = _numpy(geometry.depth[batch]).astype(np.float32)
    scale, spread = float(geometry.scale[batch]), float(geometry.scale_spread[batch])
    confidence = 1.0 - 1.0 / np.maximum(_numpy(geometry.confidence[batch]).astype(np.float32), 1.0)
    usable = np.isfinite(depth) & (depth > 0) & np.isfinite(confidence)
    for name, fine in (
        ("camera pose", np.isfinite(cameras).all()),
        ("focal length", np.isfinite(intrinsics).all() and (intrinsics[:, [0, 1], [0, 1]] > 0).all()),
        ("scale", np.isfinite(scale) and scale > 0 and np.isfinite(spread)),
        ("depth", usable.any()),
    ):
        if not fine:
            raise InferenceError(
                f"the network returned no usable {name} for the window at {window.frames[0].stamp_ns} ns"
            )
    to_network = image_to_network(window.frames[0].rgb.shape[:2], depth.shape[1:])
    used, ratio = _choose_intrinsics(window, intrinsics, to_network, config)
    return Reconstruction(
        stamps_ns=tuple(frame.stamp_ns for frame in window.frames),
        frame_ids=tuple(frame.frame_id for frame in window.frames),
        T_window_camera=_camera_poses(cameras),
        intrinsics=used,
        depth=np.where(usable, depth, 0).astype(np.float32),
        confidence=np.where(usable, confidence, 0).astype(np.float32),
        rgb=images,
        scale=scale,
        scale_spread=spread,
        semantic_tokens=geometry.semantic_tokens[batch].detach(),
        image_to_network=to_network,
        focal_ratio=ratio,
    )


def _camera_poses(camera_from_world: np.ndarray) -> np.ndarray:
    """[S, 3, 4] world-to-camera to float64 [S, 4, 4] camera-to-window, the first one the identity."""
    poses = np.tile(np.eye(4), (len(camera_from_world), 1, 1))
    poses[:, :3] = camera_from_world
    # The network's rotations are float32; left as they are, their error would grow along the chain of windows.
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
    T_window_camera = poses[0] @ invert(poses)
    T_window_camera[0] = np.eye(4)
    return T_window_camera


def _choose_intrinsics(
    window: Window, estimated: np.ndarray, to_network: np.ndarray, config: CameraConfig
) -> tuple[np.ndarray, float | None]:
    """The matrices to use [S, 3, 3]; the median ratio of estimated to known focal length, None without known ones."""
    used = estimated.copy()
    ratios = []
    for index, frame in enumerate(window.frames):
        if frame.intrinsics is None:
            continue
        known = to_network @ np.asarray(frame.intrinsics, dtype=np.float64)
        ratios.append(estimated[index, [0, 1], [0, 1]] / known[[0, 1], [0, 1]])
        if config.use_known_intrinsics:
            used[index] = known
    return used, float(np.median(ratios)) if ratios else None


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
