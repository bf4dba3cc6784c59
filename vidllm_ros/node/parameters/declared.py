"""Declares the configuration as ROS parameters, and keeps both in step while the node runs."""

from __future__ import annotations

import array
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vidllm_ros.node.parameters.config import Changes, NodeConfig, NodeParameter
from vidllm_ros.perception import config as perception_config
from vidllm_ros.perception.config import Parameter, PerceptionConfig
from vidllm_ros.perception.errors import ConfigError

Listener = Callable[[NodeConfig, PerceptionConfig], None]

_ROS_TYPES = {
    bool: RosParameter.Type.BOOL,
    int: RosParameter.Type.INTEGER,
    float: RosParameter.Type.DOUBLE,
    str: RosParameter.Type.STRING,
    tuple: RosParameter.Type.STRING_ARRAY,
}
_FOREIGN = ("qos_overrides.", "use_sim_time", "start_type_description_service")


def all_parameters() -> tuple[Parameter, ...]:
    """Every parameter of the node: its own, then those of perception."""
    return (*NodeConfig.parameters(), *PerceptionConfig.parameters())


class Parameters:
    """The node's parameters as two checked configurations.

    Args:
        node: where they are declared.
        configured: says whether the node is past configuring, when some may no longer change.
        listener: called with both configurations after each change; raises ConfigError to refuse it.

    Raises:
        ConfigError: a value given at start is of a wrong type or out of range.
    """

    def __init__(self, node: Node, configured: Callable[[], bool], listener: Listener) -> None:
        self._configured = configured
        self._listener = listener
        self._known = {parameter.name: parameter for parameter in all_parameters()}
        overrides: dict[str, RosParameter] = getattr(node, "_parameter_overrides", {})
        values = {name: _initial(parameter, overrides) for name, parameter in self._known.items()}
        self.node, self.perception = self._split(values)
        for name, parameter in self._known.items():
            # Left to itself, rclpy refuses a whole number for a float and knows no empty list.
            node.declare_parameter(name, _to_ros(values[name]), _descriptor(parameter), ignore_override=True)
        self.unknown = tuple(_unknown(overrides, self._known))
        node.add_on_set_parameters_callback(self._on_set)

    def _split(self, values: dict[str, Any]) -> tuple[NodeConfig, PerceptionConfig]:
        own = {p.name for p in NodeConfig.parameters()}
        perception = PerceptionConfig().replace({n: v for n, v in values.items() if n not in own})
        return NodeConfig.from_values(values), perception

    def _on_set(self, parameters: list[RosParameter]) -> SetParametersResult:
        changes = {p.name: _plain(p.value) for p in parameters if p.name in self._known}
        if not changes:
            return SetParametersResult(successful=True)
        try:
            for name, value in changes.items():
                self._check_change(self._known[name], value)
            values = {**_values(self.node), **self.perception.values(), **changes}
            node, perception = self._split(values)
            self._listener(node, perception)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.node, self.perception = node, perception
        return SetParametersResult(successful=True)

    def _check_change(self, parameter: Parameter, value: Any) -> None:
        parameter.check(value)
        if not isinstance(parameter, NodeParameter) or parameter.changes is Changes.ANY_TIME:
            return
        if parameter.changes is Changes.UNCONFIGURED and self._configured():
            raise ConfigError(
                f"{parameter.name} can only change {parameter.changes.value}: run the lifecycle transitions "
                f"deactivate and cleanup, set it, then configure and activate"
            )


def _initial(parameter: Parameter, overrides: dict[str, RosParameter]) -> perception_config.Value:
    if parameter.name not in overrides:
        return parameter.default
    value = _plain(overrides[parameter.name].value)
    if value is None and parameter.kind is tuple:  # how an empty YAML list arrives
        value = ()
    return parameter.check(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | array.array):
        return tuple(value)
    return value


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _values(config: NodeConfig) -> dict[str, Any]:
    return {parameter.name: getattr(config, parameter.name.replace(".", "_")) for parameter in NodeConfig.parameters()}


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=parameter.name,
        type=_ROS_TYPES[parameter.kind].value,
        description=parameter.description,
        # An empty list has no type of its own, so the type of lists is checked by us.
        dynamic_typing=parameter.kind is tuple,
    )
    if isinstance(parameter, NodeParameter):
        descriptor.read_only = parameter.changes is Changes.AT_START
        constraints = [f"one of {', '.join(parameter.choices)}"] if parameter.choices else []
        if parameter.changes is Changes.UNCONFIGURED:
            constraints.append(f"changes only {parameter.changes.value}")
        descriptor.additional_constraints = "; ".join(constraints)
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and parameter.kind is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    if low is not None and high is not None and parameter.kind is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return descriptor


def _unknown(overrides: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    names = sorted(known)
    for name in overrides:
        if name in names or name.startswith(_FOREIGN):
            continue
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        yield f"unknown parameter '{name}' has no effect; the nearest known one is '{nearest}'"
