"""Reconstruction losses: camera, depth, point map (as VGGT) and the metric depth loss of Eq. 9."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reconstruction.pose_encoding import decode_pose
from vidllm_ros.training.losses.targets import GeometryTargets, unproject
from vidllm_ros.training.processes import in_float32


@dataclass(frozen=True)
class GeometryLossConfig:
    """Weights where the paper is silent; VGGT's released training code is the guide.

    Args:
        camera: weight of the camera loss.
        depth: weight of the depth loss with its confidence and gradient terms.
        points: weight of the point-map loss.
        metric: weight of L_MD.
        confidence_alpha: reward for confidence, ``-alpha * log c``.
        stage_decay: weight of an earlier refinement iteration relative to the next.
        metric_alpha: alpha of Eq. 9.
        metric_epsilon: epsilon of Eq. 9, metres.
    """

    camera: float = 5.0
    depth: float = 1.0
    points: float = 1.0
    metric: float = 1.0
    confidence_alpha: float = 0.2
    stage_decay: float = 0.6
    metric_alpha: float = 1.0
    metric_epsilon: float = 1e-3


def camera_loss(encodings: tuple[Tensor, ...], truth: Tensor, decay: float) -> Tensor:
    """L1 on the pose encoding, averaged over the refinement iterations with ``decay`` per earlier one."""
    total = truth.new_zeros(())
    for i, encoding in enumerate(encodings):
        error = (encoding - truth).abs()
        translation = error[..., :3].clamp(max=100).mean()
        rotation, fov = error[..., 3:7].mean(), error[..., 7:].mean()
        total = total + decay ** (len(encodings) - 1 - i) * (translation + rotation + 0.5 * fov)
    return total / len(encodings)


def trimmed_mean(values: Tensor, quantile: float = 0.98) -> Tensor:
    """Mean without the largest residuals, so that a few impossible pixels do not steer the step."""
    if values.numel() > 1000:
        threshold = values.detach().flatten().kthvalue(int(quantile * values.numel())).values
        values = values[values.detach() <= threshold]
    return values.mean() if values.numel() else values.sum()


def gradient_loss(residual: Tensor, valid: Tensor, strides: tuple[int, ...] = (1, 2, 4, 8)) -> Tensor:
    """L1 of the residual's spatial differences at several strides; [..., H, W] each."""
    total = residual.new_zeros(())
    for stride in strides:
        r, v = residual[..., ::stride, ::stride], valid[..., ::stride, ::stride]
        for dim in (-1, -2):
            n = r.shape[dim]
            both = v.narrow(dim, 1, n - 1) & v.narrow(dim, 0, n - 1)
            difference = (r.narrow(dim, 1, n - 1) - r.narrow(dim, 0, n - 1)).abs().clamp(max=100)
            total = total + (difference * both).sum() / both.sum().clamp_min(1)
    return total / len(strides)


def depth_loss(prediction: Tensor, confidence: Tensor, truth: Tensor, valid: Tensor, alpha: float) -> Tensor:
    """Regression, confidence and gradient terms on relative depth, [..., H, W] each."""
    residual = prediction - truth
    error, c = residual[valid].abs(), confidence[valid]
    return trimmed_mean(error) + (error * c - alpha * c.log()).mean() + gradient_loss(residual, valid)


def metric_depth_loss(prediction: Tensor, truth: Tensor, alpha: float, epsilon: float) -> Tensor:
    """L_MD of Eq. 9, averaged over images.

    Args:
        prediction: [F, H, W] metres.
        truth: [F, H, W] metres, 0 where unknown.
        alpha: down-weights large residuals.
        epsilon: metres, for stability of the logarithms.
    """
    valid = truth > 0
    count = valid.sum(dim=(-2, -1)).clamp_min(1)
    error = torch.where(valid, (prediction + epsilon).log() - (truth.clamp_min(epsilon) + epsilon).log(), 0.0)
    bias = error.sum(dim=(-2, -1)) / count
    local = (error - bias[:, None, None]).abs() * valid
    refinement = (local.square() / (1 + alpha * local)).sum(dim=(-2, -1)) / count
    return (bias.square() + refinement).mean()


@in_float32
def geometry_losses(
    encodings: tuple[Tensor, ...],
    output: GeometryOutput,
    targets: GeometryTargets,
    frames: Tensor,
    config: GeometryLossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_recon + L_MD of Eq. 8 and its unweighted parts by name.

    The point map is the predicted depth carried into the world by the predicted camera, so depth and camera are also
    held together.

    Args:
        encodings: pose encodings [B, S, 9] of all frames, one per refinement iteration.
        output: maps and cameras of those frames that ``frames`` names.
        targets: of all frames.
        frames: int64 [K], indices into the S frames.
        config: weights.
    """
    depth, valid = targets.depth[:, frames], targets.valid[:, frames]
    scale = targets.scale[:, None, None, None]
    camera_from_world, intrinsics = decode_pose(output.pose_encoding, (depth.shape[-2], depth.shape[-1]))
    points = unproject(output.relative_depth, intrinsics, camera_from_world)
    parts = {
        "camera": camera_loss(encodings, targets.pose_encoding, config.stage_decay),
        "depth": depth_loss(output.relative_depth, output.confidence, depth / scale, valid, config.confidence_alpha),
        "points": trimmed_mean((points - targets.points[:, frames]).norm(dim=-1)[valid]),
        "metric": metric_depth_loss(
            output.metric_depth.flatten(0, 1), depth.flatten(0, 1), config.metric_alpha, config.metric_epsilon
        ),
    }
    weights = {"camera": config.camera, "depth": config.depth, "points": config.points, "metric": config.metric}
    total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
    return total, parts
