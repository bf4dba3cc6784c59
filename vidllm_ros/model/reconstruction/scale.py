"""Real-Scale Alignment: metres per relative unit of a window (paper section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidllm_ros.model.config import ScaleConfig

_SAMPLED = 4096  # pixels of an image that its quantiles are taken of, about
_CONFIDENT = 10.0  # medians; beyond, a confidence is a claim that few pixels make
_OUTLYING = 5.0  # standard deviations
_MAD_TO_SIGMA = 1.4826
_LEAST_LIMIT = math.log(1.5)


def image_scales(relative: Tensor, metric: Tensor, confidence: Tensor, weighting: str = "relative") -> Tensor:
    """Robust weighted least-squares factor per image, argmin_s sum w (s d_rel - d_met)^2.

    The weights are the confidences, but no few pixels decide alone: a confidence counts as ten times the image's median
    at most unless a twentieth of the pixels are that confident, and pixels whose ratio of metres to relative depth is
    out of all proportion to the others' do not count.

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
    weight = _robust_weights(relative, metric, confidence.double(), valid)
    if weighting == "relative":
        weight = weight / relative.square()
    numerator = (weight * relative * metric).sum(dim=(-2, -1))
    denominator = (weight * relative.square()).sum(dim=(-2, -1))
    return torch.where(denominator > 0, numerator / denominator, torch.full_like(numerator, float("nan")))


def _robust_weights(relative: Tensor, metric: Tensor, confidence: Tensor, valid: Tensor) -> Tensor:
    """Confidences [S, H, W], capped, and 0 where depth is not valid or its ratio is an outlier."""
    step = max(1, math.isqrt(valid[0].numel() // _SAMPLED))  # quantiles of all pixels would cost more than the fit
    unknown = torch.full_like(confidence, float("nan"))
    logs = torch.where(valid, metric.clamp(min=1e-9) / relative, unknown).log()
    known = torch.where(valid, confidence, unknown)
    sampled = logs[:, ::step, ::step].flatten(1), known[:, ::step, ::step].flatten(1)
    cap = torch.maximum(_CONFIDENT * sampled[1].nanmedian(dim=1).values, sampled[1].nanquantile(0.95, dim=1))
    cap = torch.where(cap.isfinite(), cap, torch.full_like(cap, float("inf")))
    weight = torch.where(valid, torch.minimum(confidence, cap[:, None, None]), torch.zeros_like(confidence))
    votes = torch.minimum(sampled[1], cap[:, None]).nan_to_num(0.0)
    middle = _weighted_median(sampled[0], votes)
    spread = _weighted_median((sampled[0] - middle[:, None]).abs(), votes)
    limit = torch.clamp(_OUTLYING * _MAD_TO_SIGMA * spread, min=_LEAST_LIMIT)
    outlier = (logs - middle[:, None, None]).abs() > limit[:, None, None]  # never where the median is unknown
    return torch.where(outlier, torch.zeros_like(weight), weight)


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """The median [S] of values [S, N] that count by weights [S, N]; NaN where no value has any weight."""
    values, order = values.nan_to_num(float("inf")).sort(dim=1)
    shares = weights.gather(1, order).cumsum(dim=1)
    half = shares[:, -1:] / 2
    median = values.gather(1, (shares < half).sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1))
    return torch.where(half > 0, median, torch.full_like(median, float("nan"))).squeeze(1)


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
