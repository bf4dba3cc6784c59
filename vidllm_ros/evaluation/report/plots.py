"""Figures of a scored trajectory as plotly.js understands them: the way against the truth, and how its error grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidllm_ros.evaluation.metrics.along_path import LengthError, PathErrors
from vidllm_ros.evaluation.report.images import PREDICTED_PATH, TRUE_PATH

MAX_POINTS = 4000  # of a line in the page
_FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": "#1b1f24"}
_LAYOUT: dict[str, Any] = {
    "font": _FONT,
    "height": 300,
    "margin": {"l": 56, "r": 56, "t": 8, "b": 44},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "legend": {"orientation": "h", "y": 1.12},
}
_GRID = {"gridcolor": "#e3e6ea", "zeroline": False}


def way(errors: PathErrors) -> dict[str, Any]:
    """Both ways from above, the prediction after its SE(3) alignment, metres in the true world."""
    return {
        "data": [
            _line(errors.truth[:, 0], errors.truth[:, 1], "truth", TRUE_PATH),
            _line(errors.predicted[:, 0], errors.predicted[:, 1], "node", PREDICTED_PATH),
        ],
        "layout": {
            **_LAYOUT,
            "height": 420,
            "xaxis": {**_GRID, "title": {"text": "x, m"}},
            "yaxis": {**_GRID, "title": {"text": "y, m"}, "scaleanchor": "x"},
        },
    }


def over_time(errors: PathErrors) -> dict[str, Any]:
    """Error of position and orientation over seconds."""
    seconds = (errors.stamps_ns - errors.stamps_ns[0]) / 1e9
    turned = {**_line(seconds, errors.rotation, "orientation", "#0b6e4f"), "yaxis": "y2"}
    return {
        "data": [_line(seconds, errors.position, "position", PREDICTED_PATH), turned],
        "layout": {
            **_LAYOUT,
            "xaxis": {**_GRID, "title": {"text": "seconds"}},
            "yaxis": {**_GRID, "title": {"text": "position, m"}, "rangemode": "tozero"},
            "yaxis2": {
                "title": {"text": "orientation, degrees"},
                "rangemode": "tozero",
                "overlaying": "y",
                "side": "right",
            },
        },
    }


def by_length(rows: Sequence[LengthError]) -> dict[str, Any]:
    """Mean relative error over stretches of the way, in per cent of their length."""
    return {
        "data": [
            {
                "type": "bar",
                "name": "translation",
                "x": [f"{row.length:g} m" for row in rows],
                "y": [100 * row.translation / row.length for row in rows],
                "text": [f"{row.translation:.3g} m, {row.rotation:.2g} deg" for row in rows],
                "marker": {"color": PREDICTED_PATH},
                "hovertemplate": "%{y:.1f} %: %{text}<extra></extra>",
            }
        ],
        "layout": {
            **_LAYOUT,
            "bargap": 0.4,
            "xaxis": {"title": {"text": "length of the stretch"}, "type": "category"},
            "yaxis": {**_GRID, "title": {"text": "error, % of the length"}, "rangemode": "tozero"},
        },
    }


def _line(x: np.ndarray, y: np.ndarray, name: str, color: str) -> dict[str, Any]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).astype(int))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.round(np.asarray(x, dtype=np.float64)[chosen], 4).tolist(),
        "y": np.round(np.asarray(y, dtype=np.float64)[chosen], 4).tolist(),
        "line": {"color": color, "width": 2},
    }
