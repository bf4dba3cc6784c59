"""The figures of a benchmark item by item, as two runs are compared on them.

Corpus figures that are no mean over items (BLEU, METEOR) are not among them. Means here are over all items; a report
may average over groups instead (Co3D's categories).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidllm_ros.evaluation import bag_runs
from vidllm_ros.evaluation.benchmarks import referring
from vidllm_ros.evaluation.metrics import captions, ngrams
from vidllm_ros.evaluation.metrics.dialects import caption_dialect, dialect
from vidllm_ros.evaluation.metrics.grounding import SCANREFER_EPSILON
from vidllm_ros.evaluation.metrics.overlap import box_iou

Rows = Sequence[Mapping[str, Any]]
Values = dict[str, list[float]]
_AUC_BINS = 30  # of a degree each


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        name: with its unit.
        higher: whether more is better.
        values: by scene, one for each item; NaN where an item has none.
    """

    name: str
    higher: bool
    values: Values


@dataclass(frozen=True)
class Items:
    """How the runs of a benchmark are compared.

    Attributes:
        identity: of a scene's row, what must be equal in both for the items to be the same.
        measures: of all rows.
        agree: settings that must be equal, because they decide what the items are.
        group: of a row; the groups are what the bootstrap draws.
        noun: what the groups are called.
    """

    identity: Callable[[Mapping[str, Any]], Any]
    measures: Callable[[Rows], list[Measure]]
    agree: tuple[str, ...] = ()
    group: Callable[[Mapping[str, Any]], str] = lambda row: row["scene"]
    noun: str = "scenes"


def pair_auc(errors: np.ndarray) -> np.ndarray:
    """What each pair adds to AUC@30, 0 to 1, from the larger of its two errors in degrees: the mean is the figure."""
    bins = np.minimum(np.floor(errors), _AUC_BINS - 1)
    return np.where(errors <= _AUC_BINS, (_AUC_BINS - bins) / _AUC_BINS, 0.0)


def _pairs(rows: Rows) -> list[Measure]:
    def each(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Values:
        errors = {row["scene"]: (np.array(row["rotation"]), np.array(row["translation"])) for row in rows}
        return {scene: (100.0 * score(*both)).tolist() for scene, both in errors.items()}

    return [
        Measure("RRA@15, %", True, each(lambda r, t: r < 15)),
        Measure("RTA@15, %", True, each(lambda r, t: t < 15)),
        Measure("AUC@30, %", True, each(lambda r, t: pair_auc(np.maximum(r, t)))),
    ]


def _geometry(rows: Rows) -> list[Measure]:
    def of(*path: str, factor: float = 1.0) -> Values:
        return {row["scene"]: [factor * _at(row, path)] for row in rows}

    return [
        Measure("depth AbsRel, metric", False, of("depth_none", "abs_rel")),
        Measure("depth delta1, metric, %", True, of("depth_none", "delta1", factor=100.0)),
        Measure("depth AbsRel, medians fitted", False, of("depth_median", "abs_rel")),
        *_pairs(rows),
        Measure("ATE, m, SE(3)", False, of("ate_se3")),
        Measure("ATE, m, Sim(3)", False, of("ate_sim3")),
        Measure("RPE, m", False, of("rpe_translation")),
        Measure("RPE, degrees", False, of("rpe_rotation")),
    ]


def _nyu(rows: Rows) -> list[Measure]:
    return [
        Measure(f"{name}, {words}", name == "delta1", {row["scene"]: [_at(row, (align, name))] for row in rows})
        for align, words in (("none", "metric"), ("median", "medians fitted"))
        for name in ("delta1", "abs_rel", "rmse", "log10")
    ]


def _surfaces(rows: Rows) -> list[Measure]:
    from vidllm_ros.evaluation.benchmarks.surface import ALIGNMENTS, NAMES

    made = []
    for align, words in ALIGNMENTS.items():
        for part, name in NAMES.items():
            values = {row["scene"]: [_at(row, (align, part))] for row in rows}
            made.append(Measure(f"{name}, {words}", part in ("recall", "precision", "f_score"), values))
    return made


def _scanqa(rows: Rows) -> list[Measure]:
    made = []
    for name in ("video3dllm", "leo"):
        chosen = dialect(name)
        matched = _each(rows, "answers", lambda item, c=chosen: c.match(item["answer"], item["accepted"]))
        made.append(Measure(f"EM@1, % ({name})", True, _part(matched, 0)))
        if chosen.refined:
            made.append(Measure(f"refined EM, % ({name})", True, _part(matched, 1)))
        answers = [item for row in rows for item in row["answers"]]
        said = [chosen.prediction(item["answer"]) for item in answers]
        wanted = [[chosen.reference(text) for text in item["accepted"]] for item in answers]
        made += _captions(rows, "answers", said, wanted, name)
    return made


def _sqa3d(rows: Rows) -> list[Measure]:
    match = dialect("leo").match
    matched = _each(rows, "answers", lambda item: match(item["answer"], item["accepted"]))
    made = [Measure("EM@1, %", True, _part(matched, 0)), Measure("refined EM, %", True, _part(matched, 1))]
    kinds = _each(rows, "answers", lambda item: captions.question_type(item["bare"]))
    for kind in captions.QUESTION_TYPES:
        chosen = {
            scene: [
                100.0 * hit[0] if its == kind else np.nan for hit, its in zip(matched[scene], kinds[scene], strict=True)
            ]
            for scene in matched
        }
        made.append(Measure(f"EM@1 ({kind}), %", True, chosen))
    return made


def _scan2cap(rows: Rows) -> list[Measure]:
    chosen = caption_dialect("video3dllm")
    items = [item for row in rows for item in row["items"]]
    said = [chosen.prediction(item["answer"]) if item["iou"] >= 0.5 else chosen.silent for item in items]
    wanted = [[chosen.reference(text) for text in item["descriptions"]] for item in items]
    found = _each(rows, "items", lambda item: 100.0 * (item["iou"] >= 0.5))
    return [*_captions(rows, "items", said, wanted, "video3dllm"), Measure("objects with a box, %", True, found)]


def _scanrefer(rows: Rows) -> list[Measure]:
    def overlap(item: Mapping[str, Any]) -> float:
        box = referring.first_box(item)
        truth = np.array(item["truth"][:1])
        return 0.0 if np.isnan(box).any() else float(box_iou(box[None], truth, SCANREFER_EPSILON)[0, 0])

    iou = _each(rows, "items", overlap)
    hits = {k: {scene: [100.0 * (v >= k) for v in values] for scene, values in iou.items()} for k in (0.25, 0.5)}
    return [*(Measure(f"Acc@{k:g}, %", True, hit) for k, hit in hits.items()), Measure("mean IoU", True, iou)]


def _multi3drefer(rows: Rows) -> list[Measure]:
    return [
        Measure(
            f"F1@{threshold:g}, %",
            True,
            {
                row["scene"]: (100.0 * referring.f1_scores(row["items"], threshold)).tolist() if row["items"] else []
                for row in rows
            },
        )
        for threshold in referring.THRESHOLDS
    ]


def _referit3d(rows: Rows) -> list[Measure]:
    return [
        Measure("accuracy, %", True, _each(rows, "items", lambda item: 100.0 * (item["chosen"][:1] == item["objects"])))
    ]


def _captions(rows: Rows, part: str, said: Sequence[str], wanted: Sequence[Sequence[str]], name: str) -> list[Measure]:
    """CIDEr and ROUGE-L of all items, handed back to their scenes."""
    made = []
    for metric, score in (("CIDEr", ngrams.cider), ("ROUGE-L", ngrams.rouge_l)):
        values = iter((100.0 * score(said, wanted)).tolist())
        made.append(Measure(f"{metric} x 100 ({name})", True, _each(rows, part, lambda item, v=values: next(v))))
    return made


def _each(rows: Rows, part: str, value: Callable[[Mapping[str, Any]], Any]) -> dict[str, list[Any]]:
    return {row["scene"]: [value(item) for item in row[part]] for row in rows}


def _part(matched: Mapping[str, Sequence[tuple[bool, bool]]], k: int) -> Values:
    return {scene: [100.0 * pair[k] for pair in pairs] for scene, pairs in matched.items()}


def _rooms(rows: Rows) -> list[Measure]:
    def of(name: str, factor: float = 1.0) -> Values:
        return {row["scene"]: [factor * value for value in row[name]] for row in rows}

    def found(threshold: float) -> Values:
        return {row["scene"]: [100.0 * (iou >= threshold) for iou in row["iou"]] for row in rows}

    return [
        Measure("depth AbsRel", False, of("abs_rel")),
        Measure("depth delta1, %", True, of("delta1", 100.0)),
        Measure("rotation error of a pair, degrees", False, of("pair_rotation")),
        Measure("translation error, m", False, of("translation")),
        Measure("scale error of a window", False, of("scale_error")),
        Measure("F-score at 5 cm", True, of("f_score")),
        Measure("all answers, exact match, %", True, of("correct", 100.0)),
        Measure("box Acc@0.25, %", True, found(0.25)),
        Measure("box mean IoU", True, of("iou")),
    ]


def _at(row: Mapping[str, Any], path: Sequence[str]) -> float:
    value: Any = row
    for key in path:
        value = value[key]
    return float(value)


def _asked(row: Mapping[str, Any]) -> Any:
    return [(item["question"], item["accepted"]) for item in row["answers"]]


def _meant(row: Mapping[str, Any]) -> Any:
    return [(item["phrase"], item["objects"]) for item in row["items"]]


def _described(row: Mapping[str, Any]) -> Any:
    return [(item["key"], item["descriptions"]) for item in row["items"]]


def _count(row: Mapping[str, Any]) -> Any:
    return len(row["rotation"])


def _whole(row: Mapping[str, Any]) -> Any:
    return row["scene"]


def _bag(rows: Rows) -> list[Measure]:
    return [Measure(name, higher, bag_runs.values(rows, key)) for name, higher, key in bag_runs.FIGURES]


def _room(row: Mapping[str, Any]) -> Any:
    return [row["kinds"], len(row["iou"])]


BENCHMARKS = {
    "rooms": Items(_room, _rooms, ("frames",)),
    "bag": Items(_whole, _bag, ("recording", "true boxes"), lambda row: row["group"], bag_runs.NOUN),
    **dict.fromkeys(("tum", "clips", "scannet"), Items(_count, _geometry, ("frames",))),
    **dict.fromkeys(("co3d", "re10k"), Items(_count, _pairs, ("seed", "order"))),
    "nyu": Items(_whole, _nyu),
    "scannet-recon": Items(_whole, _surfaces),
    "scanqa": Items(_asked, _scanqa),
    "sqa3d": Items(_asked, _sqa3d),
    "scan2cap": Items(_described, _scan2cap),
    "scanrefer": Items(_meant, _scanrefer),
    "multi3drefer": Items(_meant, _multi3drefer),
    **dict.fromkeys(("nr3d", "sr3d"), Items(_meant, _referit3d)),
}
