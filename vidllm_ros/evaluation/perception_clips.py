"""The node's perception on posed clips: how far its cameras are off, and whether it knows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.trajectory import ate, rotation_angle
from vidllm_ros.evaluation.recordings.clips import Clip
from vidllm_ros.evaluation.replaced_parts import ReplacedParts
from vidllm_ros.model import VidLLM
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import Frame, WindowResult, WindowStatus

# Every frame of a clip goes in, however fast or slow it was taken.
_NO_GATES = {"window.sample_rate": 60.0, "window.min_motion": 0.0, "window.max_frame_gap": 3600.0}


@dataclass(frozen=True)
class Replacement:
    """Where depth, cameras and lens come from.

    Attributes:
        depth: "network" or "truth".
        start: "network", "truth" or "identity": the cameras before adjustment.
        intrinsics: "network" or "truth".
    """

    depth: str = "network"
    start: str = "network"
    intrinsics: str = "truth"


def evaluate_clip(
    model: VidLLM, clip: Clip, replacement: Replacement, config: PerceptionConfig | None = None
) -> dict[str, Any]:
    """What ``perception.json`` says about a clip.

    Returns:
        ``ate_se3`` and ``ate_sim3`` metres (None when fewer than three frames were posed), ``scale`` (metres of the
        truth per metre of the path), ``posed_frames`` of ``frames``, ``rotation_deg`` and ``translation_m`` (mean over
        all pairs of frames in a window, rejected windows left out), ``calibration`` (share of the errors of poses in
        their windows that lie within 1, 2, 3 stated deviations) and ``windows``.
    """
    config = (config or PerceptionConfig()).replace(_NO_GATES)
    pipeline = Pipeline(model, config, ReplacedParts(clip, replacement.depth, replacement.start))
    matrix = clip.intrinsics if replacement.intrinsics == "truth" else None
    if matrix is None and replacement.intrinsics == "truth":
        raise EvaluationError(f"{clip.name} names no camera matrix: use --intrinsics network.")
    truth = {frame.stamp_ns: frame.T_world_camera for frame in clip.frames}
    windows, path = [], {}
    for result in _processed(pipeline, clip, matrix):
        windows.append(_window(result, truth))
        # The map may start again, and only drops what it knew; the path of each map is kept apart.
        if result.status is WindowStatus.FIRST:
            path = {}
        if result.status is not WindowStatus.REJECTED:
            stamps, poses = pipeline.path
            path.update(zip(stamps.tolist(), poses, strict=True))
    known = [stamp for stamp in path if stamp in truth]
    row: dict[str, Any] = {"frames": len(clip.frames), "posed_frames": len(known)}
    row |= _trajectory(np.array([path[s] for s in known]), np.array([truth[s] for s in known]))
    placed = [w for w in windows if w["status"] != WindowStatus.REJECTED.value]
    for name in ("rotation_deg", "translation_m"):
        row[name] = float(np.mean([w[name] for w in placed])) if placed else None
    row["calibration"] = _calibration([w.pop("normalised") for w in windows], windows)
    row["windows"] = windows
    return row


def _processed(pipeline: Pipeline, clip: Clip, matrix: np.ndarray | None) -> Any:
    """Every window of a clip, one after the other."""
    for frame in clip.frames:
        if (window := pipeline.accept(Frame(clip.rgb(frame), frame.stamp_ns, "camera", matrix))) is not None:
            yield pipeline.process(window)
    while (window := pipeline.flush()) is not None:
        yield pipeline.process(window)


def _trajectory(poses: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    if len(poses) < 3:
        return {"ate_se3": None, "ate_sim3": None, "scale": None}
    try:
        similar = ate(poses, truth, "sim3")
        return {
            "ate_se3": ate(poses, truth, "se3").rmse,
            "ate_sim3": similar.rmse,
            "scale": similar.alignment.scale,
        }
    except EvaluationError:  # positions on a line or in one place
        return {"ate_se3": None, "ate_sim3": None, "scale": None}


def _window(result: WindowResult, truth: dict[int, np.ndarray]) -> dict[str, Any]:
    """One window: its status, the errors of its pairs of frames, and the errors of its poses in stated deviations."""
    poses = result.reconstruction.T_window_camera
    true = np.array([truth[stamp] for stamp in result.reconstruction.stamps_ns])
    first, second = np.triu_indices(len(poses), k=1)
    error = invert(invert(true[first]) @ true[second]) @ invert(poses[first]) @ poses[second]
    angles = rotation_angle(error[:, :3, :3])
    return {
        "status": result.status.value,
        "reason": result.reason,
        "rotation_deg": float(angles.mean()) if len(angles) else 0.0,
        "translation_m": float(np.linalg.norm(error[:, :3, 3], axis=1).mean()) if len(angles) else 0.0,
        "adjustment": None if result.reconstruction.adjustment is None else asdict(result.reconstruction.adjustment),
        "warnings": list(result.warnings),
        "seconds": result.timings.encode + result.timings.reconstruct + result.timings.fuse,
        "normalised": _normalised(result, true),
    }


def _normalised(result: WindowResult, true: np.ndarray) -> np.ndarray:
    """Errors of the poses in their window along each axis over the stated deviation, [N, 6]; the first camera is 0."""
    covariance = getattr(result.reconstruction, "covariance", None)
    if covariance is None:
        return np.zeros((0, 6))
    poses, should = result.reconstruction.T_window_camera, invert(true[0]) @ true
    turn = poses[:, :3, :3] @ should[:, :3, :3].swapaxes(1, 2)
    angle = np.radians(rotation_angle(turn))
    axis = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], 1)
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    vector = np.where(length > 0, axis / np.maximum(length, 1e-12), 0) * angle[:, None]
    errors = np.concatenate([poses[:, :3, 3] - should[:, :3, 3], vector], axis=1)
    deviations = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return errors[1:] / np.maximum(deviations[1:], 1e-9)


def _calibration(normalised: list[np.ndarray], windows: list[dict[str, Any]]) -> dict[str, float] | None:
    """Shares of the errors within 1, 2, 3 deviations over the windows that were placed; None when none were stated."""
    values = [
        rows
        for rows, window in zip(normalised, windows, strict=True)
        if window["status"] != WindowStatus.REJECTED.value
    ]
    pooled = np.abs(np.concatenate(values)) if values else np.zeros((0, 6))
    if not len(pooled):
        return None
    return {f"within_{k}": float(np.mean(pooled <= k)) for k in (1, 2, 3)} | {
        "position_within_1": float(np.mean(pooled[:, :3] <= 1)),
        "rotation_within_1": float(np.mean(pooled[:, 3:] <= 1)),
    }


def describe(name: str, row: dict[str, Any]) -> str:
    """A clip's result in a few lines of text."""

    def metres(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f} m"

    statuses = ", ".join(f"{count} {status}" for status, count in Counter(w["status"] for w in row["windows"]).items())
    lines = [
        f"{name}: ATE SE(3) {metres(row['ate_se3'])}, Sim(3) {metres(row['ate_sim3'])}, scale "
        f"{row['scale'] if row['scale'] is None else format(row['scale'], '.3f')}, posed {row['posed_frames']} of "
        f"{row['frames']} frames; windows: {statuses or 'none'}"
    ]
    if row["rotation_deg"] is not None:
        lines.append(f"  pairs in a window: {row['rotation_deg']:.2f} degrees, {row['translation_m']:.3f} m")
    if (shares := row["calibration"]) is not None:
        within = ", ".join(f"{100 * shares[f'within_{k}']:.0f} % within {k}" for k in (1, 2, 3))
        lines.append(f"  errors in stated deviations: {within}")
    lines += [
        f"  window {i}: {w['status']}, {w['rotation_deg']:.1f} degrees, {w['translation_m']:.3f} m  {w['reason']}"
        for i, w in enumerate(row["windows"])
    ]
    return "\n".join(lines)
