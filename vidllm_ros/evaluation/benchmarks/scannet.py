"""ScanNet's classes, and which referred objects are the only ones of their class: ScanRefer's unique and multiple."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vidllm_ros.evaluation.errors import EvaluationError

# Classes of the ScanNet detection benchmark by NYU40 name and id; everything else is one class, "others".
DETECTION_CLASSES = {
    "cabinet": 3,
    "bed": 4,
    "chair": 5,
    "sofa": 6,
    "table": 7,
    "door": 8,
    "window": 9,
    "bookshelf": 10,
    "picture": 11,
    "counter": 12,
    "desk": 14,
    "curtain": 16,
    "refrigerator": 24,
    "shower curtain": 28,
    "toilet": 33,
    "sink": 34,
    "bathtub": 36,
}
OTHERS = "others"
_STRUCTURE = {"wall": 1, "floor": 2}
RULES = {
    "scanrefer": frozenset(DETECTION_CLASSES.values()),
    # its list holds walls and floors too, so two walls of a scene compete with each other and not with other things
    "m3dref-clip": frozenset({*DETECTION_CLASSES.values(), *_STRUCTURE.values()}),
}


def read_class_table(path: str | Path) -> dict[str, int]:
    """NYU40 id by raw category, from ``scannetv2-labels.combined.tsv``.

    Raises:
        EvaluationError: no such file, or one without the columns ``raw_category`` and ``nyu40id``.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return {row["raw_category"]: int(row["nyu40id"]) for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path} is no label table of ScanNet (tab-separated, with raw_category and nyu40id): {error!r}"
        ) from error


def object_class(name: str, table: Mapping[str, int], rule: str = "scanrefer") -> str:
    """Class of an ``object_name`` (underscores stand for blanks) under a rule; unknown names are "others".

    Raises:
        EvaluationError: an unknown rule.
    """
    if rule not in RULES:
        raise EvaluationError(f"rule {rule!r} is unknown: use one of {', '.join(RULES)}.")
    number = table.get(name.replace("_", " "), 0)
    return str(number) if number in RULES[rule] else OTHERS


def unique_objects(
    annotations: Iterable[tuple[str, str | int, str]], table: Mapping[str, int], rule: str = "scanrefer"
) -> list[bool]:
    """For each description whether its object is the only referred one of its class in its scene.

    Args:
        annotations: scene id, object id and object name of every description of the evaluated file, in order.
        table: see ``read_class_table``.
        rule: "scanrefer" (also Chat-Scene), or "m3dref-clip" (also Video-3D-LLM), which keeps walls and floors apart.

    Returns:
        One value for each description; the first name an object is given decides its class.
    """
    rows: Sequence[tuple[str, str | int, str]] = list(annotations)
    classes: dict[tuple[str, str], str] = {}
    for scene, identity, name in rows:
        classes.setdefault((scene, str(identity)), object_class(name, table, rule))
    counts: dict[tuple[str, str], int] = {}
    for (scene, _), kind in classes.items():
        counts[scene, kind] = counts.get((scene, kind), 0) + 1
    return [counts[scene, classes[scene, str(identity)]] == 1 for scene, identity, _ in rows]
