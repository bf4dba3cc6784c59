"""Rigid transforms and rotations, in float64."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def invert(transform: np.ndarray) -> np.ndarray:
    """Inverse of rigid transforms [..., 4, 4]."""
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    result = np.zeros_like(transform)
    result[..., :3, :3] = rotation
    result[..., :3, 3] = -(rotation @ transform[..., :3, 3:])[..., 0]
    result[..., 3, 3] = 1.0
    return result


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """The rotations [..., 3, 3] nearest to ``matrices`` in the least-squares sense (orthogonal Procrustes)."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def rotation_angle(rotation: np.ndarray) -> np.ndarray:
    """Angle of rotations [..., 3, 3], radians, exact for small ones too."""
    chord = np.linalg.norm(rotation - np.eye(3), axis=(-2, -1)) / np.sqrt(8.0)
    return 2.0 * np.arcsin(np.clip(chord, 0.0, 1.0))


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation [3, 3] by ``angle`` radians about an axis [3] of any length; none about an axis of no length."""
    length = float(np.linalg.norm(axis))
    return Rotation.from_rotvec(axis * (angle / length) if length > 0 else np.zeros(3)).as_matrix()


def compose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """A transform [4, 4] from a rotation [3, 3] and a translation [3]."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def is_rigid(transform: np.ndarray) -> bool:
    """Whether a finite [4, 4] is a rotation and a translation, to six digits."""
    return bool(
        transform.shape == (4, 4)
        and np.isfinite(transform).all()
        and np.allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-6)
        and np.linalg.det(transform[:3, :3]) > 0
        and np.allclose(transform[3], (0, 0, 0, 1))
    )


def scale_translation(transforms: np.ndarray, factor: float) -> np.ndarray:
    """Rigid transforms [..., 4, 4] with their translations multiplied."""
    scaled = transforms.copy()
    scaled[..., :3, 3] *= factor
    return scaled
