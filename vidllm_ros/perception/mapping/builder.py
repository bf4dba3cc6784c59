"""Decides where each window belongs, and keeps what was placed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.geometry.transforms import compose, invert, rotation_about, scale_translation
from vidllm_ros.perception.mapping.anchoring import place_by_poses
from vidllm_ros.perception.mapping.cloud import PointCloud, empty_cloud, window_cloud
from vidllm_ros.perception.mapping.gravity import find_gravity, level_pose
from vidllm_ros.perception.mapping.map import CameraPath, VoxelMap
from vidllm_ros.perception.mapping.scene_memory import SceneMemory
from vidllm_ros.perception.mapping.stitching import Alignment, Placement, align_window
from vidllm_ros.perception.types import Frame, Reconstruction, ScaleSource, Window, WindowStatus


@dataclass(frozen=True, eq=False)
class Decision:
    """Where a window was placed and why.

    Attributes:
        placement: in the map; of a rejected window unchecked, continued from the window before.
        status: how it was placed.
        reason: why it was rejected, else "".
        scale_source: where the metres come from.
        gravity_source: where the map's upward direction comes from.
        warnings: what is doubtful.
    """

    placement: Placement
    status: WindowStatus
    reason: str
    scale_source: ScaleSource
    gravity_source: str
    warnings: tuple[str, ...]


class MapBuilder:
    """The map, the path, the last windows and the memory of everything seen.

    A map begins with a window that nothing ties to an earlier one. It begins again, and the old one is dropped, when
    the stream was cut and no outside pose bridges the cut, when ``stitch.max_rejections`` windows in a row did not
    align and the next one does not either, and when outside poses appear for the first time, because their frame is
    another one. Coordinates are therefore comparable from one window of status FIRST (or from the first ANCHORED one)
    to the next.

    Not locked; its owner is.
    """

    def __init__(self, model: VidLLM, config: PerceptionConfig) -> None:
        self.path = CameraPath(config.path.max_poses)
        self.voxels = VoxelMap(config.map)
        self.memory = SceneMemory(model)
        self.history: deque[tuple[int, Placement]] = deque(maxlen=config.window.history)
        self._last_frames: tuple[Frame, ...] = ()
        self.configure(config)
        self.clear()

    def configure(self, config: PerceptionConfig) -> None:
        """Other values from the next window on."""
        self._config = config
        self.path.resize(config.path.max_poses)
        self.voxels.resize(config.map)
        self.history = deque(self.history, maxlen=config.window.history)

    def clear(self) -> None:
        """Forgets everything."""
        self.path.clear()
        self.voxels.clear()
        self.memory.clear()
        self.history.clear()
        self._last_frames = ()
        self._rejections = 0
        self._anchored = False
        self._scale_known = False
        self._gravity_source = ""
        self._tilt_deviation = 0.0

    def place(
        self,
        window: Window,
        reconstruction: Reconstruction,
        T_map_cameras: np.ndarray | None = None,
        up_camera: np.ndarray | None = None,
    ) -> Decision:
        """Finds the place of a window, restarting the map where it must, and remembers the decision.

        Args:
            window: its frames.
            reconstruction: its geometry.
            T_map_cameras: outside poses [S, 4, 4], rows of NaN where unknown; or None.
            up_camera: upward direction [3] in the first camera's optical frame, when known from outside.
        """
        own_scale = reconstruction.scale_spread <= self._config.scale.max_spread
        warnings = window_warnings(reconstruction, self._config)
        source = ScaleSource.METRIC if own_scale else ScaleSource.UNRELIABLE
        status, reason = WindowStatus.REJECTED, ""
        if T_map_cameras is not None:
            if not self._anchored:
                self.clear()
            anchor = place_by_poses(reconstruction, T_map_cameras, self._config)
            placement, reason = anchor.placement, anchor.problem
            self._anchored, self._gravity_source = True, "tf"
            if not reason:
                status = WindowStatus.ANCHORED
                source = ScaleSource.EXTERNAL if anchor.external_scale else source
                self._scale_known = source is not ScaleSource.UNRELIABLE
        else:
            pairs = self._shared_frames(window)
            alignment = self._align(reconstruction, pairs, own_scale)
            if alignment is not None and not alignment.problem:
                status = WindowStatus.STITCHED
                placement = Placement(reconstruction, alignment.T_map_window, alignment.scale_ratio)
                if own_scale and not self._scale_known:
                    placement = self._adopt_scale(placement)
                    warnings += ("the map was rescaled to this window, the first one with a reliable scale",)
            elif alignment is not None and self._rejections < self._config.stitch.max_rejections:
                placement, reason = self._continued(reconstruction, pairs[0]), alignment.problem
            else:
                if alignment is not None:
                    warnings += (f"the map starts again: {alignment.problem}",)
                status, placement = WindowStatus.FIRST, self._begin(window, reconstruction, up_camera)
                self._scale_known = own_scale
            if status is WindowStatus.STITCHED:
                placement, turned = self._level(window, placement)
                warnings += (
                    (f"the map was turned by {turned:.1f} degrees towards the vertical",) if turned > 0.5 else ()
                )
            if self._gravity_source == "assumed level":
                warnings = (_TILTED, *warnings)
        if source is ScaleSource.METRIC and not self._scale_known:
            source = ScaleSource.UNRELIABLE
        self._rejections = self._rejections + 1 if status is WindowStatus.REJECTED else 0
        return Decision(placement, status, reason, source, self._gravity_source, warnings)

    def add(self, window_id: int, window: Window, decision: Decision) -> PointCloud:
        """Takes a placed window into map, path, memory and history; its points. A rejected one leaves no trace."""
        if decision.status is WindowStatus.REJECTED:
            return empty_cloud()
        placement = decision.placement
        cloud = window_cloud(
            placement.reconstruction, placement.T_map_window, placement.scale_ratio, self._config.cloud
        )
        start = min(window.shared, len(window.frames)) if self.history else 0
        if self._config.map.enabled:
            self.voxels.add(cloud)
        self.path.add(placement, start)
        self.memory.add(placement, start)
        self.history.append((window_id, placement))
        self._last_frames = window.frames
        return cloud

    def _begin(self, window: Window, reconstruction: Reconstruction, up_camera: np.ndarray | None) -> Placement:
        self.clear()
        gravity = find_gravity(reconstruction, self._config.gravity, self._config.cloud, up_camera, window.frames)
        self._gravity_source, self._tilt_deviation = gravity.source, gravity.deviation
        return Placement(reconstruction, level_pose(gravity.up))

    def _shared_frames(self, window: Window) -> list[tuple[int, int]]:
        """(index in ``window``, index in the last placed window) of the frames both hold."""
        places = {frame: index for index, frame in enumerate(self._last_frames)}
        return [(index, places[frame]) for index, frame in enumerate(window.frames) if frame in places]

    def _align(self, reconstruction: Reconstruction, pairs: list[tuple[int, int]], own_scale: bool) -> Alignment | None:
        if not pairs or not self.history:
            return None
        return align_window(
            reconstruction, self.history[-1][1], pairs, self._config.stitch, trust_scale=own_scale and self._scale_known
        )

    def _continued(self, reconstruction: Reconstruction, pair: tuple[int, int]) -> Placement:
        """Where the first shared camera of the last placed window would put this one."""
        last = self.history[-1][1]
        own = scale_translation(reconstruction.T_window_camera[pair[0]], last.scale_ratio)
        return Placement(reconstruction, last.T_map_camera[pair[1]] @ invert(own), last.scale_ratio)

    def _adopt_scale(self, placement: Placement) -> Placement:
        """Brings the map, whose metres were unreliable, to the metres of ``placement``."""
        factor = 1.0 / placement.scale_ratio
        self._move(np.eye(3), factor)
        self._scale_known = True
        return _moved(placement, np.eye(3), factor)

    def _level(self, window: Window, placement: Placement) -> tuple[Placement, float]:
        """Turns the map a little towards what a window says of the vertical; the placement, and by how many degrees."""
        if self._anchored or self._tilt_deviation <= self._config.gravity.settled:
            return placement, 0.0
        config = self._config
        seen = find_gravity(placement.reconstruction, config.gravity, config.cloud, frames=window.frames)
        if seen.source == "assumed level":
            return placement, 0.0
        up = placement.T_map_window[:3, :3] @ seen.up
        angle = float(np.arccos(np.clip(up[2], -1.0, 1.0)))
        gain = self._tilt_deviation**2 / (self._tilt_deviation**2 + seen.deviation**2)
        turn = min(gain * angle, np.radians(self._config.gravity.max_correction))
        if turn == gain * angle:  # the whole of what this window says, not a part of it
            self._tilt_deviation = float(np.sqrt(1 - gain)) * self._tilt_deviation
            self._gravity_source = seen.source
        rotation = rotation_about(np.cross(up, [0.0, 0.0, 1.0]), turn)
        self._move(rotation, 1.0)
        return _moved(placement, rotation, 1.0), float(np.degrees(turn))

    def _move(self, rotation: np.ndarray, factor: float) -> None:
        """Turns and stretches everything placed so far about the map's origin."""
        for part in (self.voxels, self.path, self.memory):
            part.move(rotation, factor)
        moved = [(key, _moved(held, rotation, factor)) for key, held in self.history]
        self.history.clear()
        self.history.extend(moved)


def window_warnings(reconstruction: Reconstruction, config: PerceptionConfig) -> tuple[str, ...]:
    """What is doubtful about a window in itself: its scale, its motion, the lens."""
    warnings = []
    spread = reconstruction.scale_spread
    if spread > config.scale.max_spread:
        warnings.append(
            f"the scale is unreliable: the per-image factors spread by {spread:.3f}, scale.max_spread is "
            f"{config.scale.max_spread:g}"
        )
    poses, seen = reconstruction.T_window_camera, reconstruction.depth[reconstruction.depth > 0]
    baseline = float(np.linalg.norm(poses[:, :3, 3], axis=1).max())
    if len(poses) > 1 and baseline < _MIN_BASELINE * float(np.median(seen)):
        warnings.append(
            f"the camera moved {baseline:.3f} m, less than {_MIN_BASELINE:.0%} of the median depth; "
            "depth and translation rest on a single view"
        )
    ratio = reconstruction.focal_ratio
    if ratio is not None and abs(ratio - 1) > config.camera.max_focal_error:
        warnings.append(
            f"the estimated focal length is {ratio:.2f} times the one in camera_info; check the calibration "
            f"(camera.max_focal_error is {config.camera.max_focal_error:g})"
        )
    return tuple(warnings)


_MIN_BASELINE = 0.01
_TILTED = (
    "nothing tells which way is up, so the first camera is taken as level and the map may be tilted; give TF the "
    "camera's pose, or show it a floor or upright edges"
)


def _moved(placement: Placement, rotation: np.ndarray, factor: float) -> Placement:
    turned = compose(rotation, np.zeros(3)) @ placement.T_map_window
    return replace(
        placement,
        T_map_window=scale_translation(turned, factor),
        scale_ratio=placement.scale_ratio * factor,
    )
