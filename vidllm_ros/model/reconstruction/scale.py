"""Real-Scale Alignment: metres per relative unit of a window (paper section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from vidllm_ros.model.config import ScaleConfig


def image_scales(relative: Tensor, metric: Tensor, confidence: Tensor, weighting: str = "relative") -> Tensor:
    """Weighted least-squares factor per image, argmin_s sum w (s d_rel - d_met)^2.

    Args:
        relative: [S, H, W] relative depth, positive.
        metric: [S, H, W] metric depth in metres.
        confidence: [S, H, W] weights, at least 1.
        weighting: ``relative`` divides the weights by the squared relative depth, so near and far pixels count alike;
            ``absolute`` leaves them, and far pixels dominate.

    Returns:
        [S] metres per relative unit; NaN for an image without a valid pixel.
    """
    valid = (relative > 0) & relative.isfinite() & (metric > 0) & metric.isfinite()
    relative = torch.where(valid, relative, torch.ones_like(relative)).double()
    metric = torch.where(valid, metric, torch.zeros_like(metric)).double()
    weight = torch.where(valid, confidence, torch.zeros_like(confidence)).double()
    if weighting == "relative":
        weight = weight / relative.square()
    numerator = (weight * relative * metric).sum(dim=(-2, -1))
    denominator = (weight * relative.square()).sum(dim=(-2, -1))
    return torch.where(denominator > 0, numerator / denominator, torch.full_like(numerator, float("nan")))


def align_scale(relative: Tensor, metric: Tensor, confidence: Tensor, config: ScaleConfig) -> tuple[Tensor, Tensor]:
    """Scene scale: the median of the per-image factors over randomly drawn images.

    Args:
        relative: [B, S, H, W] relative depth.
        metric: [B, S, H, W] metres.
        confidence: [B, S, H, W].
        config: how many images, which weights, which seed.

    Returns:
        (scale [B] in metres per relative unit, spread [B]: median absolute deviation of the factors over their median).
        An even count takes the mean of the two middle factors. With no usable image the scale is 1 and the spread
        infinite.
    """
    scales, spreads = [], []
    frames = relative.shape[1]
    for window in range(len(relative)):
        chosen = torch.arange(frames)
        if 0 < config.frames < frames:
            generator = torch.Generator().manual_seed(config.seed)
            chosen = torch.randperm(frames, generator=generator)[: config.frames].sort().values
        chosen = chosen.to(relative.device)
        factors = image_scales(
            relative[window, chosen], metric[window, chosen], confidence[window, chosen], config.weighting
        )
        factors = factors[factors.isfinite() & (factors > 0)]
        if len(factors) == 0:
            scales.append(factors.new_tensor(1.0))
            spreads.append(factors.new_tensor(float("inf")))
            continue
        median = factors.quantile(0.5)
        scales.append(median)
        spreads.append((factors - median).abs().quantile(0.5) / median)
    return torch.stack(scales).to(relative.dtype), torch.stack(spreads).to(relative.dtype)
