"""Points of a scene as the cameras of a window see them: what bundle adjustment works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FITS = 3  # standard deviations within which a sighting agrees
MIN_DEPTH = 0.05  # metres in front of the camera, nearer than which a sighting has no say


@dataclass(frozen=True, eq=False)
class Sightings:
    """``M`` sightings of ``P`` points, those of a point one after the other, in the order of the frames.

    Attributes:
        frame: int [M].
        point: int [M], from 0 to P - 1, none left out.
        rays: float64 [M, 3] (x / z, y / z, 1) in the camera (optical axes).
        depth: float64 [M] metres along the optical axis, as the network gave it; 0 where it gave none. Each point has
            one at least.
        ray_error: float64 [M], standard deviation of the first two of ``rays``: of the tracker, over the focal length.
    """

    frame: np.ndarray
    point: np.ndarray
    rays: np.ndarray
    depth: np.ndarray
    ray_error: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def starts(self) -> np.ndarray:
        """Where each point's sightings begin, int [P]."""
        return np.flatnonzero(np.diff(self.point, prepend=-1))

    def of(self, kept: np.ndarray) -> Sightings:
        """Those of a mask [M]; points of which less than two sightings, or no depth, are left go too."""
        for _ in range(2):
            count = np.bincount(self.point, kept, minlength=self.point.max() + 1 if len(self) else 0)
            deep = np.bincount(self.point, kept & (self.depth > 0), minlength=len(count))
            kept = kept & ((count >= 2) & (deep >= 1))[self.point]
        _, point = np.unique(self.point[kept], return_inverse=True)
        return Sightings(self.frame[kept], point, self.rays[kept], self.depth[kept], self.ray_error[kept])

    def split(self, share: int) -> tuple[Sightings, Sightings]:
        """All points but one out of ``share``, and the rest; which, does not depend on chance."""
        # Neighbours in number began in the same image: a stride through them takes points of all of a window.
        apart = self.point % share == share // 2
        return self.of(~apart), self.of(apart)
