"""absT_quaR_FoV: the nine numbers by which the network describes a camera.

Translation (3) and quaternion x, y, z, w (4) of the world-to-camera pose, then the vertical and the horizontal field of
view in radians. Cameras are OpenCV optical; the principal point is the image centre (W / 2, H / 2).
"""

from __future__ import annotations

import torch
from torch import Tensor


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """[..., 4] x, y, z, w of any non-zero length to rotation matrices [..., 3, 3]."""
    x, y, z, w = quaternion.unbind(-1)
    scale = 2.0 / quaternion.square().sum(-1).clamp_min(1e-12)
    rows = [
        1 - scale * (y * y + z * z),
        scale * (x * y - z * w),
        scale * (x * z + y * w),
        scale * (x * y + z * w),
        1 - scale * (x * x + z * z),
        scale * (y * z - x * w),
        scale * (x * z - y * w),
        scale * (y * z + x * w),
        1 - scale * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] to unit quaternions x, y, z, w with w not negative, [..., 4]."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Four candidates, each exact where its own divisor is large; the largest divisor is chosen.
    squares = torch.stack(
        [
            1 + 2 * m[..., 0, 0] - trace,
            1 + 2 * m[..., 1, 1] - trace,
            1 + 2 * m[..., 2, 2] - trace,
            1 + trace,
        ],
        dim=-1,
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], d, e, a], dim=-1),
            torch.stack([d, squares[..., 1], f, b], dim=-1),
            torch.stack([e, f, squares[..., 2], c], dim=-1),
            torch.stack([a, b, c, squares[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.gather(candidates, -2, best).squeeze(-2)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def encode_pose(camera_from_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Poses [..., 3, 4] and pixel intrinsics [..., 3, 3] of ``image_size`` (H, W) images to encodings [..., 9]."""
    height, width = image_size
    rotation = matrix_to_quaternion(camera_from_world[..., :3, :3])
    vertical = 2 * torch.atan2(torch.full_like(intrinsics[..., 1, 1], height / 2), intrinsics[..., 1, 1])
    horizontal = 2 * torch.atan2(torch.full_like(intrinsics[..., 0, 0], width / 2), intrinsics[..., 0, 0])
    return torch.cat([camera_from_world[..., :3, 3], rotation, vertical[..., None], horizontal[..., None]], dim=-1)


def decode_pose(encoding: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Encodings [..., 9] to poses [..., 3, 4] and intrinsics [..., 3, 3] in pixels of ``image_size`` (H, W)."""
    height, width = image_size
    rotation = quaternion_to_matrix(encoding[..., 3:7])
    camera_from_world = torch.cat([rotation, encoding[..., :3, None]], dim=-1)
    # A field of view near 0 or 180 degrees would make the focal length infinite or zero.
    half = (encoding[..., 7:9] / 2).clamp(0.01, 1.55).tan()
    intrinsics = torch.zeros(*encoding.shape[:-1], 3, 3, dtype=encoding.dtype, device=encoding.device)
    intrinsics[..., 0, 0] = width / 2 / half[..., 1]
    intrinsics[..., 1, 1] = height / 2 / half[..., 0]
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return camera_from_world, intrinsics
