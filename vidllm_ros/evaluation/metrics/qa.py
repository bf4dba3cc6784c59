"""Exact match of short answers, after the clean-up that question answering benchmarks in 3D scenes share.

The clean-up is the one SQA3D (Ma et al., ICLR 2023) defined and later evaluations kept, oddities included: an answer
"none" becomes "zero", accents and full stops are dropped rather than translated, and cleaning twice can change the
text again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidllm_ros.evaluation.errors import EvaluationError

_SPELLING = {
    "letf": "left",
    "let": "left",
    "tehre": "there",
    "rigth": "right",
    "rght": "right",
    "behine": "behind",
    "tv": "TV",
    "chai": "chair",
    "wasing": "washing",
    "waslked": "walked",
    "oclock": "o'clock",
}
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBERS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
_WORDS = {**_SPELLING, **{str(n): word for n, word in enumerate(_NUMBERS)}, "23": "twenty-three", "none": "zero"}
_WORD = re.compile(r"\b(?:" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b")


@dataclass(frozen=True)
class MatchScores:
    """Shares of questions answered right.

    Attributes:
        exact: the cleaned answer equals a cleaned reference (EM@1).
        refined: one contains the other once blanks are removed; an empty answer matches only an empty reference.
        matched: for each question whether it matched exactly.
    """

    exact: float
    refined: float
    matched: dict[str, bool]


def clean_answer(text: str) -> str:
    """Bring an answer into the form that is compared."""
    text = re.sub(r" {2,}", " ", re.sub(r"^ +| +$", "", text.lower()))
    text = re.sub(r"[^a-z0-9,'\s:-]", "", text)
    text = re.sub(r"\bo' +clock\b", "o'clock", text)
    text = _WORD.sub(lambda match: _WORDS[match.group()], text)
    text = re.sub(r"\b([a-zA-Z]+)[0-9]\b", r"\1", text)
    for article in ("a", "an", "the"):  # one after the other: "a the door" loses both, "the the door" only one
        text = re.sub(rf"\b{article} ([a-zA-Z]+)", r"\1", text)
    return re.sub(r"\bbackwards\b", "backward", text)


def matches(prediction: str, references: Sequence[str]) -> tuple[bool, bool]:
    """Whether an answer matches any reference exactly, and whether loosely; see ``MatchScores``."""
    answer, wanted = clean_answer(prediction), [clean_answer(reference) for reference in references]
    exact = answer in wanted
    squeezed = re.sub(r"\s+", "", answer)
    loose = (re.sub(r"\s+", "", reference) for reference in wanted)
    return exact, exact or (squeezed != "" and any(r and (squeezed in r or r in squeezed) for r in loose))


def exact_match(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> MatchScores:
    """Score answers by question id; a question without a prediction counts as wrong.

    Raises:
        EvaluationError: no reference, or a prediction for a question that has none.
    """
    if not references:
        raise EvaluationError("no reference answers to score against.")
    if unknown := sorted(set(predictions) - set(references)):
        raise EvaluationError(f"answers to questions that have no reference, for example {unknown[0]!r}.")
    results = {key: matches(predictions.get(key, ""), answers) for key, answers in references.items()}
    return MatchScores(
        exact=sum(exact for exact, _ in results.values()) / len(results),
        refined=sum(loose for _, loose in results.values()) / len(results),
        matched={key: exact for key, (exact, _) in results.items()},
    )
