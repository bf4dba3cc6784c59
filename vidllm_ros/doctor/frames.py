"""What the doctor says about /tf: which frames exist, how they hang together, and where the camera is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from vidllm_ros.doctor.findings import Finding, note, ok, problem
from vidllm_ros.doctor.observer import Link, rate
from vidllm_ros.node.parameters.config import NodeConfig

Links = Mapping[tuple[str, str], Link]


def frames(links: Links, config: NodeConfig, image_frame: str) -> list[Finding]:
    """About the frames that a node works with.

    Args:
        links: (parent, child) as heard on /tf and /tf_static.
        config: the node's parameters.
        image_frame: the frame_id of the images; "" when none came.
    """
    links = dict(links)
    findings = [*_tree(links), *_parents(links)]
    camera = config.camera_frame or image_frame
    connected = bool(camera) and _root(links, camera) == _root(links, config.reference_frame)
    if connected and config.anchors_to_tf:
        findings.append(ok(f"TF connects '{config.reference_frame}' and '{camera}', so it places the windows"))
    elif config.anchor == "tf":
        known = ", ".join(sorted({frame for link in links for frame in link})) or "none"
        findings.append(
            problem(
                f"anchor is 'tf' but TF does not connect '{config.reference_frame}' and '{camera or 'the camera'}'; "
                f"frames are {known}: publish the missing transform, or set anchor to 'auto'"
            )
        )
    else:
        findings.append(ok("windows are placed by their own frames, not by TF"))
    return findings


def _tree(links: Links) -> list[Finding]:
    if not links:
        return [note("nobody publishes /tf or /tf_static here")]
    named = [
        f"{parent} -> {child} ({'static' if link.static else f'{rate(link.arrivals):.1f} Hz'})"
        for (parent, child), link in sorted(links.items())
    ]
    return [ok(", ".join(named))]


def _parents(links: Links) -> list[Finding]:
    parents = defaultdict(set)
    for parent, child in links:
        parents[child].add(parent)
    return [
        problem(
            f"frame '{child}' has {len(found)} parents ({', '.join(sorted(found))}) and may have one: stop one of the "
            f"publishers; of this node it is publish_tf, or use invert_tf"
        )
        for child, found in sorted(parents.items())
        if len(found) > 1
    ]


def _root(links: Links, frame: str) -> str:
    """The uppermost ancestor of a frame, itself when it has no parent."""
    parents = {child: parent for parent, child in links}
    seen = {frame}
    while (parent := parents.get(frame)) is not None and parent not in seen:
        seen.add(parent)
        frame = parent
    return frame
