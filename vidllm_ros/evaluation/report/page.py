"""One self-contained page that shows a replay: frames, depth, map, a 3D view, answers, timings and errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vidllm_ros.evaluation.recordings.truth import GroundTruth
from vidllm_ros.evaluation.report import images, plots, scene3d
from vidllm_ros.evaluation.results import Replay
from vidllm_ros.evaluation.scores import Scores, move

TEMPLATES = Path(__file__).parent / "templates"
NANO_NOTE = (
    "The bundled model, nano, was trained on procedural rooms only and has never seen a real one. What it says about a "
    "real place shows that the interfaces work, not how well the method can see."
)
_PICTURE_WIDTH = 320


def write_report(
    path: str | Path,
    replay: Replay,
    scores: Scores,
    truth: GroundTruth | None = None,
    lacking: str = "",
    missed: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` and, beside it, the map from above as ``map.png``.

    Args:
        path: the page.
        replay: what came out of the node.
        scores: its errors, empty where nothing is known.
        truth: drawn into the map where its poses are known.
        lacking: one sentence on what is missing, shown at the top.
        missed: one sentence on each limit that was missed, shown there too.

    Returns:
        The path of the page.
    """
    path = Path(path)
    true_path, true_boxes = _truth_in_map(scores, truth)
    top = images.top_down(replay.points, replay.colors, replay.T_map_camera, replay.boxes, true_path, true_boxes)
    (path.parent / "map.png").write_bytes(images.encode(top))
    library = _plotly()
    page = (
        environment()
        .get_template("report.html")
        .render(
            replay=replay,
            lacking=lacking,
            missed=missed,
            scores=scores,
            references=truth.answers if truth else {},
            note=NANO_NOTE if replay.settings.get("model") == "nano" else "",
            tiles=_tiles(replay, scores),
            frames=_pictures(replay),
            depth_range=_depth_range(replay),
            top_down=images.data_uri(top, "jpeg"),
            true_path=true_path is not None,
            plotly=library,
            scene=scene3d.figure(replay, true_path, true_boxes) if library else None,
            timings=timings(replay.windows),
            bars=scene3d.timing_bars(replay.windows) if library else None,
            plots=_plots(scores) if library else {},
            version=_version(),
        )
    )
    path.write_text(page, encoding="utf-8")
    return path


def environment() -> Environment:
    """Jinja with our templates; text is escaped, since questions and answers may hold anything."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = figure
    made.filters["metres"] = lambda values: " × ".join(f"{float(v):.2f}" for v in values)
    return made


def figure(value: float | None, digits: int = 3) -> str:
    """A number for reading: so many significant digits, "–" for what is not known."""
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) < 1e-9:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def timings(windows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and largest seconds of each step of a window."""
    steps = [
        ("encode", "encode_time"),
        ("reconstruct", "reconstruct_time"),
        ("fuse", "fuse_time"),
        ("locate", "locate_time"),
        ("publish", "publish_time"),
    ]
    rows = []
    for name, key in steps:
        values = np.array([row[key] for row in windows if row.get(key) is not None], dtype=np.float64)
        if len(values):
            rows.append({"name": name, "median": float(np.median(values)), "max": float(values.max())})
    return rows


def _plots(scores: Scores) -> dict[str, Any]:
    """Figures of the trajectory by the name of their place in the page."""
    if scores.path is None:
        return {}
    figures = {"way": plots.way(scores.path), "over_time": plots.over_time(scores.path)}
    return {**figures, "by_length": plots.by_length(scores.lengths)} if scores.lengths else figures


def _tiles(replay: Replay, scores: Scores) -> list[tuple[str, str]]:
    stitched = sum(row.get("status") == "stitched" for row in replay.windows)
    length = np.linalg.norm(np.diff(replay.T_map_camera[:, :3, 3], axis=0), axis=1).sum()
    tiles = [
        ("frames used", f"{replay.used_frames} of {replay.published}"),
        ("windows", f"{len(replay.windows)}, {stitched} stitched"),
        ("camera poses", str(len(replay.T_map_camera))),
        ("map points", f"{len(replay.points):,}"),
        ("camera path", f"{length:.2f} m"),
        ("boxes", str(len(replay.boxes))),
        ("answers", f"{sum(not a.error_code and bool(a.answer) for a in replay.asked)} of {len(replay.asked)}"),
    ]
    if scores.trajectory:
        tiles.append(("ATE, SE(3)", f"{scores.trajectory.ate_se3:.3f} m"))
    return tiles


def _truth_in_map(scores: Scores, truth: GroundTruth | None) -> tuple[np.ndarray | None, tuple[Any, ...]]:
    """True positions [M, 3] and boxes moved into the map; None and nothing where they cannot be laid over it."""
    if truth is None or scores.world_from_map is None:
        return None, ()
    back = scores.world_from_map.inverse()
    return back.points(truth.T_world_camera[:, :3, 3]), tuple(move(box, back) for box in truth.boxes or ())


def _depth_range(replay: Replay) -> tuple[float, float]:
    shown = [replay.depth[frame.stamp_ns] for frame in replay.frames if frame.stamp_ns in replay.depth]
    values = [depth[np.isfinite(depth)] for depth in shown]
    known = np.concatenate(values) if values else np.zeros(0)
    if not len(known):
        return 0.0, 1.0
    low, high = np.quantile(known, [0.02, 0.98])
    return float(low), float(max(high, low + 0.1))


def _pictures(replay: Replay) -> list[dict[str, Any]]:
    nearest, farthest = _depth_range(replay)
    first = replay.frames[0].stamp_ns if replay.frames else 0
    rows = []
    for frame in replay.frames:
        depth = None
        if frame.stamp_ns in replay.depth:
            colored = images.colorize_depth(replay.depth[frame.stamp_ns], nearest, farthest)
            colored = images.resize(colored, _PICTURE_WIDTH)
            depth = images.data_uri(colored, "jpeg")
        rows.append(
            {
                "seconds": (frame.stamp_ns - first) / 1e9,
                "rgb": images.data_uri(images.resize(frame.rgb, _PICTURE_WIDTH), "jpeg"),
                "depth": depth,
            }
        )
    return rows


def _plotly() -> str:
    """The library as text for the page; empty where plotly is not installed, and the page says so."""
    try:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return ""


def _version() -> str:
    try:
        return metadata.version("vidllm_ros")
    except metadata.PackageNotFoundError:
        return ""
