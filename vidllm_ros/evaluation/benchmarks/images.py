"""The benchmarks of single images and of image sets: depth on NYU, camera poses on Co3Dv2 and RealEstate10K."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from vidllm_ros.evaluation.benchmarks import (
    co3d,
    nyu,
    nyu_mat,
    re10k,
)
from vidllm_ros.evaluation.benchmarks.benchmark import Report, Row, nanmean
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import depth, poses
from vidllm_ros.model import VidLLM
from vidllm_ros.perception.geometry.images import fit_image, image_to_network, to_tensor

# Vid-LLM's rows in Tables 7 and 8 of the paper.
PAPER_CO3D = {"RRA@15": 96.8, "RTA@15": 93.4, "AUC@30": 88.5}
PAPER_RE10K = {"AUC@30": 83.1}
PAPER_NYU = {"delta1": 0.987, "abs_rel": 0.025, "rmse": 0.109, "log10": 0.010}
POSE_FRAMES = 10


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one scene with their poses.

    Attributes:
        name: of the scene.
        group: its category; accuracies are means over groups.
        images: files.
        camera_from_world: [S, 4, 4].
    """

    name: str
    group: str
    images: tuple[Path, ...]
    camera_from_world: np.ndarray


def co3d_sets(root: Path, seed: int = 0) -> list[ImageSet]:
    """Ten drawn frames of each usable test sequence of the 41 seen categories.

    Args:
        root: with a folder for each category.
        seed: of the draw, which runs on over categories and sequences in the order of their names.

    Raises:
        EvaluationError: no category there, or a damaged one.
    """
    folders = sorted(f.parent for f in root.glob("*/frame_annotations.jgz") if f.parent.name not in co3d.UNSEEN)
    if not folders:
        raise EvaluationError(f"{root} has no seen category of Co3D: expected folders with frame_annotations.jgz.")
    random, sets = np.random.RandomState(seed), []
    for folder in folders:
        sequences = co3d.read_category(folder)
        for sequence, frames in zip(sequences, co3d.draw_frames(sequences, random), strict=True):
            truth = np.array([frame.camera_from_world for frame in frames])
            name = f"{folder.name}/{sequence.name}"
            sets.append(ImageSet(name, folder.name, tuple(frame.image for frame in frames), truth))
    return sets


def re10k_sets(cameras: Path, images: Path, seed: int = 0) -> list[ImageSet]:
    """Ten drawn frames of each clip whose images are there, all in one group.

    Args:
        cameras: folder of camera files, ``{clip}.txt``.
        images: folder of ``{clip}/{stamp in microseconds}.jpg`` or ``.png``.
        seed: of the draw.

    Raises:
        EvaluationError: no clip has ten images, or a camera file is damaged.
    """
    random, sets = np.random.RandomState(seed), []
    for file in sorted(cameras.glob("*.txt")):
        clip = re10k.read_clip(file)
        found = {int(f.stem): f for f in (images / clip.name).glob("*.[jp][pn]g") if f.stem.isdecimal()}
        there = [k for k, stamp in enumerate(clip.stamps_us) if int(stamp) in found]
        if len(there) >= POSE_FRAMES:
            chosen = [there[k] for k in random.choice(len(there), POSE_FRAMES, replace=False)]
            files = tuple(found[int(clip.stamps_us[k])] for k in chosen)
            sets.append(ImageSet(clip.name, "re10k", files, clip.camera_from_world[chosen]))
    if not sets:
        raise EvaluationError(f"no clip of {cameras} has {POSE_FRAMES} images in {images}, such as CLIP/STAMP.jpg.")
    return sets


def score_poses(model: VidLLM, images: ImageSet, order: str = "vggt") -> dict[str, Any]:
    """Errors in degrees of all pairs of an image set; raises EvaluationError when an image cannot be read."""
    output = model.reconstruct(_tensor(model, [_read(path) for path in images.images]))
    predicted = output.camera_from_world[0].double().cpu().numpy()
    errors = poses.relative_pose_errors(predicted, images.camera_from_world, order)
    return {"group": images.group, "rotation": errors.rotation.tolist(), "translation": errors.translation.tolist()}


def pose_report(benchmark: str, rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """Accuracies of each group over its pooled pairs, and their mean over groups beside the paper's row."""
    groups: dict[str, list[poses.PairErrors]] = {}
    for row in rows:
        errors = poses.PairErrors(np.array(row["rotation"]), np.array(row["translation"]))
        groups.setdefault(row["group"], []).append(errors)
    paper: Mapping[str, float] = PAPER_CO3D if benchmark == "co3d" else PAPER_RE10K
    each = {name: poses.summary(sets) for name, sets in sorted(groups.items())}
    names = ("RRA@15", "RTA@15", "AUC@30")
    table = [Row(f"{name}, %", nanmean(e[name] for e in each.values()), paper.get(name)) for name in names]
    if len(each) > 1:
        table += [Row("AUC@30, %", e["AUC@30"], note=name) for name, e in each.items()]
    notes = (
        f"{len(rows)} scenes in {len(each)} groups; pairs are pooled in a group, values are means over groups.",
        "Which frames and which categories the paper used is not known.",
    )
    return Report(benchmark, tuple(table), settings, notes)


def score_depth(model: VidLLM, image: nyu.NyuImage | nyu_mat.NyuMatImage) -> dict[str, Any]:
    """Errors of one NYU image, metric and with its median fitted."""
    rgb, true = image.rgb(), image.depth()
    output = model.reconstruct(_tensor(model, [rgb]))
    predicted = in_image(output.depth[0, 0].float().cpu().numpy(), rgb.shape[:2])
    return {align: asdict(depth.metrics(predicted, true, align=align)) for align in ("none", "median")}


def depth_report(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """Means over images beside the paper's row."""
    table = []
    for align, note in (("none", "metric"), ("median", "medians fitted")):
        mean = depth.summary(depth.DepthErrors(**row[align]) for row in rows)
        for name, paper in PAPER_NYU.items():
            table.append(Row(name, getattr(mean, name), paper, note))
    notes = (
        f"{len(rows)} images one by one, Eigen crop, 1 mm to 10 m; no averaging over mirrored images.",
        "The paper does not say how it brings outputs without metric scale to metres in this table.",
    )
    return Report("nyu", tuple(table), settings, notes)


def in_image(predicted: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """A depth map [h, w] of the network as one of the recorded image [H, W], bilinear; its border is carried on."""
    there = image_to_network(image_size, predicted.shape)
    u, v = (np.arange(n, dtype=np.float64) for n in image_size[::-1])
    x, y = np.meshgrid(there[0, 0] * u + there[0, 2], there[1, 1] * v + there[1, 2])
    coordinates = (x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(predicted.astype(np.float32), *coordinates, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _tensor(model: VidLLM, images: Sequence[np.ndarray]) -> torch.Tensor:
    """float32 [1, S, 3, H, W] at the network's size, as the node would make them."""
    return to_tensor([fit_image(image, tuple(model.config.image_size)) for image in images], model.device)[None]


def _read(path: Path) -> np.ndarray:
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
