"""Who else is on a topic, and why their messages cannot arrive."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vidllm_ros.node.qos import describe

IMAGE_TYPES = frozenset({"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"})


def refused(publishers: Sequence[TopicEndpointInfo], wanted: QoSProfile) -> list[str]:
    """The publishers whose quality of service does not fit a subscription, each in words: its node, offer and fault."""
    found = []
    for publisher in publishers:
        verdict, reason = qos_check_compatible(publisher.qos_profile, wanted)
        if verdict == QoSCompatibility.ERROR:
            found.append(f"'{publisher.node_name}' offers {describe(publisher.qos_profile)} ({reason.strip(' ;')})")
    return found


def image_topics(node: Node, without: str, own: str) -> list[str]:
    """Topics that carry images, but for one and for those below ``own``."""
    return sorted(
        name
        for name, types in node.get_topic_names_and_types()
        if IMAGE_TYPES & set(types) and name != without and not name.startswith(own.rstrip("/") + "/")
    )
