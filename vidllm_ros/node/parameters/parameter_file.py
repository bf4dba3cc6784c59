"""Writes config/vidllm.yaml from what the parameters say about themselves."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby

from vidllm_ros.node.parameters.config import Changes, NodeConfig, NodeParameter
from vidllm_ros.perception.config import Parameter, PerceptionConfig

_HEADER = """\
# Every parameter of the node with its default; `ros2 param describe /vidllm NAME` says the same about a running node.
# Those marked fixed change only while the node is unconfigured.
# A value on the command line wins: ros2 launch vidllm_ros vidllm.launch.py params_file:=my.yaml device:=cpu
# Written by: python -m vidllm_ros.node.parameters.parameter_file > config/vidllm.yaml

/**:
  ros__parameters:
"""
_WIDTH = 110
_MARKS = {Changes.UNCONFIGURED: "fixed", Changes.AT_START: "at start only"}


def parameter_file() -> str:
    """The whole file."""
    parameters = [*NodeConfig.parameters(), *PerceptionConfig.parameters()]
    groups = {group: list(members) for group, members in groupby(sorted(parameters, key=_group), key=_group)}
    lines = list(_lines(groups.pop(""), 4))
    for group in dict.fromkeys(map(_group, parameters)):
        if group:
            lines += ["", f"    {group}:", *_lines(groups[group], 6)]
    return _HEADER + "\n".join(lines) + "\n"


def _group(parameter: Parameter) -> str:
    return parameter.name.rpartition(".")[0]


def _lines(parameters: list[Parameter], indent: int) -> Iterator[str]:
    for parameter in parameters:
        notes = "; ".join(_notes(parameter))
        text = f"{parameter.description} [{notes}]" if notes else parameter.description
        for line in textwrap.wrap(text, _WIDTH - indent):
            yield f"{' ' * indent}# {line}"
        yield f"{' ' * indent}{parameter.name.rpartition('.')[2]}: {_value(parameter.default)}"


def _notes(parameter: Parameter) -> Iterator[str]:
    if parameter.minimum is not None and parameter.maximum is not None:
        yield f"{parameter.minimum:.10g} to {parameter.maximum:.10g}"
    if isinstance(parameter, NodeParameter):
        if parameter.choices:
            yield f"one of {', '.join(parameter.choices)}"
        if parameter.changes in _MARKS:
            yield _MARKS[parameter.changes]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) or '""'


if __name__ == "__main__":
    sys.stdout.write(parameter_file())
