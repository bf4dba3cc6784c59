"""ReferIt3D (Achlioptas et al., ECCV 2020): Nr3D, written by people, and Sr3D, made from templates.

``nr3d.csv`` and ``sr3d.csv``, with the columns ``scan_id, target_id, utterance, tokens, mentions_target_class`` among
others; ``target_id`` is the ``objectId`` of the scan's aggregation and ``tokens`` a list in Python's notation.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

from vidllm_ros.model.reasoning.language_types import locate_pair
from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.scannet.annotations import Annotation, convert_rows, details, scene_name, text

#: The published experiments leave longer utterances out.
MOST_TOKENS = 24
_COLUMNS = ("scan_id", "target_id", "utterance", "tokens", "mentions_target_class")


def read_referit3d(path: Path) -> list[Annotation]:
    """Utterances as tasks to locate their target.

    As in the published experiments, utterances that do not name the target's class and those of more than 24 tokens
    are left out. Broken lines are left out with a warning that names the line.

    Raises:
        DataError: the file is missing, no CSV in UTF-8, or lacks a column.
    """
    filtered = 0

    def wanted() -> Iterator[tuple[str, dict[str, str]]]:
        nonlocal filtered
        for place, row in _rows(path):
            if _outside_the_experiments(row):
                filtered += 1
            else:
                yield place, row

    annotations = convert_rows(path, wanted(), _annotation)
    if filtered:
        log.info("%s: %d utterances do not name the class or have over %d tokens", path, filtered, MOST_TOKENS)
    return annotations


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}; is it nr3d.csv or sr3d.csv?")
            for row in reader:
                yield f"line {reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error


def _outside_the_experiments(row: dict[str, str]) -> bool:
    try:
        return row["mentions_target_class"].strip().lower() == "false" or len(_tokens(row)) > MOST_TOKENS
    except (AttributeError, ValueError):
        return False  # broken, and reported as such


def _tokens(row: dict[str, str]) -> list[str]:
    try:
        tokens = ast.literal_eval(row["tokens"])
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"field 'tokens' is {str(row['tokens'])[:80]!r}, no list") from error
    if not isinstance(tokens, list):
        raise ValueError(f"field 'tokens' is {str(row['tokens'])[:80]!r}, no list")
    return tokens


def _annotation(row: dict[str, str]) -> Annotation:
    tokens = _tokens(row)
    if str(row["mentions_target_class"]).strip().lower() != "true":
        raise ValueError(f"field 'mentions_target_class' is {row['mentions_target_class']!r}, not True or False")
    phrase = text(row, "utterance")
    question, answer = locate_pair(phrase)
    more = {"phrase": phrase, **details(row, "stimulus_id", "coarse_reference_type"), "tokens": tokens}
    return Annotation(scene_name(row, "scan_id"), "locate", question, answer, (int(row["target_id"]),), details=more)
