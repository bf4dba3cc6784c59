"""CameraInfo to a camera matrix and an undistorted image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo

_PINHOLE = ("plumb_bob", "rational_polynomial", "")
_FISHEYE = ("equidistant", "fisheye")
_PINHOLE_LENGTHS = (4, 5, 8, 12, 14)


class CameraInfoError(ValueError):
    """A camera_info that cannot be used; the text names the value and what would be right."""


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A pinhole camera, and the way from its raw image to one.

    Attributes:
        intrinsics: float64 [3, 3], pixels of the undistorted image.
        size: (width, height) of the images it is for, None when camera_info does not say.
        maps: where each undistorted pixel comes from, for ``cv2.remap``; None without distortion.
    """

    intrinsics: np.ndarray
    size: tuple[int, int] | None
    maps: tuple[np.ndarray, np.ndarray] | None

    def undistort(self, rgb: np.ndarray) -> np.ndarray:
        """The image without lens distortion, same size and camera matrix.

        Raises:
            CameraInfoError: the image is of another size than camera_info.
        """
        size = (rgb.shape[1], rgb.shape[0])
        if self.size is not None and size != self.size:
            raise CameraInfoError(
                f"camera_info is for {self.size[0]} x {self.size[1]} pixels but the image has {size[0]} x {size[1]}; "
                f"publish the camera_info of this image, or set use_camera_info to never"
            )
        if self.maps is None:
            return rgb
        return cv2.remap(rgb, *self.maps, interpolation=cv2.INTER_LINEAR)


class CameraReader:
    """Turns camera_info messages into a camera model, anew only when they change.

    Args:
        rectified: the images are rectified already, so P describes them.
    """

    def __init__(self, rectified: bool) -> None:
        self._rectified = rectified
        self._key: bytes | None = None
        self._model: CameraModel | None = None

    def read(self, message: CameraInfo) -> CameraModel | None:
        """The camera, or None when the message says that it is not calibrated (K is zero).

        Raises:
            CameraInfoError: K, P or D cannot be used.
        """
        key = _fingerprint(message)
        if key != self._key:
            self._key = None
            self._model = self._build(message)
            self._key = key
        return self._model

    def _build(self, message: CameraInfo) -> CameraModel | None:
        name, matrix = "K", np.array(message.k, dtype=np.float64).reshape(3, 3)
        if self._rectified:
            projection = np.array(message.p, dtype=np.float64).reshape(3, 4)[:, :3]
            if projection[0, 0] != 0:
                name, matrix = "P", projection
        if not matrix.any():
            return None
        _check_matrix(name, matrix)
        matrix, size = _cropped(message, matrix)
        distortion = np.array(message.d, dtype=np.float64)
        if self._rectified or not distortion.any():
            return CameraModel(matrix, size, None)
        if size is None:
            raise CameraInfoError("camera_info has distortion but no width and height; publish the image size in it")
        return CameraModel(matrix, size, _undistortion(message.distortion_model, distortion, matrix, size))


def _check_matrix(name: str, matrix: np.ndarray) -> None:
    def wrong(problem: str) -> CameraInfoError:
        values = ", ".join(f"{value:g}" for value in matrix.ravel())
        return CameraInfoError(f"camera_info has {name} = [{values}], which {problem}; calibrate the camera again")

    if not np.isfinite(matrix).all():
        raise wrong("holds values that are not finite")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise wrong("has a focal length that is not positive")
    if not np.allclose(matrix[2], (0, 0, 1)):
        raise wrong("does not end with the row 0, 0, 1")


def _cropped(message: CameraInfo, matrix: np.ndarray) -> tuple[np.ndarray, tuple[int, int] | None]:
    """The camera matrix and size of the image itself: after the region of interest, then the binning."""
    roi, binning = message.roi, np.array([max(message.binning_x, 1), max(message.binning_y, 1)])
    matrix = matrix.copy()
    matrix[:2, 2] -= (roi.x_offset, roi.y_offset)
    matrix[:2] /= binning[:, None]
    width, height = roi.width or message.width, roi.height or message.height
    size = (int(width // binning[0]), int(height // binning[1])) if width and height else None
    return matrix, size


def _undistortion(
    model: str, distortion: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(distortion).all():
        raise CameraInfoError(
            f"camera_info has D = {distortion.tolist()}, which is not finite; calibrate the camera again"
        )
    if model in _FISHEYE and len(distortion) == 4:
        return cv2.fisheye.initUndistortRectifyMap(matrix, distortion, np.eye(3), matrix, size, cv2.CV_16SC2)
    if model in _PINHOLE and len(distortion) in _PINHOLE_LENGTHS:
        return cv2.initUndistortRectifyMap(matrix, distortion, None, matrix, size, cv2.CV_16SC2)
    raise CameraInfoError(
        f"camera_info has the distortion model '{model}' with {len(distortion)} coefficients; known are plumb_bob and "
        f"rational_polynomial (4, 5, 8, 12 or 14) and equidistant (4). Rectify the image first (image_proc) and set "
        f"image_rectified"
    )


def _fingerprint(message: CameraInfo) -> bytes:
    roi = message.roi
    numbers = (message.width, message.height, message.binning_x, message.binning_y)
    numbers += (roi.x_offset, roi.y_offset, roi.width, roi.height)
    parts = (np.array(numbers), np.array(message.k), np.array(message.p), np.array(message.d, dtype=np.float64))
    digest = hashlib.blake2b(message.distortion_model.encode())
    for part in parts:
        digest.update(part.tobytes())
    return digest.digest()
