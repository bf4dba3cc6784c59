"""Multi3DRefer (Zhang et al., ICCV 2023): descriptions that fit no, one or several objects of a scan.

``multi3drefer_{train,val}.json``: a list of ``{scene_id, object_ids, object_name, ann_id, description, eval_type}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidllm_ros.model.reasoning.language_types import locate_pair
from vidllm_ros.training.data.scannet.annotations import (
    Annotation,
    convert_rows,
    details,
    numbers,
    read_json,
    rows_of,
    scene_name,
    text,
)


def read_multi3drefer(path: Path) -> list[Annotation]:
    """Descriptions as tasks to locate all that they fit; those that fit nothing teach the zero target.

    Broken entries are left out with a warning; raises DataError when the file is missing or broken.
    """
    return convert_rows(path, rows_of(path, read_json(path)), _annotation)


def _annotation(row: Any) -> Annotation:
    phrase, objects = text(row, "description"), tuple(sorted(numbers(row, "object_ids")))
    question, answer = locate_pair(phrase)
    more = {"phrase": phrase, **details(row, "ann_id", "eval_type")}
    return Annotation(scene_name(row), "locate", question, answer, objects, details=more)
