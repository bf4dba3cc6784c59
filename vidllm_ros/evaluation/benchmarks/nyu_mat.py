"""NYU Depth v2 from the file its authors publish, ``nyu_depth_v2_labeled.mat``, without extracting images first.

The file is MATLAB 7.3, which is HDF5 with its axes reversed: ``images`` [1449, 3, 640, 480] uint8 and ``rawDepths``
[1449, 640, 480] float32 metres, 0 where the sensor saw nothing. ``splits.mat`` numbers the 654 test images from 1. What
comes out is what BTS extracts, the source of the published rows: raw depth cut to whole millimetres, and pictures that
are black outside the part that the depth camera saw; only the JPEG compression of its pictures is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    import h5py

Read = TypeVar("Read")
SIZE = (480, 640)
SEEN = (slice(7, 474), slice(7, 632))  # rows and columns that are not black
MILLIMETRES = np.float32(1000.0)


@dataclass(frozen=True)
class NyuMatImage:
    """One image of the file.

    Attributes:
        file: ``nyu_depth_v2_labeled.mat``.
        index: in the file, from 0.
    """

    file: Path
    index: int

    @property
    def name(self) -> str:
        """As the extracted files are numbered."""
        return f"{self.index:05d}"

    def rgb(self) -> np.ndarray:
        """The picture, uint8 [480, 640, 3]."""
        picture = _read(self.file, lambda content: content["images"][self.index]).transpose(2, 1, 0)
        black = np.zeros_like(picture)
        black[SEEN] = picture[SEEN]
        return black

    def depth(self) -> np.ndarray:
        """The raw depth, float32 [480, 640] metres, 0 where unknown."""
        raw = _read(self.file, lambda content: content["rawDepths"][self.index]).T
        return (raw * MILLIMETRES).astype(np.uint16).astype(np.float32) / MILLIMETRES


def read_mat(path: Path, splits: Path | None = None) -> list[NyuMatImage]:
    """The test images of the file.

    Args:
        path: ``nyu_depth_v2_labeled.mat``.
        splits: ``splits.mat``; beside ``path`` when not given.

    Raises:
        EvaluationError: a file is missing, another one, or cut off; or h5py is not installed.
    """
    from scipy.io import loadmat

    splits = splits or path.with_name("splits.mat")
    try:
        numbers = loadmat(splits)["testNdxs"].ravel().astype(int)
    except (OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise EvaluationError(f"{splits} is no splits.mat with testNdxs: {error!r}. Name it with --splits.") from error

    def shapes(content: h5py.File) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return content["images"].shape, content["rawDepths"].shape

    images, depths = _read(path, shapes)
    if images[1:] != (3, *SIZE[::-1]) or depths != (images[0], *SIZE[::-1]):
        raise EvaluationError(
            f"{path} holds images {images} and rawDepths {depths}: expected [N, 3, 640, 480] and [N, 640, 480]."
        )
    if not len(numbers) or numbers.min() < 1 or numbers.max() > images[0]:
        named = f"images {numbers.min()} to {numbers.max()}" if len(numbers) else "no image"
        raise EvaluationError(
            f"{splits} names {named}, but {path} holds 1 to {images[0]}: take both from the same release."
        )
    return [NyuMatImage(path, int(number) - 1) for number in numbers]


def _read(path: Path, part: Callable[[h5py.File], Read]) -> Read:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise EvaluationError(f"reading {path.name} needs h5py: pip install 'vidllm_ros[nyu]'.") from error
    try:
        with h5py.File(path, "r") as content:
            return part(content)
    except (OSError, KeyError, IndexError, AttributeError) as error:
        raise EvaluationError(f"{path} is no readable nyu_depth_v2_labeled.mat: {error}") from error
