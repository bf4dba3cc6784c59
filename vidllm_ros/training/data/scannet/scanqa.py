"""ScanQA (Azuma et al., CVPR 2022): free questions about a scan, with one or more answers each.

``ScanQA_v1.0_{train,val}.json``: a list of ``{scene_id, question_id, question, answers, object_ids, object_names}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidllm_ros.training.data.errors import DataError
from vidllm_ros.training.data.scannet.annotations import (
    Annotation,
    convert_rows,
    numbers,
    read_json,
    rows_of,
    scene_name,
    text,
)


def read_scanqa(path: Path) -> list[Annotation]:
    """Questions of a ScanQA file; the first answer is the reference, the others stay beside it.

    Broken entries are left out with a warning.

    Raises:
        DataError: the file is missing, broken, or one of the test files, which have no answers.
    """
    rows = rows_of(path, read_json(path))
    if not any(isinstance(row, dict) and "answers" in row for _, row in rows):
        raise DataError(f"{path} has no answers; ScanQA's test files cannot be learned from. Use train or val.")
    return convert_rows(path, rows, _annotation)


def _annotation(row: Any) -> Annotation:
    given = row["answers"]
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(answer, str) and answer.strip() for answer in given)
    ):
        raise ValueError(f"field 'answers' is {given!r}, no list of answers")
    first, *others = dict.fromkeys(" ".join(answer.split()) for answer in given)
    objects = numbers(row, "object_ids") if "object_ids" in row else ()
    return Annotation(scene_name(row), "question", text(row, "question"), first, objects, tuple(others))
