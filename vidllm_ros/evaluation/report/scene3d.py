"""Figures of the report as plotly.js understands them: the scene one can turn, and the time of each window."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidllm_ros.evaluation.report import images
from vidllm_ros.evaluation.results import Replay
from vidllm_ros.model.outputs import Box3D

MAX_POINTS = 60_000  # of the cloud in the page; more would slow a laptop down
FRUSTA = 24
_EDGES = [(0, 1), (0, 2), (0, 4), (3, 1), (3, 2), (3, 7), (5, 1), (5, 4), (5, 7), (6, 2), (6, 4), (6, 7)]
_FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": "#1b1f24"}
_STEPS = (
    ("encode", "encode_time", "#9db8f5"),
    ("reconstruct", "reconstruct_time", "#1f4fd8"),
    ("fuse", "fuse_time", "#5b6470"),
    ("locate", "locate_time", "#0b6e4f"),
    ("publish", "publish_time", "#c3c8cf"),
)


def figure(replay: Replay, true_path: np.ndarray | None, true_boxes: Sequence[Box3D]) -> dict[str, Any]:
    """The map, the camera's way, frusta and boxes; truth in grey.

    Args:
        replay: what came out of the node.
        true_path: [M, 3] metres in map, or None.
        true_boxes: in map.
    """
    points, colors = replay.points, replay.colors
    if len(points) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(points), MAX_POINTS, replace=False)
        points, colors = points[chosen], colors[chosen]
    low = images.below_ceiling(points, replay.T_map_camera)
    traces = [
        _cloud(points[low], colors[low], "map"),
        _cloud(points[~low], colors[~low], "map above the camera", shown=False),
    ]
    if true_path is not None:
        traces.append(_line(true_path, "true path", images.TRUE_PATH, 4))
    if len(replay.T_map_camera):
        traces.append(_line(replay.T_map_camera[:, :3, 3], "camera path", images.PREDICTED_PATH, 6))
        traces.append(_line(_frusta(replay.T_map_camera), "cameras", images.PREDICTED_PATH, 1.5))
    labels = [box.label for box in (*replay.boxes, *true_boxes)]
    for label in sorted({box.label for box in replay.boxes}):
        chosen = [box for box in replay.boxes if box.label == label]
        color = images.label_color(label, labels)
        traces.append({**_line(_wires(chosen), label, color, 4), "hoverinfo": "name"})
        traces.append(_labels(chosen, color))
    if true_boxes:
        trace = _line(_wires(true_boxes), "true boxes", images.TRUE_PATH, 2)
        traces.append({**trace, "line": {**trace["line"], "dash": "dash"}, "visible": "legendonly"})
    axis = {"showbackground": False, "gridcolor": "#d5dae1", "zeroline": False, "ticksuffix": " m"}
    return {
        "data": [trace for trace in traces if trace],
        "layout": {
            "font": _FONT,
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "legend": {"x": 0, "y": 1, "bgcolor": "rgba(255,255,255,0.75)", "itemsizing": "constant"},
            "scene": {
                "aspectmode": "data",
                "bgcolor": "#eef1f5",
                "dragmode": "orbit",
                "xaxis": {**axis, "title": {"text": "x"}},
                "yaxis": {**axis, "title": {"text": "y"}},
                "zaxis": {**axis, "title": {"text": "z"}},
                "camera": {"eye": {"x": -0.85, "y": -0.85, "z": 0.85}, "up": {"x": 0, "y": 0, "z": 1}},
            },
        },
    }


def timing_bars(windows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of each step, one stacked bar for each window."""
    numbers = [row["window_id"] for row in windows]
    return {
        "data": [
            {
                "type": "bar",
                "name": name,
                "x": numbers,
                "y": [row.get(key, 0.0) for row in windows],
                "marker": {"color": color},
                "hovertemplate": f"{name} %{{y:.3f}} s<extra>window %{{x}}</extra>",
            }
            for name, key, color in _STEPS
        ],
        "layout": {
            "barmode": "stack",
            "font": _FONT,
            "height": 240,
            "bargap": 0.35,
            "margin": {"l": 48, "r": 8, "t": 8, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {"title": {"text": "window"}, "type": "category"},
            "yaxis": {"title": {"text": "seconds"}, "gridcolor": "#e3e6ea", "rangemode": "tozero"},
            "legend": {"orientation": "h", "y": 1.15},
        },
    }


def _cloud(points: np.ndarray, colors: np.ndarray, name: str, shown: bool = True) -> dict[str, Any]:
    if not len(points):
        return {}
    values = colors.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    return {
        "type": "scatter3d",
        "mode": "markers",
        "name": name,
        **_xyz(points),
        "marker": {"size": 2.2, "color": [f"#{value:06x}" for value in values.tolist()]},
        "hovertemplate": "%{x:.2f}, %{y:.2f}, %{z:.2f} m<extra></extra>",
        "visible": True if shown else "legendonly",
    }


def _line(points: np.ndarray, name: str, color: str, width: float) -> dict[str, Any]:
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": name,
        **_xyz(points),
        "line": {"color": color, "width": width},
        "hoverinfo": "skip",
    }


def _labels(boxes: Sequence[Box3D], color: str) -> dict[str, Any]:
    tops = np.array([np.asarray(box.center) + [0, 0, np.asarray(box.size)[2] / 2 + 0.05] for box in boxes])
    return {
        "type": "scatter3d",
        "mode": "text",
        **_xyz(tops),
        "text": [f"{box.label} {box.score:.2f}" for box in boxes],
        "textfont": {**_FONT, "color": color},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _xyz(points: np.ndarray) -> dict[str, Any]:
    """Coordinates as base64 of float32, which plotly.js reads directly; a NaN row breaks a line."""
    columns = np.asarray(points, dtype="<f4").reshape(-1, 3).T
    return {
        axis: {"dtype": "f4", "bdata": base64.b64encode(np.ascontiguousarray(column).tobytes()).decode("ascii")}
        for axis, column in zip("xyz", columns, strict=True)
    }


def _wires(boxes: Sequence[Box3D]) -> np.ndarray:
    gap = np.full(3, np.nan)
    return np.array([point for box in boxes for a, b in _EDGES for point in (box.corners()[a], box.corners()[b], gap)])


def _frusta(poses: np.ndarray) -> np.ndarray:
    """Small pyramids that open along each camera's optical axis."""
    chosen = poses[np.unique(np.linspace(0, len(poses) - 1, FRUSTA).astype(int))]
    corners = 0.12 * np.array([[-0.6, -0.45, 1], [0.6, -0.45, 1], [0.6, 0.45, 1], [-0.6, 0.45, 1]])
    gap = np.full(3, np.nan)
    rows = []
    for pose in chosen:
        tips = corners @ pose[:3, :3].T + pose[:3, 3]
        rows += [*tips, tips[0], gap]
        rows += [point for tip in tips for point in (pose[:3, 3], tip, gap)]
    return np.array(rows)
