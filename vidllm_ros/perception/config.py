"""The one configuration of perception: typed groups whose fields describe themselves.

A node can derive its parameter descriptors from ``PerceptionConfig.parameters()``, so names, defaults, ranges and
texts exist once.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vidllm_ros.perception.errors import ConfigError

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One configuration value and what may be put into it.

    Attributes:
        name: ``group.field``.
        kind: bool, int, float, str or tuple (of strings).
        default: the value when nothing is said.
        description: one sentence with the unit.
        minimum: smallest number allowed, or None.
        maximum: largest number allowed, or None.
    """

    name: str
    kind: Any
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Any) -> Value:
        """``value`` in this parameter's type; ConfigError when the type or the range is wrong."""
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.kind is tuple and isinstance(value, list):
            value = tuple(value)
        if not isinstance(value, self.kind) or (self.kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self.name} is {value!r}; it must be {_KIND_NAMES[self.kind]}")
        if self.kind is tuple and not all(isinstance(item, str) and item.strip() for item in value):
            raise ConfigError(f"{self.name} is {value!r}; every item must be a non-empty text")
        if self.kind in (int, float):
            low, high = self.minimum, self.maximum
            if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
                raise ConfigError(f"{self.name} is {value}; it must be from {low} to {high}")
        return value


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list of texts"}


def _parameter(default: Any, description: str, minimum: float | None = None, maximum: float | None = None) -> Any:
    metadata = {"description": description, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


class _Group:
    """Checks every field of a group against its own description."""

    def __post_init__(self) -> None:
        for parameter in _group_parameters(type(self)):
            name = parameter.name.partition(".")[2]
            object.__setattr__(self, name, parameter.check(getattr(self, name)))


@dataclass(frozen=True)
class WindowConfig(_Group):
    """Which frames are taken and how they form windows; consecutive windows share ``size - stride`` frames."""

    size: int = _parameter(32, "Frames that go through the network together.", 2, 64)
    stride: int = _parameter(16, "New frames per window; size - stride frames are shared with the one before.", 1, 64)
    sample_rate: float = _parameter(4.0, "Frames taken per second at most, Hz.", 0.1, 60.0)
    min_motion: float = _parameter(
        0.01,
        "Image motion needed since the last frame taken, as a fraction of the image width, so that a camera that "
        "stands still does not fill windows with one view; 0 takes frames by rate alone.",
        0.0,
        0.5,
    )
    max_wait: float = _parameter(
        2.0, "Seconds after which a frame is taken although the image did not move; 0 waits for motion.", 0.0, 3600.0
    )
    max_frame_gap: float = _parameter(1.0, "Seconds without a frame that cut the stream.", 0.01, 3600.0)
    history: int = _parameter(4, "Windows kept for questions.", 1, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > self.size:
            raise ConfigError(f"window.stride is {self.stride}; it must not be above window.size ({self.size})")


@dataclass(frozen=True)
class CameraConfig(_Group):
    """What to believe about the lens."""

    use_known_intrinsics: bool = _parameter(
        True, "Use the camera matrix that comes with a frame instead of the network's estimate."
    )
    max_focal_error: float = _parameter(
        0.2, "Relative difference between the estimated and the known focal length that is reported.", 0.0, 10.0
    )


@dataclass(frozen=True)
class RefineConfig(_Group):
    """Bundle adjustment: camera poses of a window adjusted to points that are followed through its images."""

    enabled: bool = _parameter(True, "Adjust camera poses to points seen by several frames; false takes the network's.")
    max_points: int = _parameter(200, "Most points followed from image to image.", 16, 2000)
    image_side: int = _parameter(
        112, "Shorter side at which images are searched for points, pixels; more is slower.", 32, 2160
    )


@dataclass(frozen=True)
class ScaleConfig(_Group):
    """When the metres of a window are believed."""

    max_spread: float = _parameter(
        0.15,
        "Relative median absolute deviation of the per-image factors above which a scale is unreliable.",
        0.0,
        10.0,
    )
    min_anchor_motion: float = _parameter(
        0.2, "Metres the outside poses of a window must span before its scale is taken from them.", 0.0, 100.0
    )


@dataclass(frozen=True)
class StitchConfig(_Group):
    """How consecutive windows are joined by their shared frames, and when they are not."""

    scale_tolerance: float = _parameter(
        0.05, "Relative difference to the map's metres up to which the map returns to a window's metres.", 0.0, 1.0
    )
    scale_pull: float = _parameter(
        0.1,
        "Share of that difference by which it does; surfaces seen by both lie apart by as much, and 1 lets each window "
        "keep its own metres.",
        0.0,
        1.0,
    )
    max_scale_ratio: float = _parameter(2.0, "Scale ratio, either way, above which a window is rejected.", 1.0, 100.0)
    max_residual: float = _parameter(
        0.25,
        "Median distance between shared points, relative to their range, above which a window is rejected.",
        0.0,
        10.0,
    )
    max_rotation_residual: float = _parameter(
        15.0,
        "Median angle between shared cameras after alignment, degrees, above which a window is rejected.",
        0.0,
        180.0,
    )
    min_points: int = _parameter(200, "Shared points needed to align a window.", 3, 1_000_000)
    max_rejections: int = _parameter(
        2, "Windows rejected in a row before the map starts again with the next one that does not align.", 0, 100
    )


@dataclass(frozen=True)
class CloudConfig(_Group):
    """The point cloud of one window."""

    min_confidence: float = _parameter(
        0.1,
        "Smallest depth confidence of a point, 0 to 1. Trained with the bundled loss it tends to 1 - e / 0.2, with e "
        "the expected error as a fraction of the scene's mean distance: 0.1 stands for 18 %, 0.5 for 10 %.",
        0.0,
        1.0,
    )
    max_range: float = _parameter(8.0, "Largest depth of a point, metres.", 0.1, 1000.0)
    voxel_size: float = _parameter(0.03, "Edge of the voxels points are averaged in, metres; 0 keeps all.", 0.0, 10.0)
    max_points: int = _parameter(200_000, "Most points of one cloud.", 1, 100_000_000)


@dataclass(frozen=True)
class MapConfig(_Group):
    """The map accumulated over windows."""

    enabled: bool = _parameter(True, "Accumulate the clouds of placed windows.")
    voxel_size: float = _parameter(0.05, "Edge of a map voxel, metres.", 0.001, 10.0)
    max_points: int = _parameter(2_000_000, "Most voxels kept; those seen longest ago leave first.", 1, 100_000_000)


@dataclass(frozen=True)
class PathConfig(_Group):
    """The camera's path."""

    max_poses: int = _parameter(1024, "Most poses kept; the oldest leave first.", 1, 1_000_000)


@dataclass(frozen=True)
class GravityConfig(_Group):
    """How the floor is recognised when nothing outside tells which way is up."""

    floor_distance: float = _parameter(0.04, "Distance to the plane within which a point is floor, metres.", 0.001, 1.0)
    min_floor_share: float = _parameter(0.05, "Smallest share of the window's points on the floor.", 0.0, 1.0)
    max_below_share: float = _parameter(0.05, "Largest share of the window's points below the floor.", 0.0, 1.0)
    max_tilt: float = _parameter(
        50.0, "Largest angle between the floor's normal and the cameras' mean upward axis, degrees.", 0.0, 90.0
    )
    min_camera_height: float = _parameter(0.1, "Smallest height of every camera above the floor, metres.", 0.0, 100.0)
    settled: float = _parameter(
        1.5, "Uncertainty of the vertical, degrees, above which later windows still correct the map's tilt.", 0.0, 90.0
    )
    max_correction: float = _parameter(3.0, "Largest correction of the map's tilt by one window, degrees.", 0.0, 90.0)


@dataclass(frozen=True)
class QueryConfig(_Group):
    """Defaults of questions."""

    max_new_tokens: int = _parameter(256, "Most tokens of an answer.", 1, 8192)
    temperature: float = _parameter(0.0, "Sampling temperature; 0 always takes the likeliest token.", 0.0, 2.0)


@dataclass(frozen=True)
class DetectionConfig(_Group):
    """Boxes of the labels that are looked for in every window."""

    labels: tuple[str, ...] = _parameter(
        ("bed", "sofa", "table", "desk", "chair", "cabinet", "bookshelf", "television", "lamp", "plant"),
        "Labels located in every window. The default is furniture that the bundled model knows; another model may know "
        "any phrase.",
    )
    min_score: float = _parameter(0.5, "Smallest score of a box, 0 to 1.", 0.0, 1.0)


@dataclass(frozen=True)
class PerceptionConfig:
    """Everything that can be set in perception."""

    window: WindowConfig = field(default_factory=WindowConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    stitch: StitchConfig = field(default_factory=StitchConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    map: MapConfig = field(default_factory=MapConfig)
    path: PathConfig = field(default_factory=PathConfig)
    gravity: GravityConfig = field(default_factory=GravityConfig)
    query: QueryConfig = field(default_factory=QueryConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    @staticmethod
    def parameters() -> Iterator[Parameter]:
        """Every value as ``group.field`` with its type, default, range and description."""
        for group in _GROUPS.values():
            yield from _group_parameters(group)

    def values(self) -> dict[str, Value]:
        """All values by their full names; ``replace(self.values())`` on any configuration gives this one."""
        return {p.name: getattr(getattr(self, p.name.split(".")[0]), p.name.split(".")[1]) for p in self.parameters()}

    def replace(self, changes: Mapping[str, Any]) -> PerceptionConfig:
        """A copy with some values changed, by their full names (``{"window.size": 16}``).

        Raises:
            ConfigError: an unknown name (the nearest known one is named), or a value of a wrong type or out of range.
        """
        known = {parameter.name for parameter in self.parameters()}
        groups: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            if name not in known:
                nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
                raise ConfigError(f"unknown parameter '{name}'; the nearest known one is '{nearest[0]}'")
            group, _, key = name.partition(".")
            groups.setdefault(group, {})[key] = value
        fresh = {name: dataclasses.replace(getattr(self, name), **values) for name, values in groups.items()}
        return dataclasses.replace(self, **fresh)


_GROUPS: dict[str, type] = {
    f.name: f.default_factory  # type: ignore[misc]
    for f in dataclasses.fields(PerceptionConfig)
}


def _group_parameters(group: type) -> list[Parameter]:
    prefix = next(name for name, kind in _GROUPS.items() if kind is group)
    return [
        Parameter(name=f"{prefix}.{f.name}", kind=type(f.default), default=getattr(group, f.name), **f.metadata)
        for f in dataclasses.fields(group)
    ]
