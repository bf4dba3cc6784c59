"""The replay's side of the middleware: sends frames, listens to everything the node publishes, asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vidllm_ros.evaluation.recordings.bags import COMPRESSED_IMAGE, RecordedFrame
from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.qos import EVENTS, LATCHED, POSES, TF, TF_STATIC
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.replay.client import VidllmClient
from vidllm_ros.replay.node_process import ReplayError

QUEUE = 64  # frames on their way; not many more are sent than the node says it received
# What is recorded: topic below the node, type, its name in a bag, quality of service
RECORDED: tuple[tuple[str, type, str, QoSProfile], ...] = (
    ("points", PointCloud2, "sensor_msgs/msg/PointCloud2", EVENTS),
    ("map", PointCloud2, "sensor_msgs/msg/PointCloud2", LATCHED),
    ("depth/image", Image, "sensor_msgs/msg/Image", EVENTS),
    ("depth/camera_info", CameraInfo, "sensor_msgs/msg/CameraInfo", EVENTS),
    ("path", PathMessage, "nav_msgs/msg/Path", LATCHED),
    ("pose", PoseWithCovarianceStamped, "geometry_msgs/msg/PoseWithCovarianceStamped", POSES),
    ("detections", Detection3DArray, "vision_msgs/msg/Detection3DArray", EVENTS),
    ("markers", MarkerArray, "visualization_msgs/msg/MarkerArray", LATCHED),
    ("window", WindowInfo, "vidllm_ros/msg/WindowInfo", EVENTS),
)
_TF = {"/tf": TF, "/tf_static": TF_STATIC}


class ReplayLink:
    """A ROS node of the replay's own; a context manager.

    Args:
        target: full name of the node under test.
        image_type: of the frames that will be sent.
        on_message: told the topic below the node, its type's name and the serialised message, for all it publishes.
        check: called while waiting; raises when waiting has no point.
    """

    def __init__(
        self,
        target: str,
        image_type: str,
        on_message: Callable[[str, str, bytes], None],
        check: Callable[[], None],
    ) -> None:
        self._check = check
        self._changed = threading.Condition()
        self._problem: Exception | None = None
        self.reports = 0  # diagnostics of the node so far
        self._values: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self.client = VidllmClient(target, "vidllm_replay")
        node, self.target = self.client.node, self.client.target
        namespace = self.target.rpartition("/")[0]
        compressed = image_type == COMPRESSED_IMAGE
        qos = QoSProfile(depth=QUEUE)
        self.image_topic = f"{namespace}/image" + "/compressed" * compressed
        self._image = node.create_publisher(CompressedImage if compressed else Image, self.image_topic, qos)
        self._info = node.create_publisher(CameraInfo, f"{namespace}/camera_info", qos)
        self._tf: dict[str, Any] = {}
        for topic, kind, name, profile in RECORDED:
            listener = self._listener(topic, name, on_message)
            node.create_subscription(kind, f"{self.target}/{topic}", listener, profile, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENTS)
        self._get_parameters = node.create_client(GetParameters, f"{self.target}/get_parameters")

    def __enter__(self) -> ReplayLink:
        """The link."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the middleware."""
        self.client.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Until the node is active and listens to images.

        Raises:
            ReplayError: it says that it cannot, or does not get there.
        """

        def ready() -> bool:
            if " failed: " in self._states.get("state", ""):
                raise ReplayError(f"{self.target} cannot work: {self._states['state']}")
            return self._states.get("state", "").startswith("active") and self._image.get_subscription_count() > 0

        self.wait(ready, timeout, f"{self.target} to be active and to listen on {self.image_topic}")

    def parameters(self, timeout: float) -> dict[str, Any]:
        """What matters for the pace: ``window.*`` and ``use_camera_info`` as the node has them."""
        names = [p.name for p in PerceptionConfig.parameters() if p.name.startswith("window.")] + ["use_camera_info"]
        self.wait(self._get_parameters.service_is_ready, timeout, f"the parameters of {self.target}")
        future = self._get_parameters.call_async(GetParameters.Request(names=names))
        future.add_done_callback(lambda _: self._notify())
        self.wait(future.done, timeout, f"the parameters of {self.target}")
        values = future.result().values
        return {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}

    def send(self, frame: RecordedFrame) -> None:
        """Publish a frame as it was recorded, its calibration first."""
        self.send_camera_info(frame)
        self._image.publish(frame.image)

    def send_camera_info(self, frame: RecordedFrame) -> None:
        """Publish a frame's calibration alone, where it has one."""
        if frame.camera_info is not None:
            self._info.publish(frame.camera_info)

    def send_transforms(self, topic: str, data: bytes) -> None:
        """Publish a recorded message of /tf or /tf_static."""
        if topic not in self._tf:
            self._tf[topic] = self.client.node.create_publisher(TFMessage, topic, _TF[topic])
        self._tf[topic].publish(data)

    def wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Until ``condition`` holds.

        Raises:
            ReplayError: names ``what`` when it does not hold within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if self._problem is not None:
                    raise ReplayError(f"what {self.target} sends cannot be kept: {self._problem!r}") from self._problem
                self._check()
                if time.monotonic() > deadline:
                    raise ReplayError(f"waited {timeout:g} s for {what}. The node says: {self.state()}")
                self._changed.wait(0.1)

    def value(self, key: str) -> str:
        """A value the node last reported on /diagnostics; empty before."""
        return self._values.get(key, "")

    def count(self, key: str) -> int:
        """A number the node last reported on /diagnostics; 0 before."""
        return int(self.value(key) or 0)

    def state(self) -> str:
        """What the node's diagnostics say, in words."""
        return "; ".join(f"{name}: {text}" for name, text in self._states.items()) or "nothing; is it running?"

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _listener(
        self, topic: str, name: str, on_message: Callable[[str, str, bytes], None]
    ) -> Callable[[bytes], None]:
        def listen(data: bytes) -> None:
            try:
                on_message(topic, name, data)
            except Exception as error:  # raised here it would end the thread; who waits shall hear of it
                self._problem = error
            self._notify()

        return listen

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.target.lstrip("/") + ": "
        for status in message.status:
            if status.name.startswith(own):
                self._states[status.name.removeprefix(own)] = status.message
                self._values.update({pair.key: pair.value for pair in status.values})
        self.reports += any(status.name.startswith(own) for status in message.status)
        self._notify()
