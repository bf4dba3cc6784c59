"""A compact convolutional Metric Depth Model: metres from single frames through a canonical camera.

The paper's Metric Depth Model (section 3.2) decodes the shared encoder's tokens. At nano's size those tokens know too
little of real rooms, so this one brings an encoder of its own: EfficientNet-Lite0 (M. Tan and Q. Le, arXiv 1905.11946;
the "lite" variant has no squeeze-and-excitation), whose public ImageNet weights it can start from, and a light top-down
decoder.

A single image cannot tell a near thing seen by a short lens from a far one seen by a long lens. So the network predicts
depth divided by the focal length in image widths, which depends on the picture alone (the canonical camera of Metric3D,
W. Yin et al., arXiv 2307.10984), and the focal length, known or estimated by a head of its own, turns that into metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: EfficientNet-Lite0's stages: expansion, kernel, stride, output channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_CHANNELS = 32
#: Stages whose outputs the decoder reads, finest first, at strides 2, 4, 8, 16 and 32, and their channels.
TAPS = (0, 1, 2, 4, 6)
TAP_CHANNELS = (16, 24, 40, 112, 320)
#: TensorFlow's batch normalisation, as the public weights were trained.
BATCH_NORM_EPS = 1e-3
#: Where an untrained network begins: an ordinary room's depth over an ordinary lens's focal length, an error of a
#: fifth, and that lens; natural logarithms.
START_CANONICAL, START_SPREAD, START_FOCAL = 1.08, -1.5, -0.2


@dataclass(frozen=True)
class ConvDepthConfig:
    """Sizes of the convolutional Metric Depth Model.

    Args:
        image_size: (height, width) in pixels that frames are brought to.
        features: channels of the decoder's coarse levels.
        fine_features: channels of its finest level, at half the image size.
        min_depth: metres; smaller predictions are cut.
        max_depth: metres; larger predictions are cut.
        told_focal: whether the decoder is told the focal length that is used. Otherwise the network goes by its own
            belief, which is biased for lenses that the real frames it learned from did not have.
    """

    image_size: tuple[int, int] = (84, 112)
    features: int = 64
    fine_features: int = 32
    min_depth: float = 0.05
    max_depth: float = 20.0
    told_focal: bool = True


class ConvDepthOutput(NamedTuple):
    """What the network says of frames, before a camera is known.

    Attributes:
        log_canonical: [F, h, w] natural logarithm of (depth in metres / focal length in image widths).
        log_spread: [F, h, w] logarithm of the expected absolute error of ``log_canonical``.
        log_focal: [F] logarithm of the estimated focal length in image widths.
    """

    log_canonical: Tensor
    log_spread: Tensor
    log_focal: Tensor


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which is lopsided where the stride is 2."""

    def forward(self, x: Tensor) -> Tensor:
        """[F, C, h, w] to [F, C', ceil(h / stride), ceil(w / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        high, wide = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        if high % 2 == 0 and wide % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, stride, (high // 2, wide // 2), 1, self.groups)
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


def conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch normalisation."""
    return nn.Sequential(
        SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS, momentum=0.01),
    )


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; a skip where shapes allow (MobileNetV2's block)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = conv_norm(inputs, wide) if expansion > 1 else None
        self.depthwise = conv_norm(wide, wide, kernel, stride, groups=wide)
        self.project = conv_norm(wide, outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[F, C, h, w] to [F, C', h / stride, w / stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skip else y


class ConvEncoder(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_CHANNELS, 3, 2)
        stages, channels = [], STEM_CHANNELS
        for expansion, kernel, stride, outputs, repeats in STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, outputs, expansion, kernel, stride if index == 0 else 1))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Frames [F, 3, H, W], RGB in [0, 1], to the maps of ``TAPS``, finest first."""
        x = F.relu6(self.stem((images - 127 / 255) * (255 / 128)))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPS:
                maps.append(x)
        return maps


class SeparableUnit(nn.Module):
    """A residual unit of a 5x5 convolution of each channel and one across channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = conv_norm(channels, channels, 5, groups=channels)
        self.pointwise = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[F, C, h, w] to the same shape."""
        return F.relu(x + self.pointwise(F.relu(self.depthwise(x))))


class TopDownDecoder(nn.Module):
    """From the coarsest map to the finest, adding each encoder map on the way.

    The mean over the whole image joins at the coarsest level: how large things are is told by the scene as a whole.
    """

    def __init__(self, features: int, fine_features: int) -> None:
        super().__init__()
        widths = (fine_features, features, features, features, features)
        self.laterals = nn.ModuleList(conv_norm(c, w) for c, w in zip(TAP_CHANNELS, widths, strict=True))
        self.scene = nn.Linear(TAP_CHANNELS[-1], features)
        coarse = [nn.Sequential(conv_norm(features, features, 3), nn.ReLU()) for _ in widths[1:]]
        self.units = nn.ModuleList([SeparableUnit(fine_features), *coarse])
        self.narrow = conv_norm(features, fine_features)

    def forward(self, maps: list[Tensor], lens: Tensor | None = None) -> Tensor:
        """The encoder's maps and ``lens`` [F, features] to [F, fine_features, h, w] at the finest map's size."""
        scene = self.scene(maps[4].mean(dim=(2, 3)))
        x = self.laterals[4](maps[4]) + (scene if lens is None else scene + lens)[:, :, None, None]
        x = self.units[4](F.relu(x))
        for level in (3, 2, 1, 0):
            if level == 0:
                x = self.narrow(x)
            x = F.interpolate(x, size=maps[level].shape[-2:], mode="bilinear", align_corners=False)
            x = self.units[level](F.relu(x + self.laterals[level](maps[level])))
        return x


class ConvDepthModel(nn.Module):
    """Frames to metric depth, each frame on its own."""

    def __init__(self, config: ConvDepthConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvEncoder()
        self.decoder = TopDownDecoder(config.features, config.fine_features)
        self.output = nn.Conv2d(config.fine_features, 2, 3, padding=1)
        self.focal = nn.Sequential(nn.Linear(TAP_CHANNELS[-1], 64), nn.ReLU(), nn.Linear(64, 1))
        self.lens: nn.Module | None = None
        if config.told_focal:
            # The decoder's scene vector and the depth itself; nothing at first, so that it can join a trained network.
            self.lens = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, config.features + 1))
            for value in self.lens[2].parameters():
                nn.init.zeros_(value)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            assert self.output.bias is not None
            self.output.bias.zero_()

    def forward(self, images: Tensor, log_focal: Tensor | None = None) -> ConvDepthOutput:
        """Frames float [F, 3, H, W], RGB in [0, 1], to maps of half their size.

        Args:
            images: of the configured size.
            log_focal: [F] logarithms of known focal lengths in image widths; NaN or None takes the network's estimate.
        """
        maps = self.encoder(images)
        estimate = self.focal(maps[-1].mean(dim=(2, 3))).float()[:, 0] + START_FOCAL
        # Depth does not teach the estimate: only the true focal length does.
        used = estimate.detach() if log_focal is None else torch.where(log_focal.isnan(), estimate.detach(), log_focal)
        lens = None if self.lens is None else self.lens(used[:, None] - START_FOCAL)
        out = self.output(self.decoder(maps, None if lens is None else lens[:, 1:])).float()
        shift = START_CANONICAL if lens is None else START_CANONICAL + lens[:, 0].float()[:, None, None]
        return ConvDepthOutput(out[:, 0] + shift, out[:, 1] + START_SPREAD, estimate)

    def measure(self, images: Tensor, focal: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Metric depth [F, h, w] of frames [F, 3, H, W].

        Args:
            images: RGB in [0, 1]; brought to the configured size if they have another.
            focal: [F] focal lengths in image widths of known cameras; NaN or None takes the network's estimate.
            size: (h, w) of the depth; the images' own when not given.
        """
        shape = (images.shape[-2], images.shape[-1])
        size = size or shape
        if shape != self.config.image_size:
            images = F.interpolate(images, self.config.image_size, mode="bilinear", align_corners=False, antialias=True)
        known = None
        if focal is not None:
            focal = focal.to(images)
            known = torch.where(focal > 0, focal, torch.full_like(focal, torch.nan)).log()
        out = self(images, known)
        used = out.log_focal if known is None else torch.where(known.isnan(), out.log_focal, known)
        log_depth = out.log_canonical[:, None] + used[:, None, None, None]
        depth = F.interpolate(log_depth, size, mode="bilinear", align_corners=False)[:, 0].exp()
        return depth.clamp(self.config.min_depth, self.config.max_depth)
