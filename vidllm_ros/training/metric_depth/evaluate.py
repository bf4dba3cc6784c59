"""How well the convolutional Metric Depth Model measures real rooms it was not trained on.

``python -m vidllm_ros.training.metric_depth.evaluate --model DIR --clips DIR`` prints a table for the two test clips:
fr3_cabinet, another room, and the second half of the office walk, part of a room whose first half may have been trained
on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthModel
from vidllm_ros.training.metric_depth.batches import to_images
from vidllm_ros.training.metric_depth.files import load_model
from vidllm_ros.training.metric_depth.frame_cache import Frames
from vidllm_ros.training.metric_depth.real_frames import read_test_clip

#: Name of each test clip: its folder and its first frame.
TEST_CLIPS = {"fr3_cabinet": ("tum_fr3_cabinet", 0), "office, second half": ("hololens_office", 187)}
FARTHEST = 10.0
DRAWS = 1000


@dataclass(frozen=True, eq=False)
class DepthScores:
    """Figures of each frame with depth, [N] each.

    Attributes:
        absrel: mean of |prediction - truth| / truth.
        delta1: share of pixels whose prediction and truth differ by less than a factor of 1.25.
        fitted: ``absrel`` after the prediction is scaled to the truth's median.
        scale: median of prediction / truth.
    """

    absrel: np.ndarray
    delta1: np.ndarray
    fitted: np.ndarray
    scale: np.ndarray

    def row(self) -> str:
        """Means over frames, in the order of ``HEADER``; the first two with 95 % bootstrap intervals over frames."""
        return (
            f"{_interval(self.absrel, '{:.3f}')} | {_interval(100 * self.delta1, '{:.1f}')} | {self.fitted.mean():.3f} "
            f"| {np.median(self.scale):.2f}"
        )


HEADER = "AbsRel | delta1, % | AbsRel, median fitted | median of prediction / truth"


def score(prediction: np.ndarray, truth: np.ndarray) -> DepthScores:
    """Scores of predictions [N, H, W] against depth [N, H, W], 0 where unknown; frames without depth are left out."""
    rows = []
    for guess, depth in zip(prediction.astype(np.float64), truth.astype(np.float64), strict=True):
        valid = (depth > 0) & (depth < FARTHEST)
        if not valid.any():
            continue
        guess, depth = guess[valid], depth[valid]
        ratio = guess / depth
        factor = np.median(depth) / np.median(guess)
        rows.append(
            (
                np.mean(np.abs(ratio - 1)),
                np.mean(np.maximum(ratio, 1 / ratio) < 1.25),
                np.mean(np.abs(factor * ratio - 1)),
                np.median(ratio),
            )
        )
    return DepthScores(*np.array(rows).T)


def predict(model: ConvDepthModel, frames: Frames, known_camera: bool = True, batch: int = 32) -> np.ndarray:
    """Metric depth float32 [N, H, W] of frames at their own size."""
    parts = []
    with torch.inference_mode():
        for first in range(0, len(frames), batch):
            images = to_images(np.ascontiguousarray(frames.rgb[first : first + batch]))
            focal = torch.from_numpy(np.array(frames.focal[first : first + batch])) if known_camera else None
            parts.append(model.measure(images, focal).numpy())
    return np.concatenate(parts)


def best_constant(frames: Frames) -> DepthScores:
    """Scores of the constant depth that is best for these very frames, a baseline that no model gets to see."""
    truth = frames.depth
    scores = [score(np.full(truth.shape, value, np.float32), truth) for value in np.geomspace(0.8, 4.0, 60)]
    return min(scores, key=lambda s: float(s.absrel.mean()))


def _interval(values: np.ndarray, form: str) -> str:
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = (form.format(v) for v in np.quantile(means, (0.025, 0.975)))
    return f"{form.format(values.mean())} [{low}, {high}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, nargs="+", help="folders of trained models")
    parser.add_argument("--clips", type=Path, required=True, help="folder with the test clips' folders")
    parser.add_argument("--threads", type=int, default=1, help="cores")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = {folder.name: load_model(folder) for folder in arguments.model}
    print(f"| clip | depth | {HEADER} |\n|{' --- |' * 6}")
    for clip, (folder, first) in TEST_CLIPS.items():
        sizes = {model.config.image_size for model in models.values()}
        frames = {size: read_test_clip(arguments.clips / folder, size, first) for size in sizes}
        print(f"| {clip} | best constant | {best_constant(next(iter(frames.values()))).row()} |")
        for name, model in models.items():
            shown = frames[model.config.image_size]
            for known in (True, False):
                camera = "known camera" if known else "unknown camera"
                print(f"| {clip} | {name}, {camera} | {score(predict(model, shown, known), shown.depth).row()} |")


if __name__ == "__main__":
    main()
