"""``vidllm evaluate compare A B``: two runs of one benchmark side by side, with confidence intervals."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.evaluation import bag_runs
from vidllm_ros.evaluation.benchmarks import benchmark
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.limits import flat
from vidllm_ros.evaluation.metrics.intervals import Interval, bootstrap, bootstrap_difference

FEW_SCENES = 10  # fewer say little about others, whatever their intervals


@dataclass(frozen=True)
class Run:
    """The results in one folder.

    Attributes:
        folder: where they are.
        benchmark: which.
        settings: checkpoint, data and the like.
        rows: by scene.
        figures: of the whole run, which have no items to draw from, by name.
    """

    folder: Path
    benchmark: str
    settings: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One figure of both runs, on the items that both have.

    Attributes:
        name: with its unit.
        higher: whether more is better.
        a: of the first run.
        b: of the second run.
        difference: b minus a, item by item.
    """

    name: str
    higher: bool
    a: Interval
    b: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """Which one is better; "" where the interval holds 0 or there is one scene only."""
        low, high = self.difference.low, self.difference.high
        if self.difference.rooms < 2 or low <= 0 <= high:
            return ""
        return "B" if (low > 0) == self.higher else "A"


@dataclass(frozen=True)
class Comparison:
    """Two runs on what both have.

    Attributes:
        a: the first.
        b: the second.
        rows: figure by figure.
        confidence: of the intervals.
        notes: sentences below the table.
    """

    a: Run
    b: Run
    rows: tuple[Difference, ...]
    confidence: float
    notes: tuple[str, ...]

    def figures(self) -> list[tuple[str, float, float]]:
        """Figures of both whole runs, by name."""
        known = [(name, value, self.b.figures.get(name)) for name, value in self.a.figures.items()]
        return [(name, float(a), float(b)) for name, a, b in known if a is not None and b is not None]

    def table(self) -> str:
        """As Markdown."""
        lines = [f"A: {self.a.folder} ({self.a.settings['checkpoint']})"]
        lines += [f"B: {self.b.folder} ({self.b.settings['checkpoint']})", ""]
        lines += [f"| {self.a.benchmark} | A | B | B - A [{self.confidence:.0%}] | better |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for row in self.rows:
            values = f"{row.a.mean:.4g} | {row.b.mean:.4g} | {row.difference} | {row.verdict or '-'}"
            lines.append(f"| {row.name} | {values} |")
        if figures := self.figures():
            lines += ["", "| without interval | A | B | B - A |", "| --- | --- | --- | --- |"]
            lines += [f"| {name} | {a:.4g} | {b:.4g} | {b - a:.4g} |" for name, a, b in figures]
        return "\n".join([*lines, "", *self.notes])


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="two runs of one benchmark side by side",
        description="Compare two result folders of the same benchmark on the items that both have: differences with "
        "paired bootstrap intervals over scenes, as a table, JSON, CSV and a page with a plot.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="result folder (--out) of the first run")
    parser.add_argument("b", type=Path, metavar="B", help="of the second run")
    parser.add_argument("--out", type=Path, default=Path("compare"), metavar="DIR", help="where to write (compare)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals, 0 to 1 (0.95)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write and print the table."""
    made = compare(read_run(arguments.a), read_run(arguments.b), arguments.confidence)
    write(made, arguments.out)
    print(made.table())
    print(f"written to {arguments.out}")
    return 0


def read_run(folder: Path) -> Run:
    """The results in a folder that ``vidllm evaluate`` wrote.

    Raises:
        EvaluationError: there are none, or not scene by scene.
    """
    file = folder / benchmark.SETTINGS
    if not file.exists() and (folder / bag_runs.SCORES).exists():
        settings, rows, scores = bag_runs.read_bag_run(folder)
        figures = {name: value for name, value in flat(scores).items() if not name.startswith("answers.matched.")}
        return Run(folder, "bag", settings, rows, figures)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        name = settings.pop("benchmark")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise EvaluationError(
            f"{folder} holds no results to compare ({file.name}: {error!r}): give the --out of a benchmark, such as "
            "vidllm evaluate scanqa or bag."
        ) from error
    rows = {row["scene"]: row for row in benchmark.read_folder(folder)}
    if not rows:
        raise EvaluationError(f"{folder} holds no result yet: let its run finish a scene first.")
    return Run(folder, name, settings, rows)


def compare(a: Run, b: Run, confidence: float = 0.95) -> Comparison:
    """Figure by figure, on the scenes that both runs have.

    Raises:
        EvaluationError: other benchmarks, other items, no scene in common, or a confidence outside 0 to 1.
    """
    from vidllm_ros.evaluation.measures import BENCHMARKS

    if a.benchmark != b.benchmark:
        raise EvaluationError(
            f"{a.folder} is a run of {a.benchmark} and {b.folder} one of {b.benchmark}: only runs of one benchmark "
            "compare."
        )
    if a.benchmark not in BENCHMARKS:
        raise EvaluationError(f"runs of {a.benchmark} cannot be compared: use one of {', '.join(BENCHMARKS)}.")
    items = BENCHMARKS[a.benchmark]
    for key in items.agree:
        if a.settings.get(key) != b.settings.get(key):
            raise EvaluationError(
                f"{a.folder} was made with {key} = {a.settings.get(key)} and {b.folder} with {b.settings.get(key)}: "
                "they did not look at the same. Repeat one of them."
            )
    common = sorted(set(a.rows) & set(b.rows))
    if not common:
        raise EvaluationError(f"{a.folder} and {b.folder} have no scene in common.")
    groups: dict[str, list[str]] = {}
    for scene in common:
        groups.setdefault(items.group(a.rows[scene]), []).append(scene)
    for scene in common:
        if items.identity(a.rows[scene]) != items.identity(b.rows[scene]):
            raise EvaluationError(
                f"scene {scene} has other items in {b.folder} than in {a.folder}: the two used other annotations or "
                "frames. Repeat one of them."
            )
    ours, theirs = (items.measures([run.rows[scene] for scene in common]) for run in (a, b))
    rows = []
    for one, other in zip(ours, theirs, strict=True):
        left, right = _both_known(*(_gathered(its.values, groups) for its in (one, other)))
        if any(len(values) for values in left):
            parts = (bootstrap(left, confidence), bootstrap(right, confidence))
            rows.append(Difference(one.name, one.higher, *parts, bootstrap_difference(right, left, confidence)))
    notes = _notes(a, b, len(groups), items.noun, len(rows), confidence)
    return Comparison(a, b, tuple(rows), confidence, tuple(notes))


def write(made: Comparison, folder: Path) -> None:
    """``compare.md``, ``compare.json``, ``compare.csv`` and, where Jinja2 is installed, ``compare.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.md").write_text(made.table() + "\n", encoding="utf-8")
    rows = [{**asdict(row), "better": row.verdict or None} for row in made.rows]
    content = {
        "benchmark": made.a.benchmark,
        "a": {"folder": str(made.a.folder), "settings": made.a.settings},
        "b": {"folder": str(made.b.folder), "settings": made.b.settings},
        "confidence": made.confidence,
        "rows": rows,
        "figures": [{"name": name, "a": x, "b": y} for name, x, y in made.figures()],
        "notes": list(made.notes),
    }
    (folder / "compare.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (folder / "compare.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["measure", "a", "b", "difference", "low", "high", "scenes", "items", "better"])
        for row in made.rows:
            d = row.difference
            writer.writerow([row.name, row.a.mean, row.b.mean, d.mean, d.low, d.high, d.rooms, d.items, row.verdict])
    try:
        from vidllm_ros.evaluation.report.page import environment
    except ModuleNotFoundError:
        return  # the extra viz is not installed, and everything but the plot is there
    page = environment().get_template("compare.html").render(made=made, plots=[_plot(row) for row in made.rows])
    (folder / "compare.html").write_text(page, encoding="utf-8")


def _gathered(values: Mapping[str, Sequence[float]], groups: Mapping[str, Sequence[str]]) -> list[list[float]]:
    return [[value for scene in scenes for value in values[scene]] for scenes in groups.values()]


def _both_known(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The items of each scene for which both runs have a number."""
    left, right = [], []
    for ours, theirs in zip(a, b, strict=True):
        x, y = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
        known = np.isfinite(x) & np.isfinite(y)
        left.append(x[known])
        right.append(y[known])
    return left, right


def _notes(a: Run, b: Run, groups: int, noun: str, measures: int, confidence: float) -> list[str]:
    notes = [
        f"{groups} {noun}. Intervals: paired bootstrap over these; 'better' where they leave out 0. Of "
        f"{measures} measures about {(1 - confidence) * measures:.1f} would do so by chance."
    ]
    if left_out := len(set(a.rows) ^ set(b.rows)):
        kind = "scenes" if noun == "scenes" else "poses, windows, boxes or questions"
        notes.append(f"{left_out} {kind} are in one of the runs only and are left out.")
    if groups < FEW_SCENES:
        notes.append(f"With fewer than {FEW_SCENES} {noun} the intervals are too narrow to rely on.")
    keys = [key for key in sorted({*a.settings, *b.settings}) if key not in ("checkpoint", "data")]
    for key in keys:
        if a.settings.get(key) != b.settings.get(key):
            notes.append(f"They also differ in {key}: A {a.settings.get(key)}, B {b.settings.get(key)}.")
    return notes


def _plot(row: Difference) -> dict[str, float]:
    """Where the interval lies on a line from -1 to 1 with 0 in its middle."""
    d = row.difference
    reach = 1.1 * max(abs(d.low), abs(d.high), abs(d.mean)) or 1.0
    return {"low": d.low / reach, "high": d.high / reach, "mean": d.mean / reach, "reach": reach}
