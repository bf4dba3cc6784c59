"""Says why nothing happens, and what to do about it."""

from __future__ import annotations

import os
from pathlib import Path

from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from vidllm_ros.node.input.camera_input import CameraInput
from vidllm_ros.node.input.endpoints import image_topics, refused
from vidllm_ros.node.qos import describe

PATIENCE = 5.0  # seconds without an image after which it is worth a word
_MUCH_LOST = 0.5
_LARGE = 500_000  # bytes; below, the default shared memory of Fast DDS holds an image


def look(node: Node, camera: CameraInput, waited: float) -> str:
    """Why no images come, or why they come badly; "" when all is well.

    Args:
        node: to ask who publishes what.
        camera: the input.
        waited: seconds since it subscribed.
    """
    if node.get_parameter("use_sim_time").value and node.get_clock().now().nanoseconds == 0:
        return (
            "use_sim_time is true but nobody publishes /clock: play the bag with --clock, or set use_sim_time to false"
        )
    state = camera.monitor.state
    silence = waited if state.silence is None else min(state.silence, waited)
    if silence >= PATIENCE:
        return _why_silent(node, camera, silence)
    if camera.config.use_camera_info == "required" and not camera.has_camera and state.images:
        return (
            f"images come on '{camera.image_topic}' but no usable camera_info on '{camera.info_topic}', which "
            f"use_camera_info: required waits for{_publishers(node, camera.info_topic)}"
        )
    if state.loss is not None and state.loss > _MUCH_LOST and waited >= PATIENCE:
        return (
            f"about {state.loss:.0%} of the images on '{camera.image_topic}' are lost on the way ({state.bytes} bytes "
            f"each){profile_advice(state.bytes)}"
        )
    return ""


def profile_path() -> Path | None:
    """The Fast DDS profile of this package, installed or in the source tree; None when it is in neither."""
    try:
        from ament_index_python.packages import get_package_share_directory

        installed = Path(get_package_share_directory("vidllm_ros")) / "config" / "fastdds.xml"
        if installed.exists():
            return installed
    except (ImportError, LookupError):
        pass
    source = Path(__file__).resolve().parents[3] / "config" / "fastdds.xml"
    return source if source.exists() else None


def _why_silent(node: Node, camera: CameraInput, silence: float) -> str:
    topic = camera.image_topic
    head = f"no image came on '{topic}' for {silence:.0f} s"
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"{head}: nobody publishes it{_similar(node, topic)}"
    kind = camera.message_type
    wrong_type = [p for p in publishers if p.topic_type != kind]
    if len(wrong_type) == len(publishers):
        return f"{head}: it carries {wrong_type[0].topic_type}, but {kind} is expected; see image_transport"
    misfits = refused(publishers, camera.qos)
    if len(misfits) == len(publishers):
        return (
            f"{head}: incompatible quality of service, this node asks for {describe(camera.qos)}: "
            f"{'; '.join(misfits)}. Set image_qos: sensor_data"
        )
    names = ", ".join(sorted({f"'{publisher.node_name}'" for publisher in publishers}))
    return f"{head} from {names}: it sends nothing, or its images get lost{profile_advice(None)}"


def profile_advice(size: int | None) -> str:
    """What to do about Fast DDS's small shared memory, where that can be the cause."""
    if "fastrtps" not in get_rmw_implementation_identifier() or (size is not None and size < _LARGE):
        return "; look at the network and the load of this machine"
    variables = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    mine = next((os.environ[name] for name in variables if os.environ.get(name)), None)
    if mine is not None:
        return f"; the node runs with the Fast DDS profile {mine}: start the camera's process with it too"
    return (
        f"; Fast DDS loses images above 0.5 MB with its default shared memory: start the camera and this node with "
        f"FASTDDS_DEFAULT_PROFILES_FILE={profile_path() or '<vidllm_ros>/config/fastdds.xml'}"
    )


def _publishers(node: Node, topic: str) -> str:
    count = node.count_publishers(topic)
    return f" ({count} publishers)" if count else " (nobody publishes it)"


def _similar(node: Node, topic: str) -> str:
    """Image topics that do exist."""
    found = image_topics(node, topic, node.get_fully_qualified_name())
    if not found:
        return "; there is no image topic at all (other domain or host?)"
    return f"; image topics are {', '.join(found)}: remap image (launch argument image_topic)"
