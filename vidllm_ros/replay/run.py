"""``vidllm replay``: a recording through the real node, over real ROS 2, to files and a report. Needs ROS."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidllm_ros.evaluation import results
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.limits import Limit
from vidllm_ros.evaluation.metrics.along_path import write_path_errors
from vidllm_ros.evaluation.recordings import messages
from vidllm_ros.evaluation.recordings import truth as ground_truth
from vidllm_ros.evaluation.recordings.bags import Bag, is_bag
from vidllm_ros.evaluation.recordings.folders import INDEX, FrameFolder
from vidllm_ros.evaluation.recordings.pacing import sampling_for
from vidllm_ros.evaluation.report.page import write_report
from vidllm_ros.evaluation.report.summary import summary
from vidllm_ros.evaluation.results import AskedQuestion, Replay
from vidllm_ros.evaluation.scores import Scores, score
from vidllm_ros.node.checkpoints import resolve_checkpoint
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.mapping.save import save_cloud
from vidllm_ros.replay.client import ClientError
from vidllm_ros.replay.collector import Collector, fresh_folder
from vidllm_ros.replay.link import ReplayLink
from vidllm_ros.replay.node_process import NodeProcess, environment, private_environment, shared_memory
from vidllm_ros.replay.player import Player, Progress
from vidllm_ros.srv import Query

Recording = Bag | FrameFolder
_DIAGNOSTICS_PERIOD = 0.1  # seconds; the replay paces itself by them


@dataclass(frozen=True)
class ReplayOptions:
    """What to play and how; the fields are the options of ``vidllm replay``.

    Attributes:
        recording: bag, or folder of frames.
        out: folder for the results.
        questions: to ask afterwards.
        known_questions: how many questions of the ground truth to ask as well.
        scope: "all" or "window".
        topic: image topic; empty to choose.
        camera_info_topic: empty to choose.
        publish_tf: play /tf and /tf_static too.
        truth: where ground truth is; None to look for it.
        truth_files: single parts of it.
        limits: what the scores must keep.
        frames: how many to play; None for all.
        rate: speed; None for lock-step.
        parameters: of the node, checked.
        running_node: name of a node that runs already; empty to start one.
        timeout: seconds one step may take.
        required: parts that must come out, see ``results.PARTS``.
        command: for the report.
    """

    recording: Path
    out: Path
    questions: tuple[str, ...] = ()
    known_questions: int = 0
    scope: str = "all"
    topic: str = ""
    camera_info_topic: str = ""
    publish_tf: bool = False
    truth: Path | None = None
    truth_files: ground_truth.TruthFiles | None = None
    limits: tuple[Limit, ...] = ()
    frames: int | None = None
    rate: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    running_node: str = ""
    timeout: float = 300.0
    required: tuple[str, ...] = ("points", "poses")
    command: str = ""


def replay(options: ReplayOptions) -> tuple[Replay, list[str]]:
    """Play, ask, collect, score and write everything.

    Returns:
        What came out, and one sentence for each limit that was missed.

    Raises:
        EvaluationError: the recording, the truth or the node cannot be used.
    """
    with open_recording(options) as recording:
        truth = ground_truth.load(recording, options.truth, options.truth_files)
        if not options.running_node:  # a node would say so too, but later
            resolve_checkpoint(options.parameters.get("checkpoint", NodeConfig.checkpoint))
        options.out.mkdir(parents=True, exist_ok=True)
        made = _run(options, recording, truth)
        scores = score(made, truth)
        figures = scores.figures()
        missed = [sentence for limit in options.limits if (sentence := limit.missed(figures))]
        write_outputs(options, made, scores, truth, missed)
    print(summary(made, scores))
    print(f"report   {options.out / 'report.html'}")
    return made, missed


def open_recording(options: ReplayOptions) -> Recording:
    """The recording, opened.

    Raises:
        BagError: it cannot be read, is empty, or lacks a topic.
    """
    path = options.recording
    if not is_bag(path) and (path / INDEX).exists():
        return FrameFolder(path)
    return Bag(path, options.topic, options.camera_info_topic)


def write_outputs(
    options: ReplayOptions, made: Replay, scores: Scores, truth: ground_truth.GroundTruth, missed: Sequence[str]
) -> None:
    """Every file but those the node and the collector wrote."""
    out = options.out
    results.write(out, made)
    content = {**scores.to_json(), "limits": [str(limit) for limit in options.limits], "limits_missed": list(missed)}
    (out / "scores.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if scores.path is not None:
        write_path_errors(out / "path_errors.csv", scores.path)
    if len(made.points) and not (out / "map.ply").exists():
        save_cloud(out / "map.ply", made.points, made.colors, {"frame": "map"})
    write_report(out / "report.html", made, scores, truth, made.lacking(options.required), missed)


def _run(options: ReplayOptions, recording: Recording, truth: ground_truth.GroundTruth) -> Replay:
    stamps = [frame.stamp_ns for frame in recording.frames()][: options.frames]
    if not stamps:
        raise EvaluationError("there are no frames to play: --frames must be at least 1.")
    parameters = _parameters(options, recording, stamps)
    own = not options.running_node
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(private_environment() if own else shared_memory()))
        # a name of its own, should another replay have drawn the same domain
        target = options.running_node or f"/replay_{os.getpid()}/vidllm"
        process = stack.enter_context(NodeProcess(options.out, parameters, target)) if own else None
        collector = stack.enter_context(Collector(fresh_folder(options.out / "result_bag")))
        link = stack.enter_context(
            ReplayLink(
                target,
                recording.image_type,
                collector.take,
                process.check if process else lambda: None,
            )
        )
        progress = Progress(len(stamps))
        progress.say("starting the node" if own else f"waiting for {link.target}")
        link.wait_until_ready(options.timeout)
        if not own:
            link.client.reset()
            link.client.enable(True)
        in_use = link.parameters(options.timeout)
        player = Player(recording, link, collector, in_use, progress, options.timeout)
        started = time.monotonic()
        player.play(len(stamps), options.rate, options.publish_tf)
        player.finish()
        collector.asking = True
        asked = _ask(options, link, truth, progress)
        wall_time = time.monotonic() - started
        points, colors = _save_map(options, link, collector)
        if not own:
            link.client.enable(True)
        settings = _settings(options, link, {**parameters, **in_use} if own else in_use)
        progress.say("")
    path = collector.path
    return Replay(
        recording=_describe(recording, stamps, player.size),
        settings=settings,
        stamps_ns=path[0],
        T_map_camera=path[1],
        points=points,
        colors=colors,
        boxes=tuple(collector.boxes()),
        asked=asked,
        windows=tuple(collector.windows),
        frames=player.pictures(),
        depth=collector.depth,
        published=player.sent,
        used_frames=player.used,
        wall_time=wall_time,
    )


def _parameters(options: ReplayOptions, recording: Recording, stamps: list[int]) -> dict[str, Any]:
    """Those of the user, and those that make a replay repeatable."""
    given = dict(options.parameters)
    named = {name.partition(".")[2]: value for name, value in given.items() if name.startswith("window.")}
    sampling = {} if {"sample_rate", "min_motion"} & set(named) else sampling_for(stamps, WindowConfig(**named))
    return {
        "image_transport": "compressed" if recording.image_type.endswith("CompressedImage") else "raw",
        "image_qos": "default",
        "image_qos_depth": 100,
        "diagnostics_period": _DIAGNOSTICS_PERIOD,
        "path.max_poses": max(1024, len(stamps)),
        **sampling,
        **given,
    }


def _ask(
    options: ReplayOptions, link: ReplayLink, truth: ground_truth.GroundTruth, progress: Progress
) -> tuple[AskedQuestion, ...]:
    asked = []
    known = [question for question in truth.answers if question not in options.questions]
    scope = Query.Request.SCOPE_ALL if options.scope == "all" else Query.Request.SCOPE_WINDOW
    for question in [*options.questions, *known[: options.known_questions]]:
        progress.say(f"asking: {question}")
        started = time.monotonic()
        try:
            response = link.client.ask(question, scope=scope, timeout=options.timeout)
        except ClientError as error:
            if not error.code:
                raise
            latency = time.monotonic() - started
            asked.append(AskedQuestion(question, "", latency=latency, error_code=error.code, message=str(error)))
            continue
        asked.append(
            AskedQuestion(
                question=question,
                answer=response.answer,
                confidence=float(response.confidence),
                boxes=tuple(messages.boxes(response.detections)),
                window_id=int(response.window_id),
                inference_time=float(response.inference_time),
                latency=time.monotonic() - started,
            )
        )
    return tuple(asked)


def _save_map(options: ReplayOptions, link: ReplayLink, collector: Collector) -> tuple[np.ndarray, np.ndarray]:
    """The map as the node saved it; as it last published it where the file is on another machine or was refused."""
    path = (options.out / "map.ply").resolve()
    path.unlink(missing_ok=True)
    try:
        link.client.save_map(str(path), overwrite=True, timeout=options.timeout)
    except ClientError as error:
        print(f"vidllm: the node saved no map: {error}", file=sys.stderr)
    path.with_suffix(".tum").unlink(missing_ok=True)  # trajectory.tum says the same
    if not path.exists():
        return collector.map
    import open3d

    cloud = open3d.io.read_point_cloud(str(path))
    colors = np.round(np.asarray(cloud.colors) * 255).astype(np.uint8)
    return np.asarray(cloud.points, dtype=np.float32), colors


def _settings(options: ReplayOptions, link: ReplayLink, parameters: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = link.value("checkpoint")
    return {
        "command": options.command,
        "checkpoint": checkpoint,
        "model": Path(checkpoint).name,
        "device": link.value("device"),
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "pace": "lock-step" if options.rate is None else f"{options.rate:g} times real time",
        "parameters": dict(sorted(parameters.items())),
    }


def _describe(recording: Recording, stamps: list[int], size: tuple[int, int]) -> dict[str, Any]:
    return {
        "name": recording.path.resolve().name,
        "path": str(recording.path),
        "topic": recording.image_topic,
        "type": recording.image_type,
        "camera_info": recording.camera_info_topic or "",
        "frames": len(stamps),
        "duration": (max(stamps) - min(stamps)) / 1e9,
        "size": f"{size[0]} x {size[1]}",
    }
