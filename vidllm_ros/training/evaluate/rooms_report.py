"""Held-out rooms: the network against baselines that see nothing, with confidence intervals over rooms."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.evaluation.metrics import poses as pose_metrics
from vidllm_ros.evaluation.metrics.grounding import mean_average_precision
from vidllm_ros.evaluation.metrics.intervals import Interval, bootstrap, bootstrap_difference
from vidllm_ros.model import VidLLM
from vidllm_ros.training.evaluate.room_scores import CONSTANTS, RoomScores, mean_sizes, read_boxes, score_room
from vidllm_ros.training.rooms import room_sample

TASKS = 24  # questions about a room
QUESTION_KINDS = ("count", "existence", "colour", "size", "distance", "relation", "location")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is measured, with its unit.
        value: the network.
        baseline: the same for the baseline; None where there is none.
        baseline_name: what the baseline is.
        difference: network minus baseline, item by item; the network is better where it lies clear of 0 on the good
            side.
    """

    name: str
    value: Interval
    baseline: Interval | None = None
    baseline_name: str = ""
    difference: Interval | None = None


def summarize(rooms: list[RoomScores]) -> list[Row]:
    """The table."""
    best = int(np.argmin(np.mean([frame for room in rooms for frame in room.constant], axis=0)))
    constant_errors = [[frame[best] for frame in room.constant] for room in rooms]

    def row(name: str, values: list[list[float]], baseline: list[list[float]] | None = None, label: str = "") -> Row:
        if baseline is None:
            return Row(name, bootstrap(values))
        return Row(name, bootstrap(values), bootstrap(baseline), label, bootstrap_difference(values, baseline))

    def adjusted(name: str, measure: str) -> Row:
        before, after = ([getattr(room, prefix + measure) for room in rooms] for prefix in ("", "adjusted_"))
        return row(name, after, before, "before")

    def of_kinds(kinds: tuple[str, ...], results: str) -> list[list[float]]:
        return [
            [value for kind, value in zip(room.kinds, getattr(room, results), strict=True) if kind in kinds]
            for room in rooms
        ]

    def hits(ious: str, threshold: float) -> list[list[float]]:
        return [[float(value >= threshold) for value in getattr(room, ious)] for room in rooms]

    rows = [
        row(
            "depth AbsRel", [r.abs_rel for r in rooms], constant_errors, f"best constant depth, {CONSTANTS[best]:.2f} m"
        ),
        row("depth delta1", [r.delta1 for r in rooms]),
        row(
            "rotation error of a pair, degrees",
            [r.pair_rotation for r in rooms],
            [r.rotation_still for r in rooms],
            "no motion",
        ),
        row("translation error, m", [r.translation for r in rooms], [r.translation_still for r in rooms], "no motion"),
        row("scale error of a window", [r.scale_error for r in rooms]),
        row("F-score of a window's points at 5 cm", [r.f_score for r in rooms]),
        adjusted("rotation error of a pair after bundle adjustment, degrees", "pair_rotation"),
        adjusted("translation error after bundle adjustment, m", "translation"),
        adjusted("F-score of the points at 5 cm after bundle adjustment", "f_score"),
        adjusted("depth AbsRel after bundle adjustment", "abs_rel"),
        adjusted("scale error of a window after bundle adjustment", "scale_error"),
        row(
            "question exact match",
            of_kinds(QUESTION_KINDS, "correct"),
            of_kinds(QUESTION_KINDS, "correct_blind"),
            "same model, visual tokens blanked",
        ),
        row("box Acc@0.25", hits("iou", 0.25), hits("iou_random", 0.25), "random boxes of the mean size"),
        row("box mean IoU", [r.iou for r in rooms], [r.iou_random for r in rooms], "random boxes of the mean size"),
        row("box Acc@0.5", hits("iou", 0.5), hits("iou_random", 0.5), "random boxes of the mean size"),
    ]
    for kind in sorted({kind for scores in rooms for kind in scores.kinds}):
        rows.append(
            row(f"exact match: {kind}", of_kinds((kind,), "correct"), of_kinds((kind,), "correct_blind"), "blanked")
        )
    return rows


def further_figures(rooms: list[RoomScores]) -> dict[str, float]:
    """Figures without an interval: pose accuracies over all pairs, mAP, seconds per window."""
    before = pose_metrics.summary([room.pairs for room in rooms])
    after = pose_metrics.summary([room.adjusted_pairs for room in rooms])
    adjusted = {f"{name} after bundle adjustment": value for name, value in after.items() if name != "pairs"}
    boxes = ([read_boxes(r.located) for r in rooms], [read_boxes(r.true_boxes) for r in rooms])
    located = mean_average_precision(*boxes)
    return {
        **before,
        **adjusted,
        "mAP@0.25": located["mAP"],
        "seconds per window": float(np.median([r.seconds for r in rooms])),
    }


def evaluate_rooms(
    model: VidLLM, rooms: int = 50, frames: int = 32, tasks: int = TASKS
) -> tuple[list[Row], dict[str, float]]:
    """Evaluate on the first held-out rooms; ``summarize`` and ``further_figures`` of what came out."""
    sizes = mean_sizes()
    scores = []
    for seed in range(rooms):
        sample = room_sample(seed, "test", frames=frames, image_size=model.config.image_size, tasks=tasks)
        scores.append(score_room(model, sample, sizes))
    return summarize(scores), further_figures(scores)


@dataclass(frozen=True)
class RoomsReport:
    """The table of ``vidllm evaluate rooms`` and where it goes.

    Attributes:
        rows: the table.
        further: figures without an interval.
        settings: checkpoint, frames and the like, by name.
    """

    rows: list[Row]
    further: dict[str, float]
    settings: dict[str, Any]

    def table(self) -> str:
        """As Markdown."""
        lines = ["| measure | network [95 % over rooms] | baseline | difference |", "| --- | --- | --- | --- |"]
        for row in self.rows:
            baseline = f"{row.baseline} ({row.baseline_name})" if row.baseline else "-"
            lines.append(f"| {row.name} | {row.value} | {baseline} | {row.difference or '-'} |")
        return "\n".join([*lines, "", *(f"{name}: {value:.3f}" for name, value in self.further.items())])

    def write(self, folder: Path) -> None:
        """``summary.json``, ``summary.csv`` and ``summary.md`` in a folder."""
        content = {"settings": self.settings, "rows": [asdict(row) for row in self.rows], "further": self.further}
        (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "summary.md").write_text(self.table() + "\n", encoding="utf-8")
        with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["measure", "value", "low", "high", "baseline", "difference", "difference low", "difference high"]
            )
            for row in self.rows:
                value, baseline, difference = (
                    [i.mean, i.low, i.high] if i else [""] * 3 for i in (row.value, row.baseline, row.difference)
                )
                writer.writerow([row.name, *value, baseline[0], *difference])
