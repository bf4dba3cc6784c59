"""ScanRefer (Chen et al., ECCV 2020): descriptions that single out one object of a scan.

``ScanRefer_filtered_{train,val}.json``: a list of ``{scene_id, object_id, object_name, ann_id, description, token}``,
where ``object_id`` is the ``objectId`` of the scan's aggregation as a string.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidllm_ros.model.reasoning.language_types import locate_pair
from vidllm_ros.training.data.scannet.annotations import (
    Annotation,
    convert_rows,
    details,
    read_json,
    rows_of,
    scene_name,
    text,
)


def read_scanrefer(path: Path) -> list[Annotation]:
    """Descriptions as tasks to locate what they describe.

    Broken entries are left out with a warning; raises DataError when the file is missing or broken.
    """
    return convert_rows(path, rows_of(path, read_json(path)), _annotation)


def _annotation(row: Any) -> Annotation:
    phrase = text(row, "description")
    question, answer = locate_pair(phrase)
    more = {"phrase": phrase, **details(row, "object_name", "ann_id")}
    return Annotation(scene_name(row), "locate", question, answer, (int(row["object_id"]),), details=more)
