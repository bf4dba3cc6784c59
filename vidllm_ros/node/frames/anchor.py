"""What TF knows about the cameras of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.perception.types import Window


@dataclass(frozen=True, eq=False)
class OutsideKnowledge:
    """Poses and gravity from TF.

    Attributes:
        T_map_camera: [S, 4, 4], rows of NaN where unknown; None when no pose is known.
        up_camera: upward direction [3] in the first camera's optical frame; None when not known.
        problem: one sentence when poses were asked for and none is known.
    """

    T_map_camera: np.ndarray | None = None
    up_camera: np.ndarray | None = None
    problem: str = ""


def look_up(window: Window, config: NodeConfig, buffer: TransformBuffer) -> OutsideKnowledge:
    """Asks TF for the camera at each frame's time, and for the way the camera is mounted on the robot.

    The robot's base is taken to stand upright (REP 103), so a camera that TF connects with it has a known tilt.
    """
    poses, problem = None, ""
    if config.anchors_to_tf:
        poses, problem = _poses(window, config, buffer)
    return OutsideKnowledge(poses, _up(window, config, buffer), problem)


def _poses(window: Window, config: NodeConfig, buffer: TransformBuffer) -> tuple[np.ndarray | None, str]:
    frames = buffer.frames()
    camera = window.frames[0].frame_id
    if config.anchor == "auto" and not {config.reference_frame, camera} <= set(frames):
        return None, ""  # nothing to wait for
    poses = np.full((len(window.frames), 4, 4), np.nan)
    problem = ""
    # The newest transform is the one that may still be on its way; once it is there the others are too.
    timeout = config.tf_timeout
    for index in reversed(range(len(window.frames))):
        frame = window.frames[index]
        try:
            poses[index] = buffer.lookup(config.reference_frame, frame.frame_id, frame.stamp_ns, timeout)
        except TransformError as error:
            problem = str(error)
        timeout = 0.0
    if np.isfinite(poses).any():
        return poses, ""
    return None, problem


def _up(window: Window, config: NodeConfig, buffer: TransformBuffer) -> np.ndarray | None:
    try:
        T_camera_base = buffer.lookup(window.frames[0].frame_id, config.base_frame, window.frames[0].stamp_ns)
    except TransformError:
        return None
    return T_camera_base[:3, 2]
