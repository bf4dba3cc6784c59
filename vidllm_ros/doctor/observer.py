"""Listens in on a ROS graph for a few seconds, and asks the nodes of this package about themselves."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import qos_profile_sensor_data
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from vidllm_ros.node.input.endpoints import IMAGE_TYPES
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.qos import EVENTS, TF, TF_STATIC
from vidllm_ros.perception.errors import ConfigError

_QUERY_TYPE = "vidllm_ros/srv/Query"
_ANSWER = 5.0  # seconds a node may take to say something about itself
_SETTLE = 1.0  # seconds in which discovery may bring more after the first find
_DISCOVERY = 15.0  # seconds a node that was named may take to be found


@dataclass
class Watched:
    """What came on one camera's topics.

    Attributes:
        image_topic: as the node resolves it.
        info_topic: camera_info beside it.
        publishers: of the image topic.
        arrivals: when images came, on ``time.monotonic``.
        infos: when camera_info came.
        picture: size and encoding of the newest image, in words.
        bytes: its size.
        frame_id: its frame.
    """

    image_topic: str
    info_topic: str
    publishers: list[TopicEndpointInfo] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    infos: list[float] = field(default_factory=list)
    picture: str = ""
    bytes: int = 0
    frame_id: str = ""


@dataclass
class Link:
    """One parent of one frame, as /tf or /tf_static says."""

    static: bool
    arrivals: list[float] = field(default_factory=list)


class Observer:
    """A node that only listens; a context manager that leaves the graph again."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node(f"vidllm_doctor_{os.getpid()}", context=self.context, start_parameter_services=False)
        self.transforms: dict[tuple[str, str], Link] = {}
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._started = time.monotonic()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENTS)
        self.node.create_subscription(TFMessage, "/tf", lambda m: self._on_tf(m, False), TF)
        self.node.create_subscription(TFMessage, "/tf_static", lambda m: self._on_tf(m, True), TF_STATIC)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="vidllm_doctor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Observer:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait_for_nodes(self, target: str, seconds: float) -> list[str]:
        """Nodes of this package, by what they serve; with ``target`` only that one. Twice, when two share a name."""
        wanted = f"/{target.lstrip('/')}" if target else ""
        deadline = time.monotonic() + (_DISCOVERY if wanted else max(seconds, _SETTLE))
        settled: float | None = None
        while time.monotonic() < (deadline if settled is None else settled):
            if settled is None and self._nodes(wanted):
                settled = time.monotonic() + _SETTLE
            time.sleep(0.05)
        return self._nodes(wanted)

    def state(self, name: str) -> str | None:
        """The lifecycle state; None when it does not say."""
        response = self._call(GetState, f"{name}/get_state", GetState.Request())
        return None if response is None else response.current_state.label

    def config(self, name: str) -> tuple[NodeConfig, str]:
        """The parameters of a node, and why they cannot be read, or ""."""
        names = [parameter.name for parameter in NodeConfig.parameters()]
        response = self._call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=names))
        if response is None or len(response.values) != len(names):
            return NodeConfig(), "it does not answer" if response is None else "it runs another version"
        try:
            values = [parameter_value_to_python(value) for value in response.values]
            return NodeConfig.from_values(dict(zip(names, values, strict=True))), ""
        except ConfigError as error:  # another version of this package
            return NodeConfig(), str(error)

    def uses_sim_time(self, name: str) -> bool:
        """Whether a node lives by /clock."""
        response = self._call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=["use_sim_time"]))
        return bool(response and response.values and response.values[0].bool_value)

    def diagnostics(self, name: str) -> dict[str, DiagnosticStatus]:
        """The newest status of each part of a node, waiting for the first."""
        prefix = f"{name.lstrip('/')}: "
        deadline = time.monotonic() + _ANSWER
        while True:
            found = {key.removeprefix(prefix): s for key, s in dict(self._statuses).items() if key.startswith(prefix)}
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def watch_camera(self, name: str, image_topic: str, config: NodeConfig, seconds: float) -> Watched:
        """Listens to the images and camera_info of a node; what it says of its topics wins over its namespace."""
        status = self.diagnostics(name).get("input") if name else None
        said = {pair.key: pair.value for pair in status.values} if status is not None else {}
        plain = f"{name.rpartition('/')[0]}/image"
        default = f"{plain}/compressed" if config.image_transport == "compressed" else plain
        image = image_topic or said.get("image topic") or default
        beside = f"{image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
        info = beside if image_topic else said.get("camera_info topic") or beside
        watched = Watched(image, info)
        since = time.monotonic()
        subscriptions: dict[str, Any] = {}

        def subscribe(topic: str, kind: type, callback: Any) -> None:
            if topic not in subscriptions:
                subscriptions[topic] = self.node.create_subscription(kind, topic, callback, qos_profile_sensor_data)

        subscribe(info, CameraInfo, lambda _: watched.infos.append(time.monotonic()))
        while True:
            watched.publishers = self.node.get_publishers_info_by_topic(image)
            kinds = IMAGE_TYPES & {publisher.topic_type for publisher in watched.publishers}
            if kinds:
                kind = Image if sorted(kinds)[-1].endswith("/Image") else CompressedImage
                subscribe(image, kind, lambda message: _take(watched, message))
            if time.monotonic() - since > seconds:
                break
            time.sleep(0.05)
        for subscription in subscriptions.values():
            self.node.destroy_subscription(subscription)
        return watched

    def _nodes(self, wanted: str) -> list[str]:
        served = {
            name.rpartition("/")[0]
            for name, types in self.node.get_service_names_and_types()
            if _QUERY_TYPE in types and name.endswith("/query")
        }
        found = [f"{space.rstrip('/')}/{name}" for name, space in self.node.get_node_names_and_namespaces()]
        return sorted(name for name in found if name in served and wanted in ("", name))

    def _call(self, kind: type, name: str, request: Any) -> Any:
        """The response, or None when it does not come in time."""
        client = self.node.create_client(kind, name)
        try:
            if not client.wait_for_service(timeout_sec=_ANSWER):
                return None
            future, done = client.call_async(request), threading.Event()
            future.add_done_callback(lambda _: done.set())
            return future.result() if done.wait(_ANSWER) else None
        finally:
            self.node.destroy_client(client)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._statuses[status.name] = status

    def _on_tf(self, message: TFMessage, static: bool) -> None:
        now = time.monotonic()
        for transform in message.transforms:
            key = (transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/"))
            self.transforms.setdefault(key, Link(static)).arrivals.append(now)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def rate(arrivals: list[float]) -> float:
    """Messages per second from their arrivals; 0 when it cannot be told."""
    span = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0.0
    return (len(arrivals) - 1) / span if span > 0 else 0.0


def _take(watched: Watched, message: Image | CompressedImage) -> None:
    watched.arrivals.append(time.monotonic())
    watched.frame_id, watched.bytes = message.header.frame_id.lstrip("/"), len(message.data)
    if isinstance(message, Image):
        watched.picture = f"{message.width} x {message.height} {message.encoding}"
    else:
        watched.picture = f"compressed ({message.format})"
