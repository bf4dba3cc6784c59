"""The values that travel through perception, one small frozen dataclass per arrow of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from torch import Tensor

from vidllm_ros.model.outputs import Answer, Box3D, SceneTokens

__all__ = [
    "Answer",
    "Box3D",
    "Frame",
    "Reconstruction",
    "ScaleSource",
    "Scene",
    "Timings",
    "Window",
    "WindowResult",
    "WindowStatus",
]


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    Attributes:
        rgb: uint8 [H, W, 3].
        stamp_ns: acquisition time in nanoseconds.
        frame_id: the optical frame it was taken in (x right, y down, z forward).
        intrinsics: float64 [3, 3] in pixels of ``rgb``, or None when unknown.
    """

    rgb: np.ndarray
    stamp_ns: int
    frame_id: str = "camera"
    intrinsics: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive accepted frames that go through the network together.

    Attributes:
        frames: oldest first.
        shared: how many leading frames were also the last frames of the last placed window; 0 when a gap, a clock jump
            or a reset cut the stream, and then the window cannot be stitched by its frames.
    """

    frames: tuple[Frame, ...]
    shared: int = 0


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Metric geometry of one window. ``S`` frames of ``H`` x ``W`` pixels (network resolution).

    Attributes:
        stamps_ns: acquisition times, oldest first.
        frame_ids: the optical frame of each image.
        T_window_camera: float64 [S, 4, 4]; the window frame is the first camera, optical axes, metres.
        intrinsics: float64 [S, 3, 3] pixels at network resolution.
        depth: float32 [S, H, W] metres along the optical axis.
        confidence: float32 [S, H, W] from 0 to 1.
        rgb: uint8 [S, H, W, 3].
        scale: metres per relative unit.
        scale_spread: relative median absolute deviation of the per-image factors.
        semantic_tokens: [S, N, C] T'_lang of each frame, on the model's device.
        image_to_network: float64 [3, 3], homogeneous pixels of ``Frame.rgb`` to network pixels; its inverse brings
            ``intrinsics`` back to the input resolution.
        focal_ratio: estimated over known focal length, the median over the frames; None when none came with a camera
            matrix.
    """

    stamps_ns: tuple[int, ...]
    frame_ids: tuple[str, ...]
    T_window_camera: np.ndarray
    intrinsics: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray
    rgb: np.ndarray
    scale: float
    scale_spread: float
    semantic_tokens: Tensor
    image_to_network: np.ndarray = field(default_factory=lambda: np.eye(3))
    focal_ratio: float | None = None

    @property
    def image_intrinsics(self) -> np.ndarray:
        """Camera matrices in pixels of ``Frame.rgb``, float64 [S, 3, 3]."""
        return np.linalg.inv(self.image_to_network) @ self.intrinsics


class ScaleSource(Enum):
    """Where the metres of a window come from."""

    METRIC = "metric"  # the metric depth model
    EXTERNAL = "external"  # TF or odometry
    UNRELIABLE = "unreliable"  # the per-image factors disagree; read lengths as relative


class WindowStatus(Enum):
    """What became of a window."""

    FIRST = "first"  # started the map (or restarted it after a cut)
    STITCHED = "stitched"  # aligned by its shared frames
    ANCHORED = "anchored"  # placed by an outside pose (TF)
    REJECTED = "rejected"  # its shared frames do not align; not in the map


@dataclass(frozen=True)
class Timings:
    """Seconds one window took.

    Attributes:
        encode: encoding the frames that had not been encoded on arrival.
        reconstruct: adapter, backbone, heads, scale and bundle adjustment.
        fuse: stitching, filtering and the map.
    """

    encode: float = 0.0
    reconstruct: float = 0.0
    fuse: float = 0.0


@dataclass(frozen=True, eq=False)
class Scene:
    """What the language model reads, and where it lies.

    Attributes:
        tokens: 3D patch tokens in the scene frame (z up, origin at the first camera, x along its horizontal view).
        T_map_scene: float64 [4, 4].
        window_id: the window it shows; None for everything seen.
        stamps_ns: first and last acquisition time.
    """

    tokens: SceneTokens
    T_map_scene: np.ndarray
    window_id: int | None
    stamps_ns: tuple[int, int]


@dataclass(frozen=True, eq=False)
class WindowResult:
    """One processed window, ready to publish.

    Attributes:
        window_id: grows by one per processed window, restarts at 0 after a reset.
        window: the input.
        reconstruction: metric geometry in the window frame.
        T_map_window: float64 [4, 4]; map is z up (REP 103). Of a rejected window: where its first camera was placed by
            the window before, unchecked.
        status: how it was placed.
        reason: one sentence when ``status`` is REJECTED, else "".
        scale_source: where the metres come from.
        scale_ratio: metres of the map per metre of this window.
        gravity_source: "tf", "floor", "vertical edges" or "assumed level".
        points: float32 [P, 3] metres in map, filtered by confidence and range, voxel down-sampled, capped.
        colors: uint8 [P, 3].
        point_confidence: float32 [P] from 0 to 1.
        timings: seconds.
        warnings: one sentence for each thing that is doubtful about this window: its scale, its motion, the lens.
    """

    window_id: int
    window: Window
    reconstruction: Reconstruction
    T_map_window: np.ndarray
    status: WindowStatus
    reason: str
    scale_source: ScaleSource
    scale_ratio: float
    gravity_source: str
    points: np.ndarray
    colors: np.ndarray
    point_confidence: np.ndarray
    timings: Timings = field(default_factory=Timings)
    warnings: tuple[str, ...] = ()

    @property
    def T_map_camera(self) -> np.ndarray:
        """Camera poses in map, float64 [S, 4, 4]; translation follows ``scale_ratio``."""
        T_window_camera = self.reconstruction.T_window_camera.copy()
        T_window_camera[:, :3, 3] *= self.scale_ratio
        return self.T_map_window @ T_window_camera
