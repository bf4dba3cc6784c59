"""What the doctor says about the camera's topics: who publishes, how fast, and what cannot arrive."""

from __future__ import annotations

from collections.abc import Iterator

from rclpy.qos import QoSProfile

from vidllm_ros.doctor.findings import Finding, note, ok, problem
from vidllm_ros.doctor.observer import Observer, Watched, rate
from vidllm_ros.node.input.endpoints import image_topics, refused
from vidllm_ros.node.input.watch import profile_advice
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.qos import camera_qos, describe


def topics(observer: Observer, name: str, config: NodeConfig, watched: Watched) -> list[Finding]:
    """About image, camera_info and /clock.

    Args:
        observer: knows the graph.
        name: of the node; "" when none runs.
        config: its parameters.
        watched: what came.
    """
    return [*_image(observer, name, config, watched), *_info(observer, config, watched), *_clock(observer, name)]


def _image(observer: Observer, name: str, config: NodeConfig, watched: Watched) -> Iterator[Finding]:
    topic = watched.image_topic
    if not watched.publishers:
        others = image_topics(observer.node, topic, name or "/vidllm")
        there = f"image topics are {', '.join(others)}" if others else "there is no image topic at all"
        advice = "remap image (launch argument image_topic)" if others else "is the camera in this domain and host?"
        yield problem(f"nobody publishes '{topic}'; {there}: {advice}")
        return
    kind = "sensor_msgs/msg/CompressedImage" if config.image_transport == "compressed" else "sensor_msgs/msg/Image"
    for publisher in watched.publishers:
        if publisher.topic_type != kind:
            yield problem(
                f"'{publisher.node_name}' publishes {publisher.topic_type} on '{topic}', but {kind} is expected; see "
                f"image_transport (it is '{config.image_transport}')"
            )
    wanted = _asked_for(observer, name, topic) or camera_qos(config.image_qos, config.image_qos_depth)
    for misfit in refused(watched.publishers, wanted):
        yield problem(
            f"incompatible quality of service on '{topic}': '{name or '/vidllm'}' asks for {describe(wanted)}, "
            f"{misfit}. Set image_qos: sensor_data"
        )
    sources = ", ".join(f"'{p.node_name}' ({describe(p.qos_profile)})" for p in watched.publishers)
    if watched.arrivals:
        yield ok(
            f"'{topic}': {rate(watched.arrivals):.1f} Hz, {watched.picture}, frame '{watched.frame_id}', from {sources}"
        )
    elif any(publisher.topic_type == kind for publisher in watched.publishers):
        yield problem(
            f"no image came on '{topic}' from {sources}: it sends nothing, or its images get lost{profile_advice(None)}"
        )


def _info(observer: Observer, config: NodeConfig, watched: Watched) -> Iterator[Finding]:
    topic, use = watched.info_topic, config.use_camera_info
    if use == "never":
        return
    publishers = observer.node.get_publishers_info_by_topic(topic)
    if watched.infos:
        yield ok(f"'{topic}': {rate(watched.infos):.1f} Hz")
    elif use == "required":
        why = "its publisher is silent" if publishers else "nobody publishes it"
        yield problem(f"no camera_info on '{topic}' ({why}), which use_camera_info: required waits for")
    else:
        yield note(f"no camera_info on '{topic}': the network's own estimate of the lens is used")


def _clock(observer: Observer, name: str) -> Iterator[Finding]:
    if name and observer.uses_sim_time(name) and not observer.node.count_publishers("/clock"):
        yield problem(
            "use_sim_time is true but nobody publishes /clock: play the bag with --clock, or set use_sim_time to false"
        )


def _asked_for(observer: Observer, name: str, topic: str) -> QoSProfile | None:
    """What a node's subscription really asks for, overrides included; None while it has none."""
    for endpoint in observer.node.get_subscriptions_info_by_topic(topic):
        if f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}" == name:
            return endpoint.qos_profile
    return None
