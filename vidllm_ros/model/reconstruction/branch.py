"""The reconstruction branch: encoder, adapter, backbone, heads, real scale (paper sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reconstruction.adapter import CrossTaskAdapter
from vidllm_ros.model.reconstruction.backbone import GlobalFrameBackbone
from vidllm_ros.model.reconstruction.camera_head import CameraHead
from vidllm_ros.model.reconstruction.conv_depth import ConvDepthModel
from vidllm_ros.model.reconstruction.depth_head import DepthHead
from vidllm_ros.model.reconstruction.encoder import Encoder
from vidllm_ros.model.reconstruction.metric_depth import MetricDepthModel
from vidllm_ros.model.reconstruction.pose_encoding import decode_pose
from vidllm_ros.model.reconstruction.scale import align_scale


class RelatedFrames(NamedTuple):
    """Frames of a window that have seen each other.

    Attributes:
        encodings: pose encodings [B, S, 9], one per refinement iteration.
        patches: patch tokens [B, S, N, 2C] of the layers that the heads read, in the backbone's precision.
    """

    encodings: tuple[Tensor, ...]
    patches: list[Tensor]

    def of(self, frames: Tensor) -> RelatedFrames:
        """A subset by frame index, int64 [K]."""
        return RelatedFrames(tuple(e[:, frames] for e in self.encodings), [p[:, frames] for p in self.patches])


class ReconstructionModel(nn.Module):
    """Frames to poses, intrinsics and metric depth, and the semantic stream for the reasoning branch."""

    def __init__(self, config: VidLLMConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.encoder.dim
        self.encoder = Encoder(config.encoder, config.image_size)
        self.adapter = CrossTaskAdapter(config.adapter, dim)
        self.backbone = GlobalFrameBackbone(config.backbone, dim)
        self.camera_head = CameraHead(config.camera_head, 2 * dim)
        self.depth_head = DepthHead(config.depth_head, 2 * dim)
        self.metric_depth: MetricDepthModel | ConvDepthModel | None = None
        if config.metric_depth.enabled and config.metric_depth.encoder == "convolutional":
            self.metric_depth = ConvDepthModel(config.metric_depth.convolutional)
        elif config.metric_depth.enabled:
            self.metric_depth = MetricDepthModel(config.metric_depth, dim)

    def set_precision(self, dtype: torch.dtype | None) -> None:
        """Weights of encoder, adapter and backbone to ``dtype`` (None: as they are); the heads to float32.

        Constants, such as the bin centres and the mean colour, are float32 already and are not rounded.
        """
        trunk: tuple[nn.Module, ...] = (self.encoder.dinov2, self.adapter, self.backbone)
        for part in trunk:
            part.to(dtype=dtype)
        for head in (self.camera_head, self.depth_head, self.metric_depth):
            if head is not None:
                head.float()

    def encode(self, images: Tensor) -> Tensor:
        """Frames [F, 3, H, W], RGB in [0, 1], to encoder features [F, L, N, C], each frame on its own."""
        return self.encoder(images)

    def measure(
        self,
        features: Tensor,
        image_size: tuple[int, int],
        images: Tensor | None = None,
        focal: Tensor | None = None,
    ) -> Tensor | None:
        """Metric depth [B, S, H, W] in metres, each frame on its own; None without a metric depth model.

        Args:
            features: [B, S, L, N, C], what a metric depth model on tokens looks at.
            image_size: (H, W).
            images: [B, S, 3, h, w], RGB in [0, 1], of any size: what a convolutional one looks at.
            focal: [B, S] focal lengths in image widths for a convolutional one; NaN or None where they are unknown.
        """
        if self.metric_depth is None:
            return None
        with torch.autocast(features.device.type, enabled=False):
            if isinstance(self.metric_depth, MetricDepthModel):
                return self.metric_depth(features, self._grid(image_size), image_size)
            if images is None:
                raise ValueError(
                    "a convolutional metric depth model looks at images, not tokens: give images, or the metric depth "
                    "that measure made of them"
                )
            known = None if focal is None else focal.flatten()
            depth = self.metric_depth.measure(images.flatten(0, 1).float(), known, image_size)
            return depth.unflatten(0, images.shape[:2])

    def forward(
        self,
        features: Tensor,
        image_size: tuple[int, int],
        metric: Tensor | None = None,
        images: Tensor | None = None,
        focal: Tensor | None = None,
    ) -> GeometryOutput:
        """Reconstruct windows from encoder features.

        Args:
            features: [B, S, L, N, C] as ``encode`` gives them, stacked over frames and windows.
            image_size: (H, W) of the encoded frames in pixels.
            metric: what ``measure`` gives, [B, S, H, W]; computed when not given.
            images: for ``measure``.
            focal: for ``measure``.
        """
        grid = self._grid(image_size)
        if features.ndim != 5 or features.shape[3] != grid[0] * grid[1]:
            raise ValueError(
                f"features of shape {tuple(features.shape)} do not fit [B, S, L, N, C] with N = {grid[0]} * {grid[1]} "
                f"patches of a {image_size[0]} x {image_size[1]} image"
            )
        frames, semantic = self.relate(features, image_size)
        if metric is None:
            metric = self.measure(features, image_size, images, focal)
        return self.predict(frames, semantic, metric, image_size)

    def relate(self, features: Tensor, image_size: tuple[int, int]) -> tuple[RelatedFrames, Tensor]:
        """What needs all frames of a window at once: adapter, backbone and camera head, and the semantic stream."""
        geometry, semantic = self.adapter(features[:, :, -1].to(self.backbone.camera_token.dtype))
        layers = self.backbone(geometry, self._grid(image_size))
        # The heads work in float32: exp of the depth overflows in half precision (VGGT does the same).
        with torch.autocast(features.device.type, enabled=False):
            encodings = self.camera_head(layers[-1][:, :, 0].float())
        return RelatedFrames(encodings, [layer[:, :, self.backbone.special_tokens :] for layer in layers]), semantic

    def predict(
        self, frames: RelatedFrames, semantic: Tensor, metric: Tensor | None, image_size: tuple[int, int]
    ) -> GeometryOutput:
        """Depth, confidence and real scale of the given frames; each frame's maps depend on that frame alone."""
        with torch.autocast(semantic.device.type, enabled=False):
            relative, confidence = self.depth_head(frames.patches, self._grid(image_size), image_size)
            metric = relative if metric is None else metric
            patches = frames.patches[-1].float()
            return self._align(frames.encodings, relative, confidence, metric, semantic, patches, image_size)

    def _grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches."""
        return image_size[0] // self.config.patch_size, image_size[1] // self.config.patch_size

    def _align(
        self,
        encodings: tuple[Tensor, ...],
        relative: Tensor,
        confidence: Tensor,
        metric: Tensor,
        semantic: Tensor,
        patches: Tensor,
        image_size: tuple[int, int],
    ) -> GeometryOutput:
        """Bring depth and translation to metres by one factor per window; rotation and field of view stay."""
        scale, spread = align_scale(relative, metric, confidence, self.config.scale)
        camera_from_world, intrinsics = decode_pose(encodings[-1], image_size)
        rotation, translation = camera_from_world[..., :3], camera_from_world[..., 3:]
        camera_from_world = torch.cat([rotation, translation * scale[:, None, None, None]], dim=-1)
        depth = relative * scale[:, None, None, None] if self.config.scale.align else metric
        return GeometryOutput(
            pose_encoding=encodings[-1],
            pose_encodings=encodings,
            camera_from_world=camera_from_world,
            intrinsics=intrinsics,
            relative_depth=relative,
            confidence=confidence,
            metric_depth=metric,
            scale=scale,
            scale_spread=spread,
            depth=depth,
            semantic_tokens=semantic,
            geometry_tokens=patches,
            patch_size=self.config.patch_size,
        )
