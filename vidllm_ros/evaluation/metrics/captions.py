"""Scores of free text: answers of ScanQA and SQA3D, captions of objects of Scan2Cap.

All values are shares from 0 to 1 (CIDEr 0 to 10), as the reference code returns them; papers print them times 100. The
``dialect`` decides what the strings look like that are scored, see ``dialects``; every result names the one it used.
BLEU, ROUGE-L and CIDEr need nothing. METEOR, and every dialect with the PTB tokenizer, need Java and the extra
``captions``; without them what cannot be computed is NaN and ``notes`` says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import java_metrics, ngrams
from vidllm_ros.evaluation.metrics.dialects import any_reference, caption_dialect, polished
from vidllm_ros.evaluation.metrics.dialects import dialect as named_dialect
from vidllm_ros.evaluation.metrics.qa import clean_answer

__all__ = ["clean_answer", "ngram_scores", "question_type", "scan2cap_score", "score", "sqa3d_score"]

METRICS = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L")
QUESTION_TYPES = ("what", "is", "how", "can", "which", "others")


def score(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], dialect: str = "scanqa"
) -> dict[str, Any]:
    """Score answers as ScanQA does.

    Args:
        predictions: answer by question id.
        references: accepted answers by question id, at least one each; the same ids.
        dialect: "scanqa" (the official script), "leo", "llava3d", "video3dllm" (also 3DRS) or "chatscene".

    Returns:
        ``CIDEr``, ``BLEU-1`` to ``BLEU-4``, ``METEOR``, ``ROUGE-L``, ``EM@1`` and ``refined EM`` (one contains the
        other once blanks are removed; NaN in dialects that define none), ``items``, ``dialect`` and ``notes``.

    Raises:
        EvaluationError: no item, ids that differ, an item without a reference, text that is no text, or an unknown
            dialect.
    """
    chosen = named_dialect(dialect)
    keys = _checked(predictions, references)
    matches = [chosen.match(predictions[key], list(references[key])) for key in keys]
    result = ngram_scores(
        [chosen.prediction(predictions[key]) for key in keys],
        [[chosen.reference(text) for text in references[key]] for key in keys],
        chosen.tokenize,
    )
    notes = result.pop("notes")
    return {
        **result,
        "EM@1": float(np.mean([exact for exact, _ in matches])),
        "refined EM": float(np.mean([loose for _, loose in matches])) if chosen.refined else float("nan"),
        "items": len(keys),
        "dialect": chosen.name,
        "notes": notes,
    }


def sqa3d_score(
    predictions: Mapping[str, str],
    references: Mapping[str, str | Sequence[str]],
    questions: Mapping[str, str],
    dialect: str = "leo",
) -> dict[str, Any]:
    """Exact match of cleaned answers as SQA3D defines it, overall and by the kind of question.

    Args:
        predictions: answer by question id.
        references: the accepted answer (or several) by question id.
        questions: the question by its id.
        dialect: as ``score``. All agree on EM@1 of a single reference but for what Chat-Scene does to an empty answer;
            "scanqa" and "video3dllm" define no refined match.

    Returns:
        ``EM@1``, ``refined EM``, and for each of "what", "is", "how", "can", "which", "others" ``EM@1 (what)``,
        ``refined EM (what)`` and ``items (what)``; NaN for a kind without questions.

    Raises:
        EvaluationError: as ``score``, or ids of questions that differ.
    """
    chosen = named_dialect(dialect)
    wanted = {key: [value] if isinstance(value, str) else list(value) for key, value in references.items()}
    keys = _checked(predictions, wanted)
    if lacking := [key for key in keys if key not in questions]:
        raise EvaluationError(f"{len(lacking)} answers have no question, for example {lacking[0]!r}.")
    rows = {kind: [] for kind in QUESTION_TYPES}  # type: dict[str, list[tuple[bool, bool]]]
    for key in keys:
        rows[question_type(questions[key])].append(_sqa3d_match(chosen.name, predictions[key], wanted[key]))
    result: dict[str, Any] = {}
    everything = [row for kind in QUESTION_TYPES for row in rows[kind]]
    for name, some in (("", everything), *((f" ({kind})", rows[kind]) for kind in QUESTION_TYPES)):
        exact, refined = np.mean(some, axis=0) if some else (np.nan, np.nan)
        result[f"EM@1{name}"] = float(exact)
        result[f"refined EM{name}"] = float(refined) if chosen.refined else float("nan")
        result[f"items{name}"] = len(some)
    return {**result, "dialect": chosen.name}


def question_type(question: str) -> str:
    """Kind of an SQA3D question by how it begins: "Island ..." counts as "is", since no word has to end there."""
    begin = question.lstrip().lower()
    return next((kind for kind in QUESTION_TYPES[:-1] if begin.startswith(kind)), "others")


def scan2cap_score(
    proposals: Mapping[str, Sequence[tuple[str, float]]],
    references: Mapping[str, Sequence[str | Sequence[str]]],
    iou_threshold: float = 0.5,
    dialect: str = "video3dllm",
) -> dict[str, Any]:
    """Score captions of objects as Scan2Cap does: C@k, B-4@k, M@k and R@k, where what was not found says nothing.

    Args:
        proposals: by object (such as "scene0000_00|34|table"), the boxes tied to it as (caption, IoU with the object)
            in the order they were predicted; none or no entry where nothing was found.
        references: by object, its descriptions, each as text or as its list of tokens. The original script and LEO
            score the first 30 tokens of each.
        iou_threshold: below it (in the original script: not above it) a box counts as not found.
        dialect: "scan2cap" (the original script), "leo", "video3dllm" (also 3DRS and VG-LLM) or "chatscene".

    Returns:
        The n-gram metrics of ``score`` over all objects, ``found`` (the share of objects with a box that counts),
        ``items``, ``dialect`` and ``notes``.

    Raises:
        EvaluationError: no object, an object without a description, captions of an object without an entry in
            ``references``, an IoU outside 0 to 1, or an unknown dialect.
    """
    chosen = caption_dialect(dialect)
    if unknown := sorted(set(proposals) - set(references)):
        raise EvaluationError(f"captions of {len(unknown)} objects without a description, for example {unknown[0]!r}.")
    spoken: dict[str, str] = {}
    for key in references:
        boxes = [(_text(text, key), _share(iou, key)) for text, iou in proposals.get(key, ())]
        kept = [box for box in boxes if box[1] > iou_threshold or (chosen.inclusive and box[1] == iou_threshold)]
        if kept:
            spoken[key] = chosen.prediction(kept[chosen.choose(kept)][0])
    predictions = {key: spoken.get(key, chosen.silent) for key in references}
    descriptions = {key: [chosen.reference(text) for text in texts] for key, texts in references.items()}
    keys = _checked(predictions, descriptions)
    result = ngram_scores([predictions[key] for key in keys], [descriptions[key] for key in keys], chosen.tokenize)
    notes = result.pop("notes")
    return {**result, "found": len(spoken) / len(keys), "items": len(keys), "dialect": chosen.name, "notes": notes}


def ngram_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenize: bool = False
) -> dict[str, Any]:
    """CIDEr, BLEU-1 to 4, METEOR and ROUGE-L of a corpus, and ``notes`` on what could not be computed (NaN then).

    Args:
        predictions: one caption for each of N items.
        references: at least one caption for each of N items.
        tokenize: send both through the PTB tokenizer first.
    """
    result: dict[str, Any] = {name: float("nan") for name in METRICS}
    if absent := java_metrics.missing():
        result["notes"] = [f"Not computed: {'all but exact match' if tokenize else 'METEOR'}. {absent}"]
        warnings.warn(result["notes"][0], stacklevel=3)
    else:
        result["notes"] = []
    if tokenize and absent:
        return result
    if tokenize:
        tokens = iter(java_metrics.ptb_tokens([*predictions, *(text for texts in references for text in texts)]))
        predictions = [next(tokens) for _ in predictions]
        references = [[next(tokens) for _ in texts] for texts in references]
    result["CIDEr"] = float(ngrams.cider(predictions, references).mean())
    result.update({f"BLEU-{n}": value for n, value in enumerate(ngrams.bleu(predictions, references), 1)})
    result["ROUGE-L"] = float(ngrams.rouge_l(predictions, references).mean())
    if not absent:
        result["METEOR"] = java_metrics.meteor(predictions, references)[0]
    return result


def _sqa3d_match(dialect: str, answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    """The match on cleaned strings, which SQA3D asks for whatever a dialect does elsewhere."""
    wanted = [clean_answer(reference) for reference in references]
    if dialect == "chatscene":
        answer = polished(answer)
        return any_reference(answer, wanted) if answer else (False, False)
    if dialect == "leo":
        return named_dialect("leo").match(answer, references)
    return any_reference(clean_answer(answer), wanted)


def _checked(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> list[str]:
    """The ids of the items, in the order of the references."""
    if not references:
        raise EvaluationError("there is nothing to score: no item has a reference.")
    if lacking := [key for key in references if key not in predictions]:
        raise EvaluationError(
            f"{len(lacking)} of {len(references)} items have no prediction, for example {lacking[0]!r}: an item "
            "without an answer needs an empty one."
        )
    if unknown := [key for key in predictions if key not in references]:
        raise EvaluationError(f"{len(unknown)} predictions have no reference, for example {unknown[0]!r}.")
    for key, texts in references.items():
        if isinstance(texts, str) or not len(texts):
            raise EvaluationError(f"item {key!r} needs a list of at least one reference, got {texts!r}.")
        for text in (predictions[key], *texts):
            _text(text, key)
    return list(references)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise EvaluationError(f"item {key!r} needs text, got {type(value).__name__} {value!r}.")
    return value


def _share(iou: float, key: str) -> float:
    if not 0.0 <= iou <= 1.0:
        raise EvaluationError(f"the IoU of a box of {key!r} is {iou}: it must lie between 0 and 1.")
    return float(iou)
