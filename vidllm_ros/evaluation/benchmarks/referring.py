"""The benchmarks of referred objects: ScanRefer, Multi3DRefer, Nr3D and Sr3D, and captions of objects, Scan2Cap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vidllm_ros.evaluation.benchmarks import scannet
from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow, Report, Row
from vidllm_ros.evaluation.benchmarks.candidates import MIN_SCORE, WAYS, ReferredScene, find
from vidllm_ros.evaluation.benchmarks.windows import say
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import captions, grounding
from vidllm_ros.evaluation.metrics.overlap import box_iou, enclosing, moved, oriented_box_iou
from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.box_text import format_box
from vidllm_ros.model.reasoning.boxes import box_from_vector
from vidllm_ros.model.reasoning.language_types import ScenePrefix
from vidllm_ros.perception.geometry.images import to_tensor

Evaluate = Callable[[ReferredScene], dict[str, Any]]
# Vid-LLM's rows in Tables 2 to 4 of the paper.
PAPER_SCAN2CAP = {"CIDEr": 81.5, "BLEU-4": 40.9, "METEOR": 28.7, "ROUGE-L": 61.8}
PAPER_SCANREFER = {"Acc@0.25": 63.2, "Acc@0.5": 56.4}
PAPER_MULTI3DREFER = {0.25: 61.6, 0.5: 56.1}
PAPER_REFERIT3D = {
    "nr3d": {"overall": 65.4, "hard": 57.9, "view-dependent": 61.9},
    "sr3d": {"overall": 77.8, "hard": 72.2, "view-dependent": 63.1},
}
PAPER_MEANS = {"scan2cap": 53.2, "scanrefer": 59.8}  # Table 5
THRESHOLDS = (0.25, 0.5)
TYPES = {
    "zt_wo_d": "zero targets, no distractors",
    "zt_w_d": "zero targets, distractors",
    "st_wo_d": "single target, no distractors",
    "st_w_d": "single target, distractors",
    "mt": "multiple targets",
}
_UNTRAINED = "The proposal head is not trained by this package's recipes: scores mean something only where it was."


def references(
    model: VidLLM, way: str = "own", several: bool = False, among_objects: bool = False, min_score: float = MIN_SCORE
) -> Evaluate:
    """What looks for every description of a scene and keeps what it was taken to mean.

    Args:
        model: the network.
        way: see ``referring.WAYS``.
        several: whether a description may mean none or several objects.
        among_objects: the candidates are the scene's annotated objects; else its proposals.
        min_score: see ``candidates.find``.
    """

    def evaluate(scene: ReferredScene) -> dict[str, Any]:
        numbers = sorted(scene.objects)
        annotated = np.array([scene.objects[k] for k in numbers]).reshape(-1, 6)
        candidates = annotated if among_objects else scene.proposals
        phrases = [reference.phrase for reference in scene.references]
        prefix = read(model, scene.window)
        found = find(model, prefix, phrases, scene.T_world_scene, candidates, way, several, min_score)
        rows = []
        for reference, means in zip(scene.references, found, strict=True):
            row = {"key": reference.key, "phrase": reference.phrase, "objects": list(reference.objects)}
            row |= {**reference.details, "boxes": means.boxes.tolist()}
            row["truth"] = [scene.objects[k].tolist() for k in reference.objects]
            if among_objects:
                row["chosen"] = [numbers[k] for k in means.chosen]
            rows.append(row)
        return {"items": rows, "left_out": scene.left_out}

    return evaluate


def object_captions(model: VidLLM, question: str, max_new_tokens: int = 64) -> Evaluate:
    """What asks for a caption of every described object and keeps it beside its descriptions.

    Args:
        model: the network.
        question: with one ``{box}`` where the box of the object stands, six numbers in the scene frame.
        max_new_tokens: the longest caption.

    The box is that of the proposal with the largest IoU, where there are proposals, else the annotated one.
    """

    def evaluate(scene: ReferredScene) -> dict[str, Any]:
        prefix = read(model, scene.window)
        T_scene_world = np.linalg.inv(scene.T_world_scene)
        rows = []
        for reference in scene.references:
            (number,) = reference.objects
            truth, box, iou = scene.objects[number], scene.objects[number], 1.0
            if scene.proposals is not None:
                overlap = box_iou(truth[None], scene.proposals)[0] if len(scene.proposals) else np.zeros(1)
                iou = float(overlap.max())
                box = scene.proposals[overlap.argmax()] if iou > 0 else truth
            asked = moved(np.append(box, 0.0)[None], T_scene_world)[0]
            said = ""
            if iou > 0:
                text = question.replace("{box}", format_box(box_from_vector(asked)))
                said = say(model, prefix, text, max_new_tokens)
            row = {"key": reference.key, "object": number, "box": box.tolist(), "iou": iou, "answer": said}
            rows.append({**row, **reference.details})
        return {"items": rows, "left_out": scene.left_out}

    return evaluate


def read(model: VidLLM, window: EvaluatedWindow) -> ScenePrefix:
    """A window as the language model reads it; the pose of its first camera in the scene frame is the true one."""
    output = model.reconstruct(to_tensor(list(window.rgb), model.device)[None])
    return model.read_scene(model.build_scene(output, window.T_scene_window))


def scanrefer_report(
    rows: Sequence[dict[str, Any]], settings: dict[str, Any], classes: Mapping[str, int] | None = None
) -> Report:
    """Acc@0.25 and Acc@0.5 beside the paper's row.

    Args:
        rows: results of ``references``.
        settings: for the report.
        classes: NYU40 ids (``scannet.read_class_table``), to tell unique from multiple objects.
    """
    items, notes = _items(rows), _protocol(rows, settings)
    predicted = np.array([first_box(item) for item in items])
    truth = np.array([item["truth"][0] for item in items])
    unique = None
    if classes is not None:
        named = [(row["scene"], item["objects"][0], item["object_name"]) for row in rows for item in row["items"]]
        unique = scannet.unique_objects(named, classes)
    else:
        notes.append("Unique and multiple objects are told apart with --labels scannetv2-labels.combined.tsv.")
    result = grounding.scanrefer_accuracy(predicted, truth, THRESHOLDS, unique)
    table = [Row(f"{name}, %", 100 * value, PAPER_SCANREFER.get(name)) for name, value in result.items()]
    mean = 50 * (result["Acc@0.25"] + result["Acc@0.5"])
    table.append(Row("mean of Acc@0.25 and Acc@0.5, %", mean, PAPER_MEANS["scanrefer"]))
    notes.append("The paper's Table 6 prints 48.4 as this mean of the same model; 59.8 is what its rows give.")
    if settings.get("boxes") == "own":
        oriented = np.array([_oriented_iou(item) for item in items])
        table += [Row(f"Acc@{k:g}, %", 100 * float(np.mean(oriented >= k)), note="oriented boxes") for k in THRESHOLDS]
    return Report("scanrefer", tuple(table), settings, tuple(notes))


def multi3drefer_report(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """F1@0.25 and F1@0.5, overall beside the paper's row and by type of description."""
    items, table = _items(rows), []
    types = [str(item.get("eval_type", "")) for item in items]
    for threshold in THRESHOLDS:
        scores = f1_scores(items, threshold)
        table.append(Row(f"F1@{threshold:g}, %", 100 * float(scores.mean()), PAPER_MULTI3DREFER[threshold]))
        by_type = grounding.shares(scores, {name: [kind == name for kind in types] for name in TYPES})
        table += [Row(f"F1@{threshold:g}, %", 100 * by_type[name], note=words) for name, words in TYPES.items()]
    notes = ["The paper's table says Acc; the rows that it copies from others are F1.", *_protocol(rows, settings)]
    return Report("multi3drefer", tuple(table), settings, tuple(notes))


def referit3d_report(benchmark: str, rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """Accuracy of the choice among annotated objects, overall, hard and view-dependent beside the paper's row."""
    items, paper = _items(rows), PAPER_REFERIT3D[benchmark]
    chosen = [item["chosen"][0] if item["chosen"] else -1 for item in items]
    result = grounding.referit3d_accuracy(
        chosen,
        [item["objects"][0] for item in items],
        [item["stimulus_id"] for item in items],
        [item["tokens"] for item in items],
    )
    table = tuple(Row(f"{name}, %", 100 * value, paper.get(name)) for name, value in result.items())
    notes = (
        "The choice is among all annotated objects of the scan, walls and floors included.",
        *_protocol(rows, settings),
    )
    return Report(benchmark, table, settings, notes)


def scan2cap_report(rows: Sequence[dict[str, Any]], settings: dict[str, Any], dialects: Sequence[str]) -> Report:
    """C@0.5, B-4@0.5, M@0.5 and R@0.5 in each dialect, beside the paper's row."""
    items, table, notes = _items(rows), [], []
    for dialect in dialects:
        result = captions.scan2cap_score(*spoken(items, dialect), iou_threshold=0.5, dialect=dialect)
        for name in captions.METRICS:
            if np.isfinite(result[name]) or name in PAPER_SCAN2CAP:
                table.append(Row(f"{name}@0.5", 100 * result[name], PAPER_SCAN2CAP.get(name), dialect))
        mean = 100 * float(np.mean([result[name] for name in PAPER_SCAN2CAP]))
        table.append(Row("mean of C, B-4, M and R@0.5", mean, PAPER_MEANS["scan2cap"], dialect))
        notes += result["notes"]
    found = float(np.mean([item["iou"] >= 0.5 for item in items]))
    kind = "annotated ones, which no detector can miss" if settings.get("proposals") is None else "given proposals"
    notes = [
        f"{len(items)} objects in {len(rows)} scenes; all values times 100.",
        f"Boxes: {kind}; {found:.0%} of the objects have one with an IoU of 0.5.",
        "The paper takes Mask3D's proposals (--proposals); which dialect it used is not said.",
        *_left_out(rows),
        *dict.fromkeys(notes),
    ]
    return Report("scan2cap", tuple(table), {**settings, "dialects": list(dialects)}, tuple(notes))


def spoken(
    items: Sequence[dict[str, Any]], dialect: str
) -> tuple[dict[str, list[tuple[str, float]]], dict[str, list[Any]]]:
    """Captions and references by object as ``captions.scan2cap_score`` takes them.

    The original script and LEO score the tokens of the file, the others its sentences.
    """
    by_tokens = dialect in ("scan2cap", "scanqa", "leo")
    said = {item["key"]: [(item["answer"], min(item["iou"], 1.0))] for item in items}
    return said, {item["key"]: item["tokens" if by_tokens else "descriptions"] for item in items}


def first_box(item: Mapping[str, Any]) -> np.ndarray:
    """The best box [6] along the world's axes; NaN where nothing was found."""
    return enclosing(np.array(item["boxes"][:1]))[0] if item["boxes"] else np.full(6, np.nan)


def f1_scores(items: Sequence[Mapping[str, Any]], threshold: float) -> np.ndarray:
    """Multi3DRefer's F1 of each description, [Q]."""
    predicted = [enclosing(np.array(item["boxes"])) for item in items]
    truth = [np.array(item["truth"]).reshape(-1, 6) for item in items]
    return grounding.multi3drefer_scores(predicted, truth, threshold)


def _oriented_iou(item: Mapping[str, Any]) -> float:
    if not item["boxes"]:
        return 0.0
    return float(oriented_box_iou(np.array(item["boxes"][:1]), np.array([[*item["truth"][0], 0.0]]))[0, 0])


def _items(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    items = [item for row in rows for item in row["items"]]
    if not items:
        raise EvaluationError("the scenes have no annotated objects: is this the right file of annotations?")
    return items


def _protocol(rows: Sequence[dict[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    way = settings.get("boxes", "own")
    notes = [f"{sum(len(row['items']) for row in rows)} descriptions in {len(rows)} scenes. Boxes: {WAYS[way]}."]
    if way == "own":
        notes.append("The paper chooses among instances of Mask3D (--proposals): a different protocol.")
    if way == "nearest":
        notes.append("The paper does not say how it chooses among the given instances.")
    if way == "scored":
        notes.append(_UNTRAINED)
    return [*notes, *_left_out(rows)]


def _left_out(rows: Sequence[dict[str, Any]]) -> list[str]:
    count = sum(row["left_out"] for row in rows)
    return [f"{count} annotations name objects that their scans do not have; they are left out."] if count else []
