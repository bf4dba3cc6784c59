"""Everything a replay brought to light, and the files it is kept in."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.evaluation.recordings.trajectory_files import write_tum
from vidllm_ros.model.outputs import Box3D

PARTS = ("points", "poses", "boxes", "answers")


@dataclass(frozen=True, eq=False)
class AskedQuestion:
    """A question and what the node said.

    Attributes:
        question: as asked.
        answer: empty when the node refused.
        confidence: mean probability of the chosen tokens, 0 to 1.
        boxes: boxes of the answer, in map.
        window_id: the window that was asked.
        inference_time: seconds inside the node.
        latency: seconds until the answer was here.
        error_code: 0, or one of ``vidllm_ros/srv/Query``.
        message: why there is no answer.
    """

    question: str
    answer: str
    confidence: float = 0.0
    boxes: tuple[Box3D, ...] = ()
    window_id: int = 0
    inference_time: float = 0.0
    latency: float = 0.0
    error_code: int = 0
    message: str = ""


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """An input frame kept for the report.

    Attributes:
        stamp_ns: acquisition time.
        rgb: uint8 [H, W, 3].
    """

    stamp_ns: int
    rgb: np.ndarray


@dataclass(frozen=True, eq=False)
class Replay:
    """One recording that went through the node.

    Attributes:
        recording: path, topic, type, frames, duration and size of the input, by name.
        settings: command line, checkpoint and parameters of the run, by name.
        stamps_ns: int64 [K], one for each pose.
        T_map_camera: float64 [K, 4, 4].
        points: float32 [P, 3] metres in map.
        colors: uint8 [P, 3].
        boxes: boxes of the configured labels, in map.
        asked: questions with their answers.
        windows: one row for each window, the fields of ``vidllm_ros/msg/WindowInfo``.
        frames: a few input frames.
        depth: the node's depth images by stamp, float32 [h, w] metres, NaN where unknown.
        published: frames that were sent to the node.
        used_frames: those the node used in at least one window.
        wall_time: seconds from the first frame to the last answer.
    """

    recording: dict[str, Any]
    settings: dict[str, Any]
    stamps_ns: np.ndarray
    T_map_camera: np.ndarray
    points: np.ndarray
    colors: np.ndarray
    boxes: tuple[Box3D, ...] = ()
    asked: tuple[AskedQuestion, ...] = ()
    windows: tuple[dict[str, Any], ...] = ()
    frames: tuple[SeenFrame, ...] = ()
    depth: Mapping[int, np.ndarray] = field(default_factory=dict)
    published: int = 0
    used_frames: int = 0
    wall_time: float = 0.0

    def lacking(self, required: Sequence[str] = PARTS) -> str:
        """One sentence on the first required part that is missing, or an empty text."""
        unanswered = [a for a in self.asked if a.error_code or not a.answer]
        problems = {
            "points": "" if len(self.points) and np.isfinite(self.points).all() else "the map has no finite points",
            "poses": "" if len(self.T_map_camera) else f"no pose for any of {self.published} frames",
            "boxes": ""
            if self.boxes or any(a.boxes for a in self.asked)
            else "no box was found for any label or question",
            "answers": "no question was asked" if not self.asked else "",
        }
        if unanswered:
            why = unanswered[0].message or "an empty answer"
            problems["answers"] = f"{len(unanswered)} of {len(self.asked)} questions have no answer ({why})"
        return next((f"{part} missing: {problems[part]}" for part in required if problems[part]), "")


def write(folder: Path, replay: Replay) -> list[Path]:
    """Write ``trajectory.tum``, ``boxes.json``, ``answers.json``, ``windows.csv`` and ``config.json``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tum(folder / "trajectory.tum", replay.stamps_ns, replay.T_map_camera)
    _write_json(folder / "boxes.json", {"frame": "map", "boxes": [box_row(box) for box in replay.boxes]})
    _write_json(folder / "answers.json", {"answers": [_answer_row(asked) for asked in replay.asked]})
    _write_json(folder / "config.json", {"recording": replay.recording, **replay.settings})
    with (folder / "windows.csv").open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in replay.windows for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(replay.windows)
    return [folder / n for n in ("trajectory.tum", "boxes.json", "answers.json", "windows.csv", "config.json")]


def box_row(box: Box3D) -> dict[str, Any]:
    """A box as JSON: label, score, centre and full size in metres, yaw in radians and the whole rotation."""
    rotation = np.asarray(box.rotation, dtype=np.float64)
    return {
        "label": box.label,
        "score": round(float(box.score), 4),
        "center": [round(float(v), 4) for v in box.center],
        "size": [round(float(v), 4) for v in box.size],
        "yaw": round(float(np.arctan2(rotation[1, 0], rotation[0, 0])), 5),
        "rotation": [[round(float(v), 6) for v in row] for row in rotation],
    }


def _answer_row(asked: AskedQuestion) -> dict[str, Any]:
    return {**vars(asked), "boxes": [box_row(box) for box in asked.boxes]}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
