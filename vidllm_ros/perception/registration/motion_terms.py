"""Known motions between pairs of frames: the network's from frame to frame, and those of whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.adjustment.normal_equations import NormalEquations, adjoint
from vidllm_ros.perception.geometry.transforms import invert


@dataclass(frozen=True, eq=False)
class MotionTerms:
    """``N`` motions, no two of them between the same frames.

    Attributes:
        source: int [N].
        target: int [N].
        motions: float64 [N, 4, 4] T_target_source.
        information: float64 [N, 6, 6] on (rotation, translation) of a step before the motion.
        kernel: width in standard deviations beyond which a motion loses its say (Geman and McClure); None for the one
            that points have at the time.
    """

    source: np.ndarray
    target: np.ndarray
    motions: np.ndarray
    information: np.ndarray
    kernel: float | None

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> None:
        """Adds their errors."""
        if not len(self.motions):
            return
        relative, errors, squared = self._errors(poses)
        weights = self.information / (1 + squared / (self.kernel or kernel) ** 2)[:, None, None] ** 2
        jacobian = np.zeros((len(errors), 6, 14))
        jacobian[:, :, :6] = -adjoint(relative)
        jacobian[:, :, 7:13] = np.eye(6)
        weighted = jacobian.swapaxes(1, 2) @ weights
        equations.add((self.source, self.target), weighted @ jacobian, np.einsum("nij,nj->ni", weighted, errors))

    def cost(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """What ``add`` makes small."""
        squared = self._errors(poses)[2]
        return float((squared / (1 + squared / (self.kernel or kernel) ** 2)).sum())

    def move(self, step: np.ndarray) -> None:
        """Nothing here moves with the frames."""

    def back(self, before: None) -> None:
        """Nothing was moved."""

    def _errors(self, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        relative = poses[self.target] @ invert(poses[self.source])
        difference = relative @ invert(self.motions)
        turns = Rotation.from_matrix(difference[:, :3, :3]).as_rotvec().reshape(-1, 3)
        errors = np.concatenate([turns, difference[:, :3, 3]], axis=1)
        return relative, errors, np.einsum("ni,nij,nj->n", errors, self.information, errors)


def neighbours(T_camera_window: np.ndarray, rotation: float, translation: float, kernel: float) -> MotionTerms:
    """The motions from frame to frame of a path [S, 4, 4], with their deviations in radians and metres."""
    frames = np.arange(len(T_camera_window))
    information = np.diag(np.repeat([rotation**-2.0, translation**-2.0], 3))
    return MotionTerms(
        frames[:-1],
        frames[1:],
        T_camera_window[1:] @ invert(T_camera_window[:-1]),
        np.tile(information, (len(frames) - 1, 1, 1)),
        kernel,
    )
