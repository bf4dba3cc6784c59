"""The node's ears: image and camera_info messages to frames."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vidllm_ros.node.conversions import stamp_to_ns
from vidllm_ros.node.input.camera import CameraInfoError, CameraModel, CameraReader
from vidllm_ros.node.input.images import ImageError, rgb_from_compressed, rgb_from_image
from vidllm_ros.node.input.input_monitor import InputMonitor
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.qos import camera_qos
from vidllm_ros.node.throttle import Throttle
from vidllm_ros.perception.errors import FrameRejected
from vidllm_ros.perception.types import Frame

_LOGGER = logging.getLogger(__name__)

# Why an image did not become a frame; added to perception's own reasons.
UNREADABLE, NO_CAMERA_INFO, DISABLED = "unreadable", "no_camera_info", "disabled"
_INFO_PATIENCE = 1.0  # seconds the first camera_info may come after the first image when somebody publishes it


class CameraInput:
    """Subscribes to the camera and hands on frames; only stores, never computes.

    Args:
        node: subscribes.
        config: topics, quality of service and what to do with camera_info.
        group: callback group of the subscriptions.
        throttle: for what is wrong with images.
        accept: takes a frame; raises FrameRejected.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        group: CallbackGroup,
        throttle: Throttle,
        accept: Callable[[Frame], None],
    ) -> None:
        self._node = node
        self.config = config
        self._group = group
        self._throttle = throttle
        self._accept = accept
        self._subscriptions: list = []
        self._reader = CameraReader(config.image_rectified)
        self._camera: CameraModel | None = None
        self._first_image: float | None = None
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self.enabled = True
        compressed = config.image_transport == "compressed"
        self._kind: type = CompressedImage if compressed else Image
        self.message_type = f"sensor_msgs/msg/{self._kind.__name__}"
        self.monitor = InputMonitor()
        self.qos = camera_qos(config.image_qos, config.image_qos_depth)
        self.image_topic, self.info_topic = resolve_topics(node, config.image_transport)

    def start(self) -> None:
        """Subscribes."""
        self.monitor.clear()
        self._first_image = None
        self._subscribe(self._kind, self.image_topic, self._on_image)
        if self.config.use_camera_info != "never":
            self._subscribe(CameraInfo, self.info_topic, self._on_info)

    def stop(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    @property
    def has_camera(self) -> bool:
        """Whether a usable camera_info came."""
        return self._camera is not None

    @property
    def dropped(self) -> dict[str, int]:
        """Images that did not become frames, by reason."""
        with self._lock:
            return dict(self._dropped)

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> None:
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                self.qos,
                callback_group=self._group,
                qos_overriding_options=self._overriding(topic),
            )
        )

    def _overriding(self, topic: str) -> QoSOverridingOptions | None:
        """For ``-p qos_overrides./TOPIC.subscription.reliability:=...``, which wins over ``image_qos``.

        Only where such a parameter was given: rclpy declares them once and would keep the first ``image_qos``.
        """
        given: Iterable[str] = getattr(self._node, "_parameter_overrides", {})
        if any(name.startswith(f"qos_overrides.{topic}.") for name in given):
            return QoSOverridingOptions.with_default_policies()
        return None

    def _on_info(self, message: CameraInfo) -> None:
        self.monitor.info()
        try:
            self._camera = self._reader.read(message)
        except CameraInfoError as error:
            self._camera = None
            self._warn(f"{error}. Until then {self._without_camera()}")
            return
        if self._camera is None:
            self._warn(f"camera_info is not calibrated (K is zero): {self._without_camera()}")
        elif self._camera.maps is not None and "rect" in self.image_topic.rsplit("/", 2)[-1]:
            self._warn(
                f"'{self.image_topic}' sounds rectified but camera_info has distortion, which is now taken out; if "
                f"that was done before, set image_rectified",
            )

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        now_ns = self._node.get_clock().now().nanoseconds
        self.monitor.image(stamp_ns, len(message.data), (now_ns - stamp_ns) / 1e9 if stamp_ns else None)
        if not self.enabled:
            self._drop(DISABLED)
            return
        if self._must_wait_for_camera():
            self._drop(NO_CAMERA_INFO)
            return
        try:
            frame = self._frame(message, stamp_ns)
        except (ImageError, CameraInfoError) as error:
            self._drop(UNREADABLE)
            self._warn(f"an image on '{self.image_topic}' was left out: {error}")
            return
        except Exception as error:  # whatever a decoder may meet in foreign bytes: this image, and no other
            self._drop(UNREADABLE)
            self._warn(f"an image on '{self.image_topic}' was left out: reading it failed: {error!r}")
            return
        try:
            self._accept(frame)
        except FrameRejected as error:
            self._warn(f"an image on '{self.image_topic}' was left out: {error}")

    def _frame(self, message: Image | CompressedImage, stamp_ns: int) -> Frame:
        rgb = rgb_from_compressed(message) if isinstance(message, CompressedImage) else rgb_from_image(message)
        intrinsics: np.ndarray | None = None
        camera = self._camera
        if camera is not None:
            rgb, intrinsics = camera.undistort(rgb), camera.intrinsics
        frame_id = self.config.camera_frame or message.header.frame_id.lstrip("/") or "camera"
        return Frame(rgb=rgb, stamp_ns=stamp_ns, frame_id=frame_id, intrinsics=intrinsics)

    def _must_wait_for_camera(self) -> bool:
        use = self.config.use_camera_info
        if use == "never" or self._camera is not None:
            return False
        if use == "required":
            return True
        now = time.monotonic()
        if self._first_image is None:
            self._first_image = now
        # Without this the first window would mix frames with and without a camera matrix.
        in_time = now - self._first_image < _INFO_PATIENCE
        return in_time and not self.monitor.state.infos and self._node.count_publishers(self.info_topic) > 0

    def _without_camera(self) -> str:
        if self.config.use_camera_info == "required":
            return "images are left out (use_camera_info is required)"
        return "the network's own estimate of the lens is used"

    def _drop(self, reason: str) -> None:
        with self._lock:
            self._dropped[reason] += 1

    def _warn(self, message: str) -> None:
        self._throttle(_LOGGER.warning, message)


def resolve_topics(node: Node, image_transport: str) -> tuple[str, str]:
    """The image and camera_info topics after remapping.

    camera_info is looked for beside the image, as drivers and image_transport have it, unless it is remapped itself.
    """
    image = node.resolve_topic_name("image")
    info = node.resolve_topic_name("camera_info")
    if info == node.resolve_topic_name("camera_info", only_expand=True):
        info = f"{image.rsplit('/', 1)[0]}/camera_info"
    return (f"{image}/compressed" if image_transport == "compressed" else image), info
