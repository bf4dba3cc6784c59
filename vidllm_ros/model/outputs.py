"""What the network returns: geometry, boxes and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GeometryOutput:
    """The reconstruction branch's result for a batch of windows.

    Cameras are OpenCV optical (x right, y down, z forward) and the world is the first camera of each window. ``B``
    windows of ``S`` frames of ``H`` x ``W`` pixels, ``N`` patches per frame, ``C`` channels.

    Attributes:
        pose_encoding: [B, S, 9] raw network encoding absT_quaR_FoV, in relative units: translation (3), quaternion
            x y z w (4), vertical and horizontal field of view in radians (2).
        pose_encodings: one [B, S, 9] for each refinement iteration, the last equal to ``pose_encoding``.
        camera_from_world: [B, S, 3, 4] world-to-camera poses, translation in metres (scale applied).
        intrinsics: [B, S, 3, 3] pixels, principal point at the image centre.
        relative_depth: [B, S, H, W] in relative units, positive.
        confidence: [B, S, H, W], at least 1; larger is surer.
        metric_depth: [B, S, H, W] metres, from the metric bins alone.
        scale: [B] metres per relative unit.
        scale_spread: [B] relative median absolute deviation of the per-image scale factors.
        depth: [B, S, H, W] metres, ``relative_depth * scale``; the depth to use.
        semantic_tokens: [B, S, N, C] the adapter's language stream T'_lang, patches row-major.
        geometry_tokens: [B, S, N, D] the backbone's last patch tokens.
        patch_size: pixels along one side of a patch.
    """

    pose_encoding: Tensor
    pose_encodings: tuple[Tensor, ...]
    camera_from_world: Tensor
    intrinsics: Tensor
    relative_depth: Tensor
    confidence: Tensor
    metric_depth: Tensor
    scale: Tensor
    scale_spread: Tensor
    depth: Tensor
    semantic_tokens: Tensor
    geometry_tokens: Tensor
    patch_size: int


@dataclass(frozen=True)
class SceneTokens:
    """3D patch tokens T_3D (Eq. 4) of one scene, pooled to a token budget; the input of the language model.

    The scene frame has z up and its origin at the scene's first camera centre; x is that camera's horizontal viewing
    direction.

    Attributes:
        features: [T, C] fused semantic and position features.
        positions: [T, 3] metres in the scene frame.
    """

    features: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Box3D:
    """An oriented box.

    Attributes:
        center: [3] metres, in the frame its holder names.
        size: [3] full edge lengths in metres along the box's own axes.
        rotation: [3, 3] box axes to the holder's frame; a turn about z unless said otherwise.
        label: what it is, in words.
        score: 0 to 1.
    """

    center: np.ndarray
    size: np.ndarray
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    label: str = ""
    score: float = 1.0

    def corners(self) -> np.ndarray:
        """The eight corners, [8, 3] metres in the holder's frame."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
        return self.center + (signs * np.asarray(self.size) / 2) @ np.asarray(self.rotation).T


@dataclass(frozen=True)
class Answer:
    """A reply in plain language.

    Attributes:
        text: the reply.
        boxes: boxes the reply refers to; in the scene frame from the model, in the map frame from ``perception``.
        confidence: mean probability of the chosen tokens, 0 to 1.
        token_count: tokens generated.
        window_id: the window that was asked; None when the model was asked directly or everything seen was used.
        finished: False when generation was cancelled.
    """

    text: str
    boxes: tuple[Box3D, ...] = ()
    confidence: float = 0.0
    token_count: int = 0
    window_id: int | None = None
    finished: bool = True
