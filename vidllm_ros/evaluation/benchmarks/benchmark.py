"""Runs a checkpoint over a data set: scene by scene, resumable, in shards; keeps every scene's result.

``results.jsonl`` in the output folder holds one line per scene, written when the scene is done. A second run with the
same folder skips what is there. Several processes may each do a shard of the scenes in the same folder, each in a file
of its own, ``results.K-of-N.jsonl``; every run reads them all.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

RESULTS, SETTINGS = "results.jsonl", "settings.json"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """A question about a window.

    Attributes:
        key: unique in the data set.
        text: as it is asked.
        answers: accepted ones.
        bare: the question without the situation told before it; empty when they are the same.
    """

    key: str
    text: str
    answers: tuple[str, ...]
    bare: str = ""


@dataclass(frozen=True, eq=False)
class EvaluatedWindow:
    """Posed RGB-D frames of one scene.

    Attributes:
        name: of the scene.
        rgb: uint8 [S, H, W, 3] at the network's size.
        depth: float32 [S, H, W] metres, 0 where unknown.
        T_world_camera: float64 [S, 4, 4], world z up.
        T_scene_window: [4, 4] the first camera in the scene frame.
        questions: about it.
    """

    name: str
    rgb: np.ndarray
    depth: np.ndarray
    T_world_camera: np.ndarray
    T_scene_window: np.ndarray
    questions: tuple[Question, ...] = ()


def run(
    scenes: Sequence[str],
    load: Callable[[str], Item],
    evaluate: Callable[[Item], dict[str, Any]],
    out: Path,
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate the scenes of a shard that have no result yet.

    Args:
        scenes: names in a fixed order.
        load: what is known of a scene, such as an ``EvaluatedWindow``.
        evaluate: its result, which JSON can hold. A scene for which either raises a ValueError is left out and
            reported.
        out: folder for ``results.jsonl``, of a shard for ``results.K-of-N.jsonl``.
        shard: (k, n): every n-th scene from the k-th on, counted from 0.
        say: told the progress; stderr when not given.

    Returns:
        The results of the shard in the order of the scenes, those of earlier runs included; each has "scene".

    Raises:
        EvaluationError: a shard that does not exist, no scene that could be used, or damaged results.
    """
    k, n = existing(shard)
    tell = say or (lambda text: print(text, file=sys.stderr, flush=True))
    out.mkdir(parents=True, exist_ok=True)
    done = {row["scene"]: row for row in read_folder(out)}
    wanted = list(scenes)[k::n]
    waiting = [scene for scene in wanted if scene not in done]
    if len(waiting) < len(wanted):
        tell(f"{len(wanted) - len(waiting)} of {len(wanted)} scenes are done already in {out}")
    started, problem = time.monotonic(), ""
    with _appending(out / results_file(shard)) as file:
        for count, scene in enumerate(waiting, 1):
            try:
                result = evaluate(load(scene))
            except ValueError as error:
                problem = f"{scene}: {error}"
                tell(f"left out: {problem}")
                continue
            done[scene] = {"scene": scene, **result}
            file.write(json.dumps(done[scene], allow_nan=True) + "\n")
            file.flush()
            spent = time.monotonic() - started
            left = spent / count * (len(waiting) - count)
            tell(f"scene {count} of {len(waiting)}: {scene}; {_clock(spent)} gone, about {_clock(left)} left")
    rows = [done[scene] for scene in wanted if scene in done]
    if not rows:
        raise EvaluationError(f"none of {len(wanted)} scenes could be used; the last one, {problem or 'none at all'}")
    return rows


def existing(shard: tuple[int, int]) -> tuple[int, int]:
    """The shard (k, n) itself; raises EvaluationError where there is no such one."""
    k, n = shard
    if not 0 <= k < n:
        raise EvaluationError(f"shard {k}/{n} does not exist: the first of {n} is 0/{n}, the last {n - 1}/{n}.")
    return shard


def results_file(shard: tuple[int, int]) -> str:
    """Name of the file that a shard (k, n) writes; the only one of one writes ``results.jsonl``."""
    return RESULTS if shard[1] == 1 else f"results.{shard[0]}-of-{shard[1]}.jsonl"


def read_folder(out: Path, scenes: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The results in a folder, whatever shards wrote them; a scene that two of them did counts once.

    Args:
        out: the folder.
        scenes: those wanted, in their order; all when not given.

    Raises:
        EvaluationError: a file is damaged.
    """
    files = [out / RESULTS, *sorted(out.glob("results.*-of-*.jsonl"))]
    done = {row["scene"]: row for file in reversed(files) for row in read_results(file)}
    return list(done.values()) if scenes is None else [done[scene] for scene in scenes if scene in done]


def same_run(out: Path, settings: dict[str, Any]) -> None:
    """Write ``settings.json``, and refuse to continue the results of other settings.

    Raises:
        EvaluationError: the folder holds results of another checkpoint or other data.
    """
    text = json.dumps(settings, indent=2, default=str) + "\n"
    file = out / SETTINGS
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise EvaluationError(f"{out} holds results of another checkpoint or other data: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    # Several processes may do this at once: whoever reads finds all of it or nothing.
    fresh = out / f"{SETTINGS}.{os.getpid()}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The finished lines of a results file; a last line that is half written is left out.

    Raises:
        EvaluationError: another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append({**row, "scene": row["scene"]})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break  # its process was killed, or is writing it now
            raise EvaluationError(
                f"{path}, line {number} is no result: {error!r}. Remove the line, and its scene is done again."
            ) from error
    return rows


def _appending(path: Path) -> TextIO:
    """A results file to add lines to; what a killed run left of a last one is cut off."""
    if path.exists() and (text := path.read_text(encoding="utf-8")) and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    return path.open("a", encoding="utf-8")


@dataclass(frozen=True)
class Row:
    """One line of the final table.

    Attributes:
        name: what is measured, with its unit.
        value: of this checkpoint.
        paper: what the paper prints; None where it prints nothing.
        note: on the comparison.
    """

    name: str
    value: float
    paper: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What a benchmark gave.

    Attributes:
        benchmark: its name.
        rows: the table.
        settings: checkpoint, data, dialect and the like, by name.
        notes: sentences below the table.
    """

    benchmark: str
    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """As Markdown."""
        lines = ["| measure | this checkpoint | paper |", "| --- | --- | --- |"]
        for row in self.rows:
            paper = "-" if row.paper is None else f"{row.paper:g}"
            lines.append(f"| {row.name}{f' ({row.note})' if row.note else ''} | {row.value:.4g} | {paper} |")
        return "\n".join([*lines, "", *self.notes]).rstrip()

    def write(self, folder: Path) -> None:
        """``summary.json``, ``summary.csv`` and ``summary.md`` in a folder."""
        rows = [{"measure": r.name, "value": _plain(r.value), "paper": r.paper, "note": r.note} for r in self.rows]
        content = {"benchmark": self.benchmark, "settings": self.settings, "rows": rows, "notes": list(self.notes)}
        (folder / "summary.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        (folder / "summary.md").write_text(self.table() + "\n", encoding="utf-8")
        with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["measure", "value", "paper", "note"])
            writer.writeheader()
            writer.writerows(rows)


def nanmean(values: Iterable[float]) -> float:
    """Mean of what is finite; NaN when nothing is."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
