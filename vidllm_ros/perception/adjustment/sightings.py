"""Points of a scene as the cameras of a window see them: what bundle adjustment works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL_ERROR = 0.004  # standard deviation of where a point is seen, over the focal length: 0.3 pixels of 84 rows
FITS = 3  # standard deviations within which a sighting agrees
MIN_DEPTH = 0.05  # metres in front of the camera, nearer than which a sighting has no say


@dataclass(frozen=True, eq=False)
class Sightings:
    """``M`` sightings of ``P`` points, those of a point one after the other, in the order of the frames.

    Attributes:
        frame: int [M].
        point: int [M], from 0 to P - 1, none left out.
        rays: float64 [M, 3] (x / z, y / z, 1) in the camera (optical axes).
        depth: float64 [M] metres along the optical axis, as the network gave it.
    """

    frame: np.ndarray
    point: np.ndarray
    rays: np.ndarray
    depth: np.ndarray

    def starts(self) -> np.ndarray:
        """Where each point's sightings begin, int [P]."""
        return np.flatnonzero(np.diff(self.point, prepend=-1))
