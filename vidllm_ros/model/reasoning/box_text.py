"""Boxes as text: the six numbers that the paper's answers print."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from vidllm_ros.model.outputs import Box3D

_NUMBER = r"[-+\u2212]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_COMMA = r"\s*[,;]\s*"
_BARE = re.compile(rf"(?<![\w.]){_NUMBER}(?:{_COMMA}{_NUMBER})+(?!\w)")
_ROW = re.compile(rf"\s*{_NUMBER}(?:(?:{_COMMA}|\s+){_NUMBER})*\s*[,;]?\s*")
_BRACKETS = re.compile(r"[\[(<{]([^\[\](){}<>]*)[\])>}]")


def format_box(box: Box3D) -> str:
    """The box as ``[cx, cy, cz, dx, dy, dz]`` in metres with two decimals.

    The sizes are those of the smallest box along the holder's axes that encloses it: six numbers hold no rotation.
    """
    corners = box.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    # Adding 0 turns -0.00 into 0.00.
    numbers = [round(float(value), 2) + 0.0 for value in (*((low + high) / 2), *(high - low))]
    return f"[{', '.join(f'{number:.2f}' for number in numbers)}]"


def format_boxes(boxes: Iterable[Box3D]) -> str:
    """Several boxes, separated by commas."""
    return ", ".join(format_box(box) for box in boxes)


def parse_boxes(text: str, label: str = "") -> list[Box3D]:
    """Every box that a text holds, in its order.

    A box is exactly six numbers: within brackets of any kind, separated by commas, semicolons or spaces, or without
    brackets, separated by commas or semicolons. Six numbers that are no box (a size that is not positive, a number too
    large to hold) are skipped, as are rows of any other length: a model's text is never an error.

    Args:
        text: a reply.
        label: the label that the boxes get.
    """
    groups = list(_BRACKETS.finditer(text))
    rows = [(group.start(), group.group(1)) for group in groups if _ROW.fullmatch(group.group(1))]
    bare = _BRACKETS.sub(lambda group: "|" * len(group.group()), text)
    rows += [(match.start(), match.group()) for match in _BARE.finditer(bare)]
    boxes = [_box(row, label) for _, row in sorted(rows)]
    return [box for box in boxes if box is not None]


def _box(row: str, label: str) -> Box3D | None:
    numbers = [float(number.replace("\u2212", "-")) for number in re.findall(_NUMBER, row)]
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
        return None
    return Box3D(center=np.array(numbers[:3]), size=np.array(numbers[3:]), label=label)
