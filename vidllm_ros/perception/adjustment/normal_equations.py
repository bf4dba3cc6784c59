"""Normal equations over the poses and depth scales of a window's frames."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

VARIABLES = 7  # of a frame: rotation, translation, logarithm of the depth's scale
_MAX_TURN = 0.3  # radians that one step may turn a camera; beyond, the linearisation means nothing


class NormalEquations:
    """Sums of squares over the variables of ``frames`` frames, by ``pose -> exp(step) @ pose``.

    Attributes:
        matrix: J^T W J, float64 [frames, 7, frames, 7], with the derivatives J of the errors and their weights W.
        vector: J^T W r, float64 [frames, 7], with the errors r.
    """

    def __init__(self, frames: int) -> None:
        self.matrix = np.zeros((frames, VARIABLES, frames, VARIABLES))
        self.vector = np.zeros((frames, VARIABLES))

    def add(self, frames: tuple[np.ndarray, ...], matrices: np.ndarray, vectors: np.ndarray) -> None:
        """Adds N terms, each of which depends on F frames; no two of them on the same frames.

        Args:
            frames: F times int [N].
            matrices: J^T W J [N, 7 F, 7 F].
            vectors: J^T W r [N, 7 F].
        """
        everyone = np.arange(len(self.vector))
        for a, row in enumerate(frames):
            own = slice(a * VARIABLES, (a + 1) * VARIABLES)
            member = (everyone[:, None] == row).astype(float)
            self.vector += member @ vectors[:, own]
            diagonal = member @ matrices[:, own, own].reshape(len(row), -1)
            self.matrix[everyone, :, everyone] += diagonal.reshape(-1, VARIABLES, VARIABLES)
            for b, column in enumerate(frames):
                if b != a:
                    self.matrix[row, :, column] += matrices[:, own, b * VARIABLES : (b + 1) * VARIABLES]

    def solve(self) -> np.ndarray:
        """The step [frames, 7] to the minimum, with the pose of frame 0 held, shortened if it turns a camera too far.

        Raises:
            LinAlgError: there is no finite one.
        """
        size = self.vector.size
        step = np.zeros(size)
        step[6:] = -np.linalg.solve(self.matrix.reshape(size, size)[6:, 6:], self.vector.ravel()[6:])
        if not np.isfinite(step).all():
            raise np.linalg.LinAlgError("the step is not finite")
        step = step.reshape(self.vector.shape)
        return step * min(1.0, _MAX_TURN / max(np.abs(step[:, :3]).max(), 1e-9))


def adjoint(transforms: np.ndarray) -> np.ndarray:
    """What ``exp(step)`` before a transform [N, 4, 4] is after it, [N, 6, 6] on (rotation, translation)."""
    rotation = transforms[:, :3, :3]
    result = np.zeros((len(transforms), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotation
    # [t]x R column by column: t x (column of R).
    result[:, 3:, :3] = np.cross(transforms[:, None, :3, 3], rotation.swapaxes(1, 2)).swapaxes(1, 2)
    return result


def exponential(steps: np.ndarray) -> np.ndarray:
    """Transforms [N, 4, 4] that rotate by a rotation vector, then translate: [N, 6]; equal to exp in first order."""
    result = np.tile(np.eye(4), (len(steps), 1, 1))
    result[:, :3, :3] = Rotation.from_rotvec(steps[:, :3]).as_matrix()
    result[:, :3, 3] = steps[:, 3:]
    return result
