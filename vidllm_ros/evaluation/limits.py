"""Limits a result must keep, given as ``trajectory.ate_se3<0.1`` on a command line, for continuous integration."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidllm_ros.evaluation.errors import EvaluationError

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_FORM = re.compile(r"(.*\S)\s*(<=|>=|<|>)\s*(\S+)")


@dataclass(frozen=True)
class Limit:
    """A figure and what it must be.

    Attributes:
        name: dotted, as in the machine-readable results.
        sign: "<", "<=", ">" or ">=".
        value: in the figure's unit.
    """

    name: str
    sign: str
    value: float

    def __str__(self) -> str:
        """As it was given."""
        return f"{self.name}{self.sign}{self.value:g}"

    def missed(self, figures: Mapping[str, float | None]) -> str:
        """One sentence when the limit is missed or the figure is not known; else empty."""
        value = figures.get(self.name)
        if value is None or math.isnan(value):
            return f"{self} is missed: {self.name} could not be computed"
        return "" if _COMPARE[self.sign](value, self.value) else f"{self} is missed: it is {value:.6g}"


def parse(text: str, known: list[str]) -> Limit:
    """Read ``NAME<VALUE`` (also ``<=``, ``>``, ``>=``).

    Args:
        text: the limit.
        known: names that exist.

    Raises:
        EvaluationError: another form, a name that does not exist, or a value that is no number.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise EvaluationError(f"limit {text!r} is not of the form NAME<VALUE, such as trajectory.ate_se3<0.1.")
    name, sign, number = match.groups()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)
        raise EvaluationError(f"limit {text!r}: there is no figure {name!r}; the nearest is {near[0]!r}.")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise EvaluationError(f"limit {text!r}: {number!r} is no number.")
    return Limit(name, sign, value)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """The numbers of nested results by dotted name; None where a figure is not known."""
    figures: dict[str, float | None] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            figures.update(flat(value, f"{prefix}{key}."))
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            figures[f"{prefix}{key}"] = value
    return figures
