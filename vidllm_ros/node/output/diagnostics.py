"""``/diagnostics``: input, processing and model, once a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from vidllm_ros.node.input.input_monitor import InputState
from vidllm_ros.node.output.health import Health
from vidllm_ros.perception.types import ScaleSource, WindowStatus
from vidllm_ros.perception.windows.frames import FrameCounts

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE


@dataclass(frozen=True)
class Snapshot:
    """What diagnostics are made from.

    Attributes:
        state: lifecycle state.
        problem: why the node cannot work, from the last transition; "" when it can.
        enabled: whether frames are taken.
        finding: what the watch says about the input; "" when all is well.
        topics: image and camera_info, as they are resolved.
        input: of the input; None while not subscribed.
        counts: of frames; None before configuring.
        dropped: images that never became frames, by reason.
        health: of processing; None before configuring.
        device: in words; "" before configuring.
        checkpoint: its name.
        doing: what the worker does now and for how many seconds.
        waiting: questions that wait.
        hang: what the worker has been doing for too long; "" when all is well.
    """

    state: str
    problem: str = ""
    enabled: bool = True
    finding: str = ""
    topics: tuple[str, str] = ("", "")
    input: InputState | None = None
    counts: FrameCounts | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    health: Health | None = None
    device: str = ""
    checkpoint: str = ""
    doing: tuple[str, float] = ("", 0.0)
    waiting: int = 0
    hang: str = ""


def diagnostics(stamp: Time, node_name: str, snapshot: Snapshot) -> DiagnosticArray:
    """The whole message."""
    statuses = [_state(snapshot), _input(snapshot), _windows(snapshot), _model(snapshot)]
    for status in statuses:
        status.name = f"{node_name.lstrip('/')}: {status.name}"
        status.hardware_id = snapshot.device
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)


def _state(snapshot: Snapshot) -> DiagnosticStatus:
    if snapshot.problem:
        return _status("state", ERROR, f"{snapshot.state}: {snapshot.problem}")
    level = OK if snapshot.state == "active" else WARN
    return _status("state", level, snapshot.state if snapshot.enabled else f"{snapshot.state}, frames are not taken")


def _input(snapshot: Snapshot) -> DiagnosticStatus:
    state = snapshot.input
    values: dict[str, object] = {"image topic": snapshot.topics[0], "camera_info topic": snapshot.topics[1]}
    if state is None:
        return _status("input", STALE, "not subscribed", values)
    values |= {
        "images": state.images,
        "camera_info": state.infos,
        "rate [Hz]": f"{state.rate:.2f}",
        "age [s]": "unknown" if state.age is None else f"{state.age:.3f}",
        "last image [s ago]": "never" if state.silence is None else f"{state.silence:.1f}",
    }
    if snapshot.counts is not None:
        counts = snapshot.counts
        values |= {
            "frames received": counts.received + sum(snapshot.dropped.values()),
            "frames used": counts.used,
            "frames waiting": counts.waiting,
        }
        dropped = {**{reason.value: n for reason, n in counts.dropped.items()}, **snapshot.dropped}
        values |= {f"frames dropped: {reason}": n for reason, n in sorted(dropped.items()) if n}
    if snapshot.finding:
        return _status("input", ERROR if not state.images else WARN, snapshot.finding, values)
    return _status("input", OK, f"{state.rate:.1f} images per second", values)


def _windows(snapshot: Snapshot) -> DiagnosticStatus:
    health = snapshot.health
    if health is None:
        return _status("windows", STALE, "not configured")
    doing, seconds = snapshot.doing
    values: dict[str, object] = {
        "windows": health.windows,
        "failures in a row": health.failures,
        "worker": f"{doing} for {seconds:.1f} s" if doing else "idle",
        "questions waiting": snapshot.waiting,
        "last error": health.last_error or "none",
    }
    result = health.last_window
    if result is not None and health.published_at is not None:
        timings = result.timings
        values |= {
            "last window": result.window_id,
            "last window [s ago]": f"{time.monotonic() - health.published_at:.1f}",
            "status": result.status.value,
            "processing time [s]": f"{timings.encode + timings.reconstruct + timings.fuse:.3f}",
            "scale source": result.scale_source.value,
            "scale spread": f"{result.reconstruction.scale_spread:.3f}",
            "gravity": result.gravity_source,
            "warnings": "; ".join(result.warnings) or "none",
        }
    if snapshot.hang:
        return _status("windows", ERROR, f"the network hangs: {snapshot.hang}", values)
    if health.halted:
        return _status("windows", ERROR, f"halted until ~/reset: {health.last_error}", values)
    if health.failures:
        return _status("windows", ERROR, health.last_error, values)
    if result is None:
        return _status("windows", OK if snapshot.state == "active" else STALE, "no window yet", values)
    if result.status is WindowStatus.REJECTED:
        return _status("windows", WARN, f"the last window is not in the map: {result.reason}", values)
    if result.scale_source is ScaleSource.UNRELIABLE:
        return _status("windows", WARN, "the scale is unreliable: read lengths as relative", values)
    if result.warnings:
        return _status(
            "windows", WARN, f"window {result.window_id} {result.status.value}: {result.warnings[0]}", values
        )
    return _status("windows", OK, f"window {result.window_id} {result.status.value}", values)


def _model(snapshot: Snapshot) -> DiagnosticStatus:
    if not snapshot.device:
        return _status("model", STALE, "not loaded")
    values: dict[str, object] = {"checkpoint": snapshot.checkpoint, "device": snapshot.device}
    if snapshot.device.startswith("cuda"):
        device = torch.device(snapshot.device.split(" ")[0])
        values["memory in use [MiB]"] = torch.cuda.memory_allocated(device) >> 20
        values["memory reserved [MiB]"] = torch.cuda.memory_reserved(device) >> 20
    return _status("model", OK, f"{snapshot.checkpoint} on {snapshot.device}", values)


def _status(name: str, level: bytes, message: str, values: Mapping[str, object] | None = None) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in (values or {}).items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
