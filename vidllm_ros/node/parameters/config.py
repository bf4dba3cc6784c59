"""What can be set in the node itself; everything about perception is described in ``perception.config``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vidllm_ros.perception.config import Parameter
from vidllm_ros.perception.errors import ConfigError


class Changes(Enum):
    """When a parameter may be changed."""

    ANY_TIME = "any time"
    UNCONFIGURED = "while the node is unconfigured"
    AT_START = "at start only"


@dataclass(frozen=True)
class NodeParameter(Parameter):
    """A parameter with the values it can take and the time it may change.

    Attributes:
        choices: the texts allowed, or empty for any.
        changes: when it may be changed.
    """

    choices: tuple[str, ...] = ()
    changes: Changes = Changes.ANY_TIME

    def check(self, value: Any) -> Any:
        """``value`` in this parameter's type; ConfigError when the type, the range or the choice is wrong."""
        value = super().check(value)
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} is '{value}'; it must be one of {', '.join(self.choices)}")
        return value


def _parameter(
    name: str,
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    changes: Changes = Changes.UNCONFIGURED,
) -> Any:
    parameter = NodeParameter(name, type(default), default, description, minimum, maximum, choices, changes)
    return field(default=default, metadata={"parameter": parameter})


@dataclass(frozen=True)
class NodeConfig:
    """Everything that can be set in the node, by group."""

    autostart: bool = _parameter(
        "autostart", True, "Configure and activate without being asked.", changes=Changes.AT_START
    )
    checkpoint: str = _parameter(
        "checkpoint", "nano", "Folder of a checkpoint, or nano for the bundled demonstration model."
    )
    device: str = _parameter(
        "device",
        "auto",
        "cpu, cuda or cuda:N. auto takes CUDA where PyTorch finds it and says what it took; cuda never falls back.",
    )
    dtype: str = _parameter(
        "dtype", "auto", "Number format of the weights.", choices=("auto", "float32", "float16", "bfloat16")
    )

    image_transport: str = _parameter(
        "image_transport", "raw", "raw reads image, compressed reads image/compressed.", choices=("raw", "compressed")
    )
    image_qos: str = _parameter(
        "image_qos",
        "sensor_data",
        "Quality of service of image and camera_info: sensor_data is best effort and fits every publisher, default is "
        "reliable.",
        choices=("sensor_data", "default", "system_default"),
    )
    image_qos_depth: int = _parameter("image_qos_depth", 5, "Images that may wait for the node.", 1, 1000)
    use_camera_info: str = _parameter(
        "use_camera_info",
        "auto",
        "auto uses camera_info when it comes, required leaves frames out until it came, never ignores it.",
        choices=("auto", "required", "never"),
    )
    image_rectified: bool = _parameter(
        "image_rectified", False, "The images are rectified already: P of camera_info describes them, not K and D."
    )

    map_frame: str = _parameter("map_frame", "map", "Frame of every pose, point and box.")
    odom_frame: str = _parameter("odom_frame", "odom", "Odometry frame, for publish_tf: map_to_odom.")
    base_frame: str = _parameter("base_frame", "base_link", "Robot frame, for publish_tf: map_to_base.")
    camera_frame: str = _parameter(
        "camera_frame", "", "Optical frame of the camera; empty takes the frame_id of the images."
    )
    anchor: str = _parameter(
        "anchor",
        "auto",
        "Whether TF places windows: auto uses it when TF knows anchor_frame, tf leaves windows out while it does not, "
        "none never asks.",
        choices=("auto", "tf", "none"),
    )
    anchor_frame: str = _parameter(
        "anchor_frame", "", "Frame that coincides with map_frame and in which TF knows the camera; empty is map_frame."
    )
    publish_tf: str = _parameter(
        "publish_tf",
        "none",
        "Which transform to broadcast. A frame has one parent only, so leave it none where something else places the "
        "camera.",
        choices=("none", "map_to_odom", "map_to_base", "map_to_camera"),
    )
    invert_tf: bool = _parameter(
        "invert_tf", False, "Broadcast the inverse, so that the other frame keeps the parent it has."
    )
    tf_timeout: float = _parameter(
        "tf_timeout", 0.2, "Seconds to wait for a transform.", 0.0, 10.0, changes=Changes.ANY_TIME
    )

    map_publish_period: float = _parameter(
        "map.publish_period", 2.0, "Seconds between two maps at least.", 0.0, 3600.0, changes=Changes.ANY_TIME
    )
    map_save_on_shutdown: str = _parameter(
        "map.save_on_shutdown",
        "",
        "File (.ply or .pcd) that the map is written to, over an older one, when the node ends; empty writes none.",
        changes=Changes.ANY_TIME,
    )
    map_folder: str = _parameter(
        "map.folder",
        "",
        "Folder that maps are written to and that no request can leave; empty leaves the whole file system open.",
    )
    query_timeout: float = _parameter(
        "query.timeout",
        30.0,
        "Seconds a question may take, waiting included.",
        0.1,
        3600.0,
        changes=Changes.ANY_TIME,
    )
    query_queue_size: int = _parameter(
        "query.queue_size",
        4,
        "Questions that may wait while one is answered.",
        0,
        1000,
        changes=Changes.ANY_TIME,
    )
    query_max_characters: int = _parameter(
        "query.max_characters",
        4096,
        "Longest question, characters; a longer one is refused before it waits.",
        1,
        1_000_000,
        changes=Changes.ANY_TIME,
    )
    max_consecutive_failures: int = _parameter(
        "max_consecutive_failures",
        3,
        "Windows that may fail in a row before the node stops and waits for ~/reset; 0 never stops.",
        0,
        1000,
        changes=Changes.ANY_TIME,
    )
    watchdog_timeout: float = _parameter(
        "watchdog_timeout",
        60.0,
        "Seconds that one window or one answer may take before the node reports that it hangs.",
        1.0,
        3600.0,
        changes=Changes.ANY_TIME,
    )
    diagnostics_period: float = _parameter(
        "diagnostics_period", 1.0, "Seconds between two diagnostics.", 0.1, 60.0, changes=Changes.AT_START
    )

    def __post_init__(self) -> None:
        for key, parameter in _PARAMETERS.items():
            object.__setattr__(self, key, parameter.check(getattr(self, key)))
        if self.anchor == "tf" and self.publish_tf != "none" and self.reference_frame == self.map_frame:
            raise ConfigError(
                f"anchor is 'tf' and publish_tf is '{self.publish_tf}', so the node would be anchored to the "
                f"transform it broadcasts itself; set anchor_frame to a frame that something else provides (such as "
                f"'{self.odom_frame}'), or anchor to 'none'"
            )

    @property
    def reference_frame(self) -> str:
        """The frame TF is asked for the camera's pose in."""
        return self.anchor_frame or self.map_frame

    @property
    def anchors_to_tf(self) -> bool:
        """Whether TF is asked at all; never for what this node broadcasts itself."""
        return self.anchor != "none" and (self.publish_tf == "none" or self.reference_frame != self.map_frame)

    @staticmethod
    def parameters() -> tuple[NodeParameter, ...]:
        """Every parameter with its type, default, range and description."""
        return tuple(_PARAMETERS.values())

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> NodeConfig:
        """From values by parameter name; others keep their defaults.

        Raises:
            ConfigError: a value of a wrong type or out of range, or values that contradict each other.
        """
        return cls(**{key: values[p.name] for key, p in _PARAMETERS.items() if p.name in values})


_PARAMETERS: dict[str, NodeParameter] = {f.name: f.metadata["parameter"] for f in dataclasses.fields(NodeConfig)}
