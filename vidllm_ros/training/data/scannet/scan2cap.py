"""Scan2Cap (Chen et al., CVPR 2021): the descriptions of ScanRefer, read the other way round.

The object's box is given, its description is the answer. The file is ScanRefer's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidllm_ros.training.data.scannet.annotations import (
    BOX,
    Annotation,
    convert_rows,
    details,
    read_json,
    rows_of,
    scene_name,
    text,
)

QUESTION = f"Describe the object at {BOX}."


def read_scan2cap(path: Path) -> list[Annotation]:
    """Descriptions as answers; an object with several is asked about as often, with the same question.

    Broken entries are left out with a warning; raises DataError when the file is missing or broken.
    """
    return convert_rows(path, rows_of(path, read_json(path)), _annotation)


def _annotation(row: Any) -> Annotation:
    description = text(row, "description")
    return Annotation(
        scene_name(row),
        "describe_object",
        QUESTION,
        description,
        (int(row["object_id"]),),
        details=details(row, "object_name", "ann_id", "token"),
    )
