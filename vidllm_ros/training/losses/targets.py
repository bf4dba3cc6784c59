"""Ground truth of a batch of windows in the network's own terms."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model.reconstruction.pose_encoding import encode_pose
from vidllm_ros.perception.geometry.images import to_tensor
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class GeometryTargets:
    """Geometry of ``B`` windows, world = first camera.

    Attributes:
        images: float32 [B, S, 3, H, W], RGB in [0, 1].
        depth: [B, S, H, W] metres, 0 where unknown.
        camera_from_world: [B, S, 3, 4], translation in metres.
        intrinsics: [B, S, 3, 3] pixels.
        scale: [B] metres per relative unit: the mean distance of all valid points to the first camera (VGGT's
            normalisation).
        pose_encoding: [B, S, 9] in relative units.
        points: [B, S, H, W, 3] world points in relative units.
    """

    images: Tensor
    depth: Tensor
    camera_from_world: Tensor
    intrinsics: Tensor
    scale: Tensor
    pose_encoding: Tensor
    points: Tensor

    def to(self, device: torch.device) -> GeometryTargets:
        """The same on another device."""
        return GeometryTargets(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def valid(self) -> Tensor:
        """Pixels with known depth, bool [B, S, H, W]."""
        return self.depth > 0


def unproject(depth: Tensor, intrinsics: Tensor, camera_from_world: Tensor) -> Tensor:
    """World points of every pixel (Eq. 3 with integer pixel coordinates).

    Args:
        depth: [..., H, W].
        intrinsics: [..., 3, 3].
        camera_from_world: [..., 3, 4].

    Returns:
        [..., H, W, 3].
    """
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device, dtype=depth.dtype),
        torch.arange(width, device=depth.device, dtype=depth.dtype),
        indexing="ij",
    )
    k = intrinsics[..., None, None, :, :]
    x = (u - k[..., 0, 2]) / k[..., 0, 0] * depth
    y = (v - k[..., 1, 2]) / k[..., 1, 1] * depth
    camera_points = torch.stack([x, y, depth], dim=-1)
    rotation, translation = camera_from_world[..., :3], camera_from_world[..., 3]
    return torch.einsum("...ji,...hwj->...hwi", rotation, camera_points - translation[..., None, None, :])


def stacked_images(samples: list[Sample]) -> Tensor:
    """Frames of windows of equal frame count and size, float32 [B, S, 3, H, W], RGB in [0, 1]."""
    frames = to_tensor([frame for sample in samples for frame in sample.rgb], torch.device("cpu"))
    return frames.unflatten(0, (len(samples), -1))


def geometry_targets(samples: list[Sample]) -> GeometryTargets:
    """Stack samples of equal frame count and size; raises ValueError for a window without any valid depth."""
    images = stacked_images(samples)
    depth = torch.from_numpy(np.stack([s.depth for s in samples]))
    intrinsics = torch.from_numpy(np.stack([s.intrinsics for s in samples]))
    T_world_camera = np.stack([s.T_world_camera for s in samples])
    T_camera_first = np.linalg.inv(T_world_camera) @ T_world_camera[:, :1]
    camera_from_world = torch.from_numpy(T_camera_first[:, :, :3])
    points = unproject(depth.double(), intrinsics, camera_from_world)
    valid = depth > 0
    counts = valid.sum(dim=(1, 2, 3))
    for sample, count in zip(samples, counts.tolist(), strict=True):
        if count == 0:
            raise ValueError(f"sample {sample.name} has no pixel with known depth")
    scale = (points.norm(dim=-1) * valid).sum(dim=(1, 2, 3)) / counts
    relative = camera_from_world.clone()
    relative[..., 3] /= scale[:, None, None]
    return GeometryTargets(
        images=images,
        depth=depth,
        camera_from_world=camera_from_world.float(),
        intrinsics=intrinsics.float(),
        scale=scale.float(),
        pose_encoding=encode_pose(relative, intrinsics, (depth.shape[-2], depth.shape[-1])).float(),
        points=(points / scale[:, None, None, None, None]).float(),
    )
