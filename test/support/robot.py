"""The robot around the node: camera, transforms and a listener, in the test's own process."""

import array
import contextlib
import threading
from collections import defaultdict

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from node_process import wait_for
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.conversions import ns_to_stamp
from vidllm_ros.node.qos import LATCHED, TF, TF_STATIC

STEP_NS = 100_000_000
TOPICS = {
    "points": (PointCloud2, 10),
    "map": (PointCloud2, LATCHED),
    "depth/image": (Image, 10),
    "depth/camera_info": (CameraInfo, 10),
    "path": (Path, LATCHED),
    "pose": (PoseWithCovarianceStamped, 64),
    "detections": (Detection3DArray, 10),
    "markers": (MarkerArray, LATCHED),
    "window": (WindowInfo, 64),
}


class Robot:
    """Publishes images and remembers everything that the node says."""

    def __init__(self, node_name: str = "/vidllm", camera_namespace: str = "", listen: bool = True) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node("robot", context=self.context)
        self.received = defaultdict(list)
        prefix = f"{camera_namespace}/" if camera_namespace else "/"
        self.image = self.node.create_publisher(Image, f"{prefix}image", qos_profile_sensor_data)
        self.compressed = self.node.create_publisher(
            CompressedImage, f"{prefix}image/compressed", qos_profile_sensor_data
        )
        self.info = self.node.create_publisher(CameraInfo, f"{prefix}camera_info", qos_profile_sensor_data)
        self.tf = self.node.create_publisher(TFMessage, "/tf", TF)
        self.tf_static = self.node.create_publisher(TFMessage, "/tf_static", TF_STATIC)
        if listen:
            for topic, (kind, qos) in TOPICS.items():
                self._listen(kind, f"{node_name}/{topic}", topic, qos)
            # /diagnostics is everybody's; only what this node says of itself is kept.
            own = f"{node_name.lstrip('/')}:"

            def keep(message: DiagnosticArray) -> None:
                if any(status.name.startswith(own) for status in message.status):
                    self.received["diagnostics"].append(message)

            self.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
            self._listen(TFMessage, "/tf", "tf", TF)
        self.now_ns = 1_000 * 1_000_000_000
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _listen(self, kind: type, topic: str, name: str, qos) -> None:
        self.node.create_subscription(kind, topic, self.received[name].append, qos)

    def send(self, count: int = 1, pace: float = 0.02, **changes) -> list[int]:
        """Publishes the next frames, each a tenth of a second after the one before; their stamps."""
        wait_for(lambda: self.image.get_subscription_count(), 20)
        stamps = []
        for _ in range(count):
            self.now_ns += STEP_NS
            self.image.publish(picture(self.now_ns, **changes))
            stamps.append(self.now_ns)
            threading.Event().wait(pace)
        return stamps

    def send_at(self, stamp_ns: int, **changes) -> None:
        """Publishes one frame with a stamp of its own."""
        self.image.publish(picture(stamp_ns, **changes))

    def newest(self, topic: str, timeout: float = 30.0):
        return wait_for(lambda: self.received[topic], timeout, lambda: f"a message on {topic}")[-1]

    def windows(self, count: int = 1, timeout: float = 30.0) -> list[WindowInfo]:
        """Sends frames until the node has finished that many more windows."""
        before = len(self.received["window"])

        def enough() -> bool:
            self.send(1)
            return len(self.received["window"]) >= before + count

        wait_for(enough, timeout, lambda: "windows")
        return self.received["window"][before:]


def picture(stamp_ns: int, width: int = 64, height: int = 48, frame_id: str = "camera", **changes) -> Image:
    """A textured image that moves with time."""
    random = np.random.default_rng(stamp_ns // STEP_NS)
    rgb = random.integers(0, 255, (height, width, 3), np.uint8)
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp, message.header.frame_id = ns_to_stamp(stamp_ns), frame_id
    message.data = array.array("B", rgb.tobytes())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def camera_info(stamp_ns: int, width: int = 64, height: int = 48, **changes) -> CameraInfo:
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp, message.header.frame_id = ns_to_stamp(stamp_ns), "camera"
    message.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def set_parameters(client, values: dict[str, object]) -> dict[str, SetParametersResult]:
    """Sets parameters of the client's node one by one, as ``ros2 param set`` does."""
    setter = client.node.create_client(SetParameters, f"{client.target}/set_parameters")
    parameters = [RosParameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    response = client._call(setter, SetParameters.Request(parameters=parameters), 20)
    client.node.destroy_client(setter)
    return dict(zip(values, response.results, strict=True))


def get_parameters(client, names: list[str]) -> list[object]:
    getter = client.node.create_client(GetParameters, f"{client.target}/get_parameters")
    response = client._call(getter, GetParameters.Request(names=names), 20)
    client.node.destroy_client(getter)
    return [parameter_value_to_python(value) for value in response.values]
