"""Quality of service: what is asked of cameras, and what is offered to everybody else."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPresetProfiles, QoSProfile, ReliabilityPolicy

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PER_WINDOW = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
EVENTS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
# A window's poses come in one burst, and none may be lost.
POSES = QoSProfile(depth=64, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
# Services and actions queue 10 by default, and what comes in a burst beyond that is lost without a word to anybody.
REQUESTS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
# A long answer comes faster than a busy client reads.
TEXT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
# Every publisher of static transforms sends one message and falls silent.
TF_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def camera_qos(name: str, depth: int) -> QoSProfile:
    """The profile that ``image_qos`` names, with another depth."""
    profile: QoSProfile = {
        "sensor_data": QoSPresetProfiles.SENSOR_DATA.value,
        "default": EVENTS,
        "system_default": QoSPresetProfiles.SYSTEM_DEFAULT.value,
    }[name]
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=profile.reliability,
        durability=profile.durability,
    )


def describe(profile: QoSProfile) -> str:
    """A profile in the words of ``ros2 topic info -v``."""
    return f"{profile.reliability.name.lower().replace('_', ' ')}, {profile.durability.name.lower().replace('_', ' ')}"
