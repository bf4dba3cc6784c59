"""NYU Depth v2 (Silberman et al., ECCV 2012): the 654 test images as PNG and JPEG files, as BTS and ZoeDepth use them.

``{scene type}/rgb_{i:05d}.jpg`` and ``{scene type}/sync_depth_{i:05d}.png`` (raw depth in millimetres, 0 unknown),
named line by line in ``nyudepthv2_test_files_with_gt.txt``: image, depth, focal length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import depth

MILLIMETRES = 1000.0


@dataclass(frozen=True)
class NyuImage:
    """One image of the test set.

    Attributes:
        rgb_file: its picture.
        depth_file: its depth.
        focal_length: pixels.
    """

    rgb_file: Path
    depth_file: Path
    focal_length: float

    def rgb(self) -> np.ndarray:
        """The picture, uint8 [480, 640, 3]."""
        return np.asarray(_open(self.rgb_file).convert("RGB"))

    def depth(self) -> np.ndarray:
        """The depth, float32 [480, 640] metres, 0 where unknown."""
        raw = np.asarray(_open(self.depth_file))
        if raw.ndim != 2 or raw.dtype.kind not in "ui" or raw.dtype.itemsize < 2:
            raise EvaluationError(
                f"{self.depth_file} is {raw.dtype} {raw.shape}: expected a 16-bit image of millimetres."
            )
        return raw.astype(np.float32) / np.float32(MILLIMETRES)


def read_list(folder: str | Path, listing: str | Path) -> list[NyuImage]:
    """The images that a list names.

    Args:
        folder: that its paths start from.
        listing: lines of image, depth and focal length; images without depth say ``None`` and are left out.

    Raises:
        EvaluationError: no such list, a line of another form, or an empty list.
    """
    folder, listing = Path(folder), Path(listing)
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{listing} cannot be read: {error}") from error
    images = []
    for number, line in enumerate(lines, 1):
        if not (fields := line.split()):
            continue
        try:
            rgb, true, focal = fields
            length = float(focal)
        except ValueError as error:
            raise EvaluationError(
                f"{listing}, line {number}: expected 'image depth focal', got {line[:80]!r}."
            ) from error
        if true != "None":
            # some of the published paths begin with a slash and still mean the folder
            images.append(NyuImage(folder / rgb.lstrip("/"), folder / true.lstrip("/"), length))
    if not images:
        raise EvaluationError(f"{listing} names no image with depth.")
    return images


def score(
    images: list[NyuImage], predict: Callable[[np.ndarray], np.ndarray], align: str = "none"
) -> tuple[depth.DepthErrors, list[depth.DepthErrors]]:
    """The metric of the benchmark: Eigen crop, 1 mm to 10 m, each image on its own, then the mean.

    Args:
        images: see ``read_list``.
        predict: from a picture uint8 [480, 640, 3] to depth [h, w] metres; another size is resized.
        align: see ``depth.metrics``; what the paper did for networks without metric scale is not said.

    Returns:
        The mean and the errors of each image.
    """
    errors = [depth.metrics(predict(image.rgb()), image.depth(), align=align) for image in images]
    return depth.summary(errors), errors


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    return image
