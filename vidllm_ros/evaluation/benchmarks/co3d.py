"""Co3Dv2 (Reizenstein et al., ICCV 2021): the posed sequences that camera pose accuracy is measured on.

A category is a folder with ``frame_annotations.jgz`` and ``sequence_annotations.jgz`` (gzipped JSON lists),
``set_lists`` and the images they name. The choice of sequences and frames follows the script that VGGT publishes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

MIN_QUALITY = 0.5  # of a sequence's viewpoints, exclusive
MIN_FRAMES = 50
MAX_TRANSLATION = 1e5  # the sum of a translation's entries, beyond which a pose is broken
FRAMES = 10  # drawn from each sequence
# Left out of the 51 categories when networks are trained on the rest; what remains is called seen.
UNSEEN = frozenset(
    ("ball", "book", "couch", "frisbee", "hotdog", "kite", "remote", "sandwich", "skateboard", "suitcase")
)


@dataclass(frozen=True, eq=False)
class Co3dFrame:
    """One posed image.

    Attributes:
        number: in its sequence.
        image: its file.
        camera_from_world: float64 [4, 4], OpenCV axes; the unit of length is arbitrary.
    """

    number: int
    image: Path
    camera_from_world: np.ndarray


@dataclass(frozen=True, eq=False)
class Co3dSequence:
    """A sequence and the frames of the asked-for subset, by number.

    Attributes:
        category: such as "apple".
        name: of the sequence.
        frames: as the annotations list them.
    """

    category: str
    name: str
    frames: tuple[Co3dFrame, ...]


def read_category(folder: str | Path, set_list: str = "fewview_dev", subset: str = "test") -> list[Co3dSequence]:
    """The sequences of a category that the protocol uses, by name.

    Left out are sequences whose viewpoints score 0.5 or less, with fewer than 50 frames, or with a broken pose.

    Args:
        folder: of the category, such as ``co3d/apple``.
        set_list: ``set_lists/set_lists_{set_list}.json``.
        subset: "train", "val" or "test".

    Raises:
        EvaluationError: a file is missing, damaged, or lacks an entry.
    """
    folder = Path(folder)
    try:
        good = {
            row["sequence_name"]
            for row in _read(folder / "sequence_annotations.jgz")
            if (row.get("viewpoint_quality_score") or 0.0) > MIN_QUALITY
        }
        listing = _read(folder / "set_lists" / f"set_lists_{set_list}.json")
        wanted = {(str(name), int(number)) for name, number, _ in listing[subset] if name in good}
        frames: dict[str, list[Co3dFrame]] = {}
        for row in _read(folder / "frame_annotations.jgz"):
            key = (row["sequence_name"], int(row["frame_number"]))
            if key in wanted:
                view = row["viewpoint"]
                frame = Co3dFrame(key[1], folder.parent / row["image"]["path"], opencv_pose(view["R"], view["T"]))
                frames.setdefault(key[0], []).append(frame)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"the annotations in {folder} lack an entry or hold a wrong one: {error!r}") from error
    return [
        Co3dSequence(folder.name, name, tuple(frames[name]))
        for name in sorted(frames)
        if len(frames[name]) >= MIN_FRAMES and all(_usable(frame) for frame in frames[name])
    ]


def opencv_pose(rotation: Any, translation: Any) -> np.ndarray:
    """``camera_from_world`` [4, 4] with OpenCV axes from PyTorch3D's R [3, 3] and T [3].

    There a row vector is moved, ``x_camera = x_world R + T``, and a camera looks along z with x left and y up.
    """
    R, T = np.array(rotation, dtype=np.float64).reshape(3, 3), np.array(translation, dtype=np.float64).reshape(3)
    flip = np.array([-1.0, -1.0, 1.0])
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = (R * flip).T, T * flip
    return result


def draw_frames(
    sequences: Iterable[Co3dSequence], random: np.random.RandomState, count: int = FRAMES
) -> list[tuple[Co3dFrame, ...]]:
    """``count`` frames of each sequence, without order and repetition.

    Args:
        sequences: of one category, sorted by name.
        random: ``numpy.random.RandomState(0)``, the same one for all categories one after the other.
        count: frames of a sequence.
    """
    return [
        tuple(sequence.frames[k] for k in random.choice(len(sequence.frames), count, replace=False))
        for sequence in sequences
    ]


def _usable(frame: Co3dFrame) -> bool:
    pose = frame.camera_from_world
    # the sign flips of the axes undone, so that the sum is that of the annotation
    return bool(np.isfinite(pose).all() and pose[:3, 3] @ [-1.0, -1.0, 1.0] <= MAX_TRANSLATION)


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
        return json.loads(gzip.decompress(content) if path.suffix == ".jgz" else content)
    except (OSError, EOFError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
