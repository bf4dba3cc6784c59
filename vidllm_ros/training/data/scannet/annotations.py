"""What people wrote about ScanNet scans, read row by row and joined to the scans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vidllm_ros.model.reasoning.box_text import format_box
from vidllm_ros.training.data.errors import DataError, log, reason
from vidllm_ros.training.data.scannet.objects import ScanObjects
from vidllm_ros.training.data.scannet.scans import SCENE, Scan, Scans
from vidllm_ros.training.rooms import box_in_scene, scene_from_world, visible_boxes
from vidllm_ros.training.sample import Sample, TextTask

#: Stands in a question for the box of its object, six numbers in the scene frame, see ``model.reasoning.box_text``.
BOX = "{box}"
#: Kinds that mean nothing without the boxes of their objects.
NEEDS_BOXES = ("locate", "describe_object")

Row = TypeVar("Row")


@dataclass(frozen=True)
class Annotation:
    """One question, description or reference about a scan.

    Attributes:
        scene: the scan's name.
        kind: as of ``TextTask``.
        question: with ``BOX`` where the box of the (only) object belongs.
        answer: the reference answer.
        objects: ``objectId`` of the objects that it is about.
        other_answers: further right answers.
        details: what only evaluation needs: fields of the file by their names there, and of a reference the "phrase".
    """

    scene: str
    kind: str
    question: str
    answer: str
    objects: tuple[int, ...] = ()
    other_answers: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class AnnotatedScan(NamedTuple):
    """A scan's sample without tasks, its objects (None where unknown), and all that was written about it."""

    sample: Sample
    objects: ScanObjects | None
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class AnnotatedScans:
    """Scans with the tasks that a data set asks about them.

    Attributes:
        path: the annotation file, for messages.
        scans: where the scans are.
        annotations: by scan.
    """

    path: Path
    scans: Scans
    annotations: dict[str, tuple[Annotation, ...]]

    def load(self, scene: str) -> Sample:
        """The scan's sample with its tasks.

        A question needs its objects to be seen: one that names objects of which no frame of the window shows at least
        40 pixels is left out, and one that names several keeps those that are shown. Annotations that need the box of
        an object which the scan does not have are left out with a warning.

        Raises:
            DataError: as ``Scans.read``; or boxes are needed and the scan has none; or no question is left.
        """
        scan, annotations = self._read(scene)
        tasks = self._tasks(scan, annotations, scene)
        if not tasks:
            raise DataError(
                f"its frames show nothing that the {len(annotations)} annotations in {self.path} are about."
            )
        dataset = self.path.stem
        return replace(scan.sample, name=f"{dataset}/{scene}", tasks=tuple(tasks))

    def annotated(self, scene: str) -> AnnotatedScan:
        """The scan with every annotation, whether its frames show what that is about or not: what a benchmark asks.

        Raises:
            DataError: as ``Scans.read``; or boxes are needed and the scan has none.
        """
        scan, annotations = self._read(scene)
        return AnnotatedScan(replace(scan.sample, name=f"{self.path.stem}/{scene}"), scan.objects, annotations)

    def _read(self, scene: str) -> tuple[Scan, tuple[Annotation, ...]]:
        scan, annotations = self.scans.read(scene), self.annotations[scene]
        if scan.objects is None and any(a.kind in NEEDS_BOXES for a in annotations):
            raise DataError(
                f"{self.path} asks about boxes, but {self.scans.folder / scene} has none; download the scan's "
                "_vh_clean_2.ply, _vh_clean_2.0.010000.segs.json and .aggregation.json."
            )
        return scan, annotations

    def _tasks(self, scan: Scan, annotations: Iterable[Annotation], scene: str) -> list[TextTask]:
        index = scan.objects.index if scan.objects else {}
        shown = _shown(scan)
        tasks, unknown = [], []
        for annotation in annotations:
            if annotation.kind in NEEDS_BOXES and (missing := set(annotation.objects) - set(index)):
                unknown.append(min(missing))
                continue
            boxes = tuple(index[number] for number in annotation.objects if number in index)
            seen = tuple(box for box in boxes if box in shown)
            if seen or not boxes:
                tasks.append(_task(annotation, seen, scan.sample))
        if unknown:
            log.warning(
                "%s: %d annotations of %s name objects that its aggregation does not have and are left out; the first: "
                "object %d",
                self.path,
                len(unknown),
                scene,
                unknown[0],
            )
        return tasks


def by_scene(annotations: Iterable[Annotation]) -> dict[str, tuple[Annotation, ...]]:
    """Annotations grouped by scan, scans in the order of their names."""
    found: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        found.setdefault(annotation.scene, []).append(annotation)
    return {scene: tuple(found[scene]) for scene in sorted(found)}


def read_json(path: Path) -> Any:
    """A JSON file's content; raises DataError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no readable JSON: {error}") from error


def rows_of(path: Path, content: Any) -> list[tuple[str, Any]]:
    """The rows of a JSON list, each with the words that name its place; raises DataError when there are none."""
    if not isinstance(content, list) or not content:
        raise DataError(f"{path} holds no list of annotations; is it the file of another data set?")
    return [(f"entry {number}", row) for number, row in enumerate(content)]


def convert_rows(path: Path, rows: Iterable[tuple[str, Row]], convert: Callable[[Row], Annotation]) -> list[Annotation]:
    """An annotation for every row.

    A broken row (a field is missing or of the wrong kind) is left out with a warning that names its place.

    Raises:
        DataError: every row is broken; the message holds the first one's problem.
    """
    annotations: list[Annotation] = []
    first = ""
    for place, row in rows:
        try:
            annotations.append(convert(row))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            first = first or f"{place}: {what}"
            log.warning("%s, %s is left out: %s", path, place, what)
    if not annotations:
        raise DataError(f"{path} holds no usable annotation{'; ' + first if first else ''}.")
    return annotations


def text(row: Any, key: str) -> str:
    """A field of a row that must hold words; raises KeyError or ValueError."""
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field '{key}' is {value!r}, no text")
    return " ".join(value.split())


def numbers(row: Any, key: str) -> tuple[int, ...]:
    """A field of a row that must be a list of whole numbers; raises KeyError or ValueError."""
    value = row[key]
    if not isinstance(value, list) or not all(isinstance(number, int) for number in value):
        raise ValueError(f"field '{key}' is {value!r}, no list of whole numbers")
    return tuple(dict.fromkeys(value))


def details(row: Any, *keys: str) -> dict[str, Any]:
    """Those fields of a row that it has."""
    return {key: row[key] for key in keys if key in row}


def scene_name(row: Any, key: str = "scene_id") -> str:
    """A field that must name a scan; raises KeyError or ValueError."""
    value = row[key]
    if not isinstance(value, str) or not SCENE.fullmatch(value):
        raise ValueError(f"field '{key}' is {value!r}, no name like scene0000_00")
    return value


def _shown(scan: Scan) -> set[int]:
    """Boxes of what the frames show; of walls, floors and ceilings, all."""
    if scan.objects is None:
        return set()
    owners = set(np.unique(scan.objects.owner).tolist())
    structure = {i for i in range(len(scan.sample.boxes)) if i not in owners}
    return structure | set(visible_boxes(scan.sample))


def _task(annotation: Annotation, boxes: tuple[int, ...], sample: Sample) -> TextTask:
    question = annotation.question
    if BOX in question:
        T_scene_world = scene_from_world(sample.T_world_camera)
        question = question.replace(BOX, format_box(box_in_scene(sample.boxes[boxes[0]], T_scene_world)))
    return TextTask(annotation.kind, question, annotation.answer, boxes, annotation.other_answers)
