"""The part of the doctor that looks at the ROS graph: nodes and their state, topics, quality of service, frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.utilities import get_rmw_implementation_identifier

from vidllm_ros.doctor.findings import Finding, Section, note, ok, problem
from vidllm_ros.doctor.frames import frames
from vidllm_ros.doctor.observer import Observer
from vidllm_ros.doctor.topics import topics
from vidllm_ros.node.input.watch import profile_path
from vidllm_ros.node.parameters.config import NodeConfig

_LEVELS = {DiagnosticStatus.OK: ok, DiagnosticStatus.WARN: note, DiagnosticStatus.ERROR: problem}


def examine(target: str, image_topic: str, seconds: float) -> tuple[Sequence[Section], bool]:
    """What the ROS graph shows, and whether a node has its model loaded.

    Args:
        target: one node by its full name; "" for all nodes of this package.
        image_topic: where images are looked for; "" for what the node says.
        seconds: how long to listen.
    """
    sections = [Section("ROS 2", environment())]
    with Observer() as observer:
        found = observer.wait_for_nodes(target, seconds)
        if target and not target.startswith("/"):
            target = f"/{target}"
        if not found:
            text = f"no node {target or 'of this package'} runs here: ros2 launch vidllm_ros vidllm.launch.py"
            sections.append(Section("node", [problem(text) if target else note(text)]))
        loaded = False
        for name in found or [""]:
            config, state = NodeConfig(), ""
            if name:
                findings, config, state = node_findings(observer, name, found.count(name))
                sections.append(Section(f"node {name}", findings))
            loaded = loaded or state in ("active", "inactive")
            watched = observer.watch_camera(name, image_topic, config, seconds)
            suffix = f" of {name}" if name else ""
            sections.append(Section(f"topics{suffix}", topics(observer, name, config, watched)))
            sections.append(Section(f"frames{suffix}", frames(observer.transforms, config, watched.frame_id)))
        return sections, loaded


def environment() -> list[Finding]:
    """Distribution, middleware, domain, and the profile that large images need."""
    middleware = get_rmw_implementation_identifier()
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    findings = [ok(f"{os.environ.get('ROS_DISTRO', 'unknown distribution')}, {middleware}, domain {domain}, {reach}")]
    if "fastrtps" not in middleware:
        return findings
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        advice = f"export {names[0]}={profile_path() or '<vidllm_ros>/config/fastdds.xml'} for the camera and the node"
        return [*findings, note(f"Fast DDS without a profile loses images above 0.5 MB: {advice}")]
    file = os.environ[name]
    if not Path(file).is_file():
        return [*findings, problem(f"{name} is {file}, which is no file; Fast DDS ignores it and loses large images")]
    return [*findings, ok(f"Fast DDS profile {file}")]


def node_findings(observer: Observer, name: str, count: int) -> tuple[list[Finding], NodeConfig, str]:
    """What a node says of itself; its configuration; and its lifecycle state, "" when it does not answer."""
    findings = []
    if count > 1:
        findings.append(problem(f"{count} nodes are called {name}: give each a namespace (-r __ns:=/robot1)"))
    state = observer.state(name)
    if state is None:
        findings.append(problem("it does not answer; its log says why, and a restart helps"))
        return findings, NodeConfig(), ""
    steps = {"unconfigured": ("configure", "activate"), "inactive": ("activate",)}.get(state, ())
    advice = " and ".join(f"'ros2 lifecycle set {name} {step}'" for step in steps) or "start it again"
    findings.append(ok("active") if state == "active" else problem(f"{state}, so it processes nothing: {advice}"))
    config, unreadable = observer.config(name)
    if unreadable:
        findings.append(note(f"its parameters cannot be read: {unreadable}"))
    statuses = observer.diagnostics(name)
    if not statuses:
        findings.append(note("it says nothing on /diagnostics"))
    for part, status in statuses.items():
        make = _LEVELS.get(status.level)
        if make is not None and not (part == "state" and state == "active" and make is ok):
            findings.append(make(f"{part}: {status.message}"))
    return findings, config, state
