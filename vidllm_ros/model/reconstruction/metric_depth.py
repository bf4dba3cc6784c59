"""Metric Depth Model: metres from bins with per-pixel refined centres (paper section 3.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidllm_ros.model.config import MetricDepthConfig
from vidllm_ros.model.reconstruction.dpt import DPTDecoder

PROBABILITY_MARGIN = 1e-4
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.0212, 50.0  # ZoeDepth's limits


def log_binomial(probability: Tensor, temperature: Tensor, bins: int) -> Tensor:
    """The ordinal-aware normalisation: bin probabilities of a binomial, sharpened by a temperature.

    Unimodal over the bins, so neighbouring depths share mass. Computed with exact log-gamma coefficients.

    Args:
        probability: [F, 1, h, w] in (0, 1); the mode lies near ``probability * (bins - 1)``.
        temperature: [F, 1, h, w], positive; below 1 sharpens.
        bins: number of bins N.

    Returns:
        [F, N, h, w], summing to 1 over the bins.
    """
    k = torch.arange(bins, device=probability.device, dtype=probability.dtype)
    n = float(bins - 1)
    log_choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    k, log_choose = k[:, None, None], log_choose[:, None, None]
    p = probability.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    logits = (log_choose + k * p.log() + (n - k) * (1 - p).log()) / temperature
    return logits.softmax(dim=1)


def base_centres(bins: int, min_depth: float, max_depth: float) -> tuple[Tensor, Tensor]:
    """Log-spaced bin centres c_k and half bin widths, each [N] metres."""
    edges = torch.linspace(math.log(min_depth), math.log(max_depth), bins + 1, dtype=torch.float64).exp()
    centres = (edges[:-1] * edges[1:]).sqrt()
    half_widths = torch.minimum(centres - edges[:-1], edges[1:] - centres)
    return centres.float(), half_widths.float()


class MetricDepthModel(nn.Module):
    """DPT-style decoder on encoder features, then depth = sum_k p(k) c(k) per pixel.

    Each centre is c_k plus a residual predicted from the decoder's features, bounded to stay inside its bin, so that
    the centres stay ascending. Works frame by frame, so a frame's result can be kept.
    """

    centres: Tensor
    half_widths: Tensor

    def __init__(self, config: MetricDepthConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = DPTDecoder(dim, config.features, config.channels, upsample_last=False)
        self.residual = nn.Conv2d(config.features, config.bins, 1)
        outputs = 4 if config.normalization == "log_binomial" else config.bins
        self.hidden = nn.Conv2d(config.features, config.features, 1)
        self.distribution = nn.Conv2d(config.features, outputs, 1)
        centres, half_widths = base_centres(config.bins, config.min_depth, config.max_depth)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("half_widths", half_widths, persistent=False)

    def forward(self, features: Tensor, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
        """Encoder features [B, S, L, N, C] to metric depth [B, S, H, W] in metres."""
        b, s = features.shape[:2]
        chunks = features.flatten(0, 1).split(self.config.frames_chunk)
        depth = torch.cat([self._decode(chunk, grid) for chunk in chunks])
        depth = F.interpolate(depth, size=image_size, mode="bilinear", align_corners=False)
        return depth.squeeze(1).unflatten(0, (b, s))

    def _decode(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        probabilities, centres = self.bins(features, grid)
        return (probabilities * centres).sum(dim=1, keepdim=True)

    def bins(self, features: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Bin probabilities and refined centres (metres) of frames [F, L, N, C], each [F, bins, h, w]."""
        # With fewer kept layers than pyramid levels the last one serves the remaining levels.
        layers = list(features.to(self.hidden.weight.dtype).unbind(1))
        layers += [layers[-1]] * (4 - len(layers))
        x = F.relu(self.decoder(layers[-4:], grid))
        centres = self.centres[:, None, None] + self.residual(x).tanh() * self.half_widths[:, None, None]
        out = self.distribution(F.gelu(self.hidden(x)))
        if self.config.normalization == "softmax":
            return out.softmax(dim=1), centres
        p0, p1, t0, t1 = (F.softplus(out) + PROBABILITY_MARGIN).chunk(4, dim=1)
        temperature = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * t0 / (t0 + t1)
        return log_binomial(p0 / (p0 + p1), temperature, self.config.bins), centres
