"""How long the metrics take; prints a table, each row beside another way to the same number, timed in the same run.

Seconds are those of the processor, on all its cores: a busy neighbour hardly changes them.

python benchmarks/evaluation.py [--repeats 3] [--captions 10000] [--pairs 10000] [--points 1000000] [--minutes 30]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tables import machine, peak_memory, table  # first: it finds the checkout

# isort: split
import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.metrics import (
    dialects,
    grounding,
    ngrams,
    reconstruction,
    trajectory,
)
from vidllm_ros.evaluation.metrics.along_path import errors_by_length

WORDS = (
    "the",
    "a",
    "chair",
    "table",
    "is",
    "red",
    "left",
    "of",
    "right",
    "in",
    "front",
    "two",
    "under",
    "next",
    "to",
    "lamp",
)
RATE = 30.0  # Hz


class Case(NamedTuple):
    """One row: what is timed, and another way to the same thing, which may be given less to do."""

    name: str
    work: Callable[[], object]
    other_name: str = ""
    other: Callable[[], object] | None = None


def sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Captions of 5 to 20 words."""
    return [" ".join(rng.choice(WORDS, size)) for size in rng.integers(5, 21, count)]


def caption_cases(count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Answers and captions in the dialects that need no Java."""
    said = dict(enumerate(sentences(count, rng)))
    wanted = {key: sentences(2, rng) for key in said}
    predictions, references = list(said.values()), list(wanted.values())

    def ours() -> None:
        ngrams.bleu(predictions, references)
        ngrams.rouge_l(predictions, references)
        ngrams.cider(predictions, references)

    def matches() -> None:
        match = dialects.dialect("leo").match
        for prediction, accepted in zip(predictions, references, strict=True):
            match(prediction, accepted)

    def reference() -> None:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        both = wanted, {k: [v] for k, v in said.items()}
        Bleu(4).compute_score(*both, verbose=0)
        Rouge().compute_score(*both)
        Cider().compute_score(*both)

    other = reference if _installed("pycocoevalcap") else None
    yield Case(f"{count:,} captions: BLEU, ROUGE-L, CIDEr", ours, "pycocoevalcap", other)
    yield Case(f"{count:,} answers: cleaned and matched", matches)


def box_cases(count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Pairs of boxes of a room's size and places."""
    side = int(np.ceil(np.sqrt(count)))
    boxes = np.concatenate([rng.uniform(-3, 3, (2, side, 3)), rng.uniform(0.3, 2, (2, side, 3))], axis=2)
    a, b = boxes
    yaws = rng.uniform(-np.pi, np.pi, (2, side, 1))
    turned_a, turned_b = (np.concatenate([box, yaw], axis=1) for box, yaw in zip(boxes, yaws, strict=True))
    pairs = list(itertools.product(range(side), range(side)))

    def one_by_one() -> None:
        for i, j in pairs:
            grounding.box_iou(a[i : i + 1], b[j : j + 1])

    yield Case(f"{side * side:,} box pairs: IoU", lambda: grounding.box_iou(a, b), "one by one", one_by_one)

    def turned_one_by_one() -> None:
        for i, j in pairs:
            grounding.oriented_box_iou(turned_a[i : i + 1], turned_b[j : j + 1])

    yield Case(
        f"{side * side:,} turned box pairs: exact IoU",
        lambda: grounding.oriented_box_iou(turned_a, turned_b),
        "one by one",
        turned_one_by_one,
    )
    descriptions = np.repeat(a, side, axis=0)[:count]
    truth = descriptions + rng.normal(0, 0.1, descriptions.shape) * [1, 1, 1, 0, 0, 0]
    yield Case(f"{count:,} descriptions: Acc@k", lambda: grounding.scanrefer_accuracy(descriptions, truth))
    some = [row[None] for row in descriptions], [row[None] for row in truth]
    yield Case(f"{count:,} descriptions: F1@0.5", lambda: grounding.multi3drefer_f1(*some))


def cloud_cases(count: int, rng: np.random.Generator) -> Iterator[Case]:
    """The walls of a room, and the same with 2 cm of noise."""
    truth = rng.uniform([0, 0, 0], [8, 6, 3], (count, 3))
    axis = rng.integers(0, 3, count)
    truth[np.arange(count), axis] = np.where(rng.random(count) < 0.5, 0.0, np.array([8.0, 6.0, 3.0])[axis])
    predicted = truth + rng.normal(0, 0.02, truth.shape)

    import open3d  # takes seconds, which are not the metric's

    def open3d_way() -> None:
        clouds = [
            open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points)).voxel_down_sample(0.02)
            for points in (predicted, truth)
        ]
        clouds[0].compute_point_cloud_distance(clouds[1])
        clouds[1].compute_point_cloud_distance(clouds[0])

    yield Case(
        f"2 clouds of {count:,} points: Acc, Comp, F",
        lambda: reconstruction.cloud_metrics(predicted, truth),
        "Open3D",
        open3d_way,
    )


def trajectory_cases(minutes: float, rng: np.random.Generator) -> Iterator[Case]:
    """A walk with noise, both recorded at 30 Hz with other clocks."""
    count = int(minutes * 60 * RATE)
    stamps = (np.arange(count) * 1e9 / RATE).astype(np.int64)
    truth = np.tile(np.eye(4), (count, 1, 1))
    truth[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.02, (count, 3)), axis=0)).as_matrix()
    truth[:, :3, 3] = np.cumsum(rng.normal(0, 0.02, (count, 3)), axis=0)
    predicted = truth.copy()
    predicted[:, :3, 3] += np.cumsum(rng.normal(0, 0.001, (count, 3)), axis=0)
    other = stamps + rng.integers(-3_000_000, 3_000_000, count)

    def nearest_one_by_one() -> None:
        for stamp in stamps:
            np.abs(other - stamp).argmin()

    def pairs_one_by_one() -> None:
        for k in range(count - 1):
            should = np.linalg.inv(truth[k]) @ truth[k + 1]
            moved = np.linalg.inv(predicted[k]) @ predicted[k + 1]
            error = np.linalg.inv(should) @ moved
            np.linalg.norm(error[:3, 3])
            trajectory.rotation_angle(error[:3, :3])

    name = f"{minutes:g} min at 30 Hz ({count:,} poses)"
    yield Case(
        f"{name}: association", lambda: trajectory.associate(stamps, other), "stamp by stamp", nearest_one_by_one
    )
    yield Case(f"{name}: ATE, Sim(3)", lambda: trajectory.ate(predicted, truth, "sim3"), *_evo(truth, predicted))
    yield Case(f"{name}: RPE", lambda: trajectory.rpe(predicted, truth), "pair by pair", pairs_one_by_one)
    yield Case(f"{name}: error by length", lambda: errors_by_length(predicted, truth))


def _evo(truth: np.ndarray, predicted: np.ndarray) -> tuple[str, Callable[[], object] | None]:
    if not _installed("evo"):
        return "evo", None
    from evo.core import metrics
    from evo.core.trajectory import PosePath3D

    def reference() -> None:
        paths = [PosePath3D(poses_se3=list(poses)) for poses in (truth, predicted)]
        paths[1].align(paths[0], correct_scale=True)
        error = metrics.APE(metrics.PoseRelation.translation_part)
        error.process_data((paths[0], paths[1]))

    return "evo", reference


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the metrics.")
    parser.add_argument("--repeats", type=int, default=3, help="runs for the median (default: %(default)s)")
    parser.add_argument("--captions", type=int, default=10_000, help="captions and answers (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=10_000, help="box pairs (default: %(default)s)")
    parser.add_argument("--points", type=int, default=1_000_000, help="points of each cloud (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the trajectory (default: %(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    cases = itertools.chain(
        caption_cases(arguments.captions, rng),
        box_cases(arguments.pairs, rng),
        cloud_cases(arguments.points, rng),
        trajectory_cases(arguments.minutes, rng),
    )
    rows = []
    for case in cases:
        case.work()
        seconds = statistics.median(cpu_seconds(case.work) for _ in range(arguments.repeats))
        # The other way may take minutes: once is enough for a ratio.
        other = cpu_seconds(case.other) if case.other else None
        ratio = [f"{other:.3g}", f"{other / seconds:.3g}"] if other is not None else ["-", "-"]
        rows.append((case.name, f"{seconds:.3g}", case.other_name or "-", *ratio))
    print(f"{machine()}\nmedians of {arguments.repeats} runs; peak memory {peak_memory()}\n")
    print(table("Metrics", ["what", "CPU s", "other way", "CPU s", "other / ours"], rows))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of one run."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
