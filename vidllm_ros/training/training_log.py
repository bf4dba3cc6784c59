"""What a training run tells: log.csv, the same values for TensorBoard, and a page of curves at the end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from vidllm_ros.model.whole_files import replacing

MAX_POINTS = 2000  # of a curve in the page
_COLUMNS = 3
_COUNTERS = ("step", "frames", "seconds")


class TrainingLog:
    """Writes rows of values; one process of those that train together has one.

    Args:
        folder: gets ``log.csv`` and ``tensorboard/``. Rows are added to those of an earlier run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._asked = False

    def add(self, step: int, frames: int, seconds: float, values: dict[str, float]) -> None:
        """One row: means over the steps since the last."""
        counters = {"step": step, "frames": frames, "seconds": round(seconds, 1)}
        append_row(self._folder / "log.csv", {**counters, **{name: f"{value:.5f}" for name, value in values.items()}})
        if not self._asked:
            self._writer, self._asked = _tensorboard(self._folder / "tensorboard", step), True
        if self._writer is not None:
            for name, value in {**values, "frames": frames}.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the files, and draw ``curves.html`` from all rows."""
        if self._writer is not None:
            self._writer.close()
            self._writer, self._asked = None, False
        if (self._folder / "log.csv").exists():
            draw_curves(self._folder / "log.csv", self._folder / "curves.html")


def _tensorboard(folder: Path, step: int) -> Any:
    """Its writer; None, with a note, where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("no TensorBoard log (log.csv has all values): pip install 'vidllm_ros[train]'", flush=True)
        return None
    # What a killed run wrote after the checkpoint that this one resumed from is hidden.
    return SummaryWriter(str(folder), purge_step=step)


def append_row(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV file with a header; a value never seen before becomes a new column of the whole file."""
    rows: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    columns = list(dict.fromkeys([*(rows[0] if rows else row), *row]))
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows([*rows, row])


def draw_curves(log: Path, page: Path) -> None:
    """Every value of a ``log.csv`` over the steps, as a page that needs no network. Without plotly only a note."""
    try:
        from plotly.graph_objects import Scatter
        from plotly.subplots import make_subplots
    except ImportError:
        print(f"no {page.name}: pip install 'vidllm_ros[train]'", flush=True)
        return
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: -(-len(rows) // MAX_POINTS)]
    names = [name for name in rows[0] if name not in _COUNTERS]
    height = -(-len(names) // _COLUMNS)
    figure = make_subplots(rows=height, cols=_COLUMNS, subplot_titles=names)
    for place, name in enumerate(names):
        known = [(int(row["step"]), float(row[name]), row["frames"]) for row in rows if row[name]]
        steps, values, frames = zip(*known, strict=True) if known else ((), (), ())
        line = Scatter(x=steps, y=values, customdata=frames, name=name, mode="lines", line={"color": "#0b5394"})
        line.hovertemplate = "step %{x}, %{customdata} frames: %{y:.4f}<extra></extra>"
        figure.add_trace(line, row=place // _COLUMNS + 1, col=place % _COLUMNS + 1)
    figure.update_layout(showlegend=False, height=260 * height, title=f"{log.parent.name}: means over steps")
    with replacing(page) as partial:
        figure.write_html(partial, include_plotlyjs=True)
