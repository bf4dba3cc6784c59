"""A folder of ``vidllm evaluate bag`` as items that two runs of one recording are compared on.

The errors of neighbouring poses resemble each other, so poses and windows are gathered in stretches of 5 seconds and
these are drawn, as scenes are elsewhere.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidllm_ros.evaluation.errors import EvaluationError

SCORES = "scores.json"
STRETCH_NS = 5_000_000_000
NOUN = "stretches of 5 s, boxes and questions"
# Name, whether more is better, and where a row has it.
FIGURES = (
    ("position error, m", False, "position"),
    ("orientation error, degrees", False, "rotation"),
    ("latency of a window, s", False, "latency"),
    ("IoU of a true box", True, "iou"),
    ("answers that match, %", True, "matched"),
)


def read_bag_run(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]:
    """Settings, rows by name, and ``scores.json`` itself.

    Raises:
        EvaluationError: a file is missing or damaged.
    """
    try:
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        recording = config["recording"]
        settings = {
            "checkpoint": config["checkpoint"],
            "recording": f"{recording['name']}, {recording['frames']} frames of {recording['topic']}",
            "true boxes": ", ".join(box["label"] for box in scores.get("boxes") or ()),
            **config.get("parameters", {}),
        }
        rows = {row["scene"]: row for row in (*_poses(folder), *_windows(folder), *_boxes(scores), *_answers(scores))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{folder} is no whole result of vidllm evaluate bag: {error!r}.") from error
    return settings, rows, scores


def values(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    """One figure of the rows that have it, by row."""
    return {row["scene"]: [row[key]] if key in row else [] for row in rows}


def _poses(folder: Path) -> Iterator[dict[str, Any]]:
    for line in _lines(folder / "path_errors.csv"):
        errors = {"position": float(line["position_error_m"]), "rotation": float(line["rotation_error_deg"])}
        yield {"scene": f"pose {line['stamp_ns']}", "group": _stretch(line["stamp_ns"]), **errors}


def _windows(folder: Path) -> Iterator[dict[str, Any]]:
    for line in _lines(folder / "windows.csv"):
        name = f"window {line['first_stamp']} to {line['last_stamp']}"
        if line["latency"]:
            yield {"scene": name, "group": _stretch(line["first_stamp"]), "latency": float(line["latency"])}


def _boxes(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for k, box in enumerate(scores.get("boxes") or ()):
        name = f"box {k}, {box['label']}"
        yield {"scene": name, "group": name, "iou": float(box["iou"])}


def _answers(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for question, matched in ((scores.get("answers") or {}).get("matched") or {}).items():
        name = f"question {question}"
        yield {"scene": name, "group": name, "matched": 100.0 * bool(matched)}


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():  # nothing was known about the camera's path
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _stretch(stamp_ns: str) -> str:
    return f"time {int(stamp_ns) // STRETCH_NS}"
