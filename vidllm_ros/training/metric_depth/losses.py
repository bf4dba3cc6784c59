"""Losses of the convolutional Metric Depth Model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthOutput

#: Weights of the parts, and how many times the gradient loss halves its map.
SHAPE_WEIGHT, GRADIENT_WEIGHT, SPREAD_WEIGHT, FOCAL_WEIGHT = 0.5, 0.5, 0.1, 0.2
GRADIENT_SCALES = 3


def depth_loss(out: ConvDepthOutput, depth: Tensor, focal: Tensor) -> tuple[Tensor, dict[str, float]]:
    """How far a batch's depth lies from the truth.

    Args:
        out: of the network.
        depth: [F, h, w] metres at the size of the network's maps, 0 where unknown.
        focal: [F] true focal lengths in image widths.

    Returns:
        The loss, and values to log: ``metric``, the mean absolute error of log depth; ``shape``, the same after each
        image's own mean error is taken off; ``gradient``, that of neighbouring pixels' differences; ``spread``, the
        negative log-likelihood of the error under the predicted Laplace spread; ``focal``, the error of the estimated
        log focal length.
    """
    valid = depth > 0
    target = torch.where(valid, depth, torch.ones_like(depth)).log() - focal.log()[:, None, None]
    error = torch.where(valid, out.log_canonical - target, torch.zeros_like(target))
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    metric = (error.abs().sum(dim=(1, 2)) / count).mean()
    offset = (error.sum(dim=(1, 2)) / count)[:, None, None]
    shape = (((error - offset).abs() * valid).sum(dim=(1, 2)) / count).mean()
    gradient = gradient_loss(error, valid)
    # The spread learns from the errors; the errors do not learn from it, or hard pixels would be given up.
    likelihood = error.detach().abs() * (-out.log_spread).exp() + out.log_spread
    spread = ((likelihood * valid).sum(dim=(1, 2)) / count).mean()
    focal_error = (out.log_focal - focal.log()).abs().mean()
    loss = (
        metric + SHAPE_WEIGHT * shape + GRADIENT_WEIGHT * gradient + SPREAD_WEIGHT * spread + FOCAL_WEIGHT * focal_error
    )
    parts = {"metric": metric, "shape": shape, "gradient": gradient, "spread": spread, "focal": focal_error}
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def gradient_loss(error: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring errors [F, h, w] at several scales (MegaDepth, arXiv 1804.00607)."""
    total = error.new_zeros(())
    known = valid.float()
    for scale in range(GRADIENT_SCALES):
        if scale > 0:
            # Means over the known pixels of each square.
            share = F.avg_pool2d(known[:, None], 2)[:, 0]
            error = F.avg_pool2d(error[:, None], 2)[:, 0] / share.clamp(min=1e-6)
            known = (share > 0.49).float()
            error = error * known
        for axis in (1, 2):
            steps = error.shape[axis] - 1
            both = known.narrow(axis, 1, steps) * known.narrow(axis, 0, steps)
            change = (error.narrow(axis, 1, steps) - error.narrow(axis, 0, steps)).abs()
            total = total + (change * both).sum() / both.sum().clamp(min=1)
    return total / GRADIENT_SCALES
