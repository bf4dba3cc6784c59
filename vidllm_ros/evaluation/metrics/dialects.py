"""The ways published evaluations treat a text before they score it. Their figures differ on the very same answers.

===========  ===================================  ==============  =====================================================
dialect      answers cleaned                      PTB tokens      exact match (EM@1)
===========  ===================================  ==============  =====================================================
scanqa       no                                   yes             the answer is one of the references, letter by letter
leo          both sides                           no              at the first reference that matches in either sense
llava3d      both sides                           yes             any reference
video3dllm   full stops at its end are removed    no              the answer as given is one of the references
chatscene    the answer only                      yes             the cleaned answer is one of the raw references
===========  ===================================  ==============  =====================================================

Rows of a table compare only within a dialect: "scanqa" is the data set's own script, "video3dllm" also that of 3DRS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.qa import clean_answer

Match = Callable[[str, Sequence[str]], tuple[bool, bool]]


@dataclass(frozen=True)
class Dialect:
    """How question answers are prepared and matched.

    Attributes:
        name: see the module.
        prediction: the answer as the n-gram metrics see it.
        reference: the same for a reference.
        tokenize: whether both then go through the PTB tokenizer.
        match: exact and refined match of a raw answer with its raw references.
        refined: whether a refined match is defined.
    """

    name: str
    prediction: Callable[[str], str]
    reference: Callable[[str], str]
    tokenize: bool
    match: Match
    refined: bool


def dialect(name: str) -> Dialect:
    """A dialect by name.

    Raises:
        EvaluationError: an unknown name.
    """
    if name not in DIALECTS:
        raise EvaluationError(f"dialect {name!r} is unknown: use one of {', '.join(DIALECTS)}.")
    return DIALECTS[name]


def loosely(answer: str, reference: str) -> bool:
    """Whether one contains the other once white space is removed. Nothing at all is contained in everything."""
    a, b = "".join(answer.split()), "".join(reference.split())
    return a in b or b in a


def polished(answer: str) -> str:
    """Chat-Scene's first step: without a full stop at the end and with a small first letter."""
    if len(answer) > 1:
        answer = answer.removesuffix(".")
        answer = answer[:1].lower() + answer[1:]
    return clean_answer(answer)


def any_reference(answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    """Exact match with any of the references, else refined match with any."""
    exact = answer in references
    return exact, exact or any(loosely(answer, reference) for reference in references)


def _official(answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    return answer in references, False


def _leo(answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    answer = clean_answer(answer)
    for reference in map(clean_answer, references):
        if answer == reference:
            return True, True
        if loosely(answer, reference):
            return False, True  # hides an exact match with a later reference
    return False, False


def _llava3d(answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    return any_reference(clean_answer(answer), [clean_answer(reference) for reference in references])


def _chatscene(answer: str, references: Sequence[str]) -> tuple[bool, bool]:
    answer = polished(answer)
    return any_reference(answer, references) if answer else (False, False)


def _as_given(text: str) -> str:
    return text


def _trimmed(text: str) -> str:
    return clean_answer(text).replace("\n", " ").strip()


def _one_line(text: str) -> str:
    return text.replace("\n", " ").strip()


DIALECTS = {
    made.name: made
    for made in (
        Dialect("scanqa", _as_given, _as_given, True, _official, False),
        Dialect("leo", clean_answer, clean_answer, False, _leo, True),
        Dialect("llava3d", clean_answer, _trimmed, True, _llava3d, True),
        Dialect("video3dllm", lambda text: text.rstrip("."), _as_given, False, _official, False),
        Dialect("chatscene", polished, _one_line, True, _chatscene, True),
    )
}


@dataclass(frozen=True)
class CaptionDialect:
    """How captions of objects are prepared (Scan2Cap).

    Attributes:
        name: "scan2cap" is the data set's own script; "video3dllm" also that of 3DRS and VG-LLM.
        inclusive: whether a box whose IoU is exactly the threshold counts.
        choose: among the boxes of one object that count, (caption, IoU) in order, the index of the one that speaks.
        prediction: a caption between its marks.
        reference: a description, as text or as its tokens, between its marks.
        silent: what an object without a box says.
        tokenize: whether both then go through the PTB tokenizer.
    """

    name: str
    inclusive: bool
    choose: Callable[[Sequence[tuple[str, float]]], int]
    prediction: Callable[[str], str]
    reference: Callable[[str | Sequence[str]], str]
    silent: str
    tokenize: bool


def caption_dialect(name: str) -> CaptionDialect:
    """A dialect for captions by name; "scanqa" stands for the data set's own script here too.

    Raises:
        EvaluationError: an unknown name, or one whose script was never published.
    """
    if name == "llava3d":
        raise EvaluationError(
            "LLaVA-3D published no script that scores captions: use one of " + ", ".join(CAPTION_DIALECTS) + "."
        )
    name = "scan2cap" if name == "scanqa" else name
    if name not in CAPTION_DIALECTS:
        raise EvaluationError(f"caption dialect {name!r} is unknown: use one of {', '.join(CAPTION_DIALECTS)}.")
    return CAPTION_DIALECTS[name]


_REFERENCE_TOKENS = 30


def _between_marks(text: str) -> str:
    return f"sos {text} eos"


def _cut_reference(description: str | Sequence[str]) -> str:
    tokens = description.split() if isinstance(description, str) else list(description)
    return _between_marks(" ".join(tokens[:_REFERENCE_TOKENS]))


def _text(description: str | Sequence[str]) -> str:
    return description if isinstance(description, str) else " ".join(description)


def _spaced(text: str) -> str:
    return _between_marks(text.replace(".", " . ").replace(",", " , ").lower())


def _capitalized(text: str) -> str:
    return " ".join(sentence.capitalize() for sentence in re.split(r"(?<=[.!?])\s+", text))


def _last(boxes: Sequence[tuple[str, float]]) -> int:
    return len(boxes) - 1


def _surest_first(boxes: Sequence[tuple[str, float]]) -> int:
    return max(range(len(boxes)), key=lambda k: (boxes[k][1], -k))


def _surest_last(boxes: Sequence[tuple[str, float]]) -> int:
    return max(range(len(boxes)), key=lambda k: (boxes[k][1], k))


CAPTION_DIALECTS = {
    made.name: made
    for made in (
        CaptionDialect("scan2cap", False, _last, _between_marks, _cut_reference, "sos eos", False),
        CaptionDialect(
            "leo",
            True,
            _surest_last,
            lambda text: _between_marks(text).replace(". ", " . "),
            _cut_reference,
            "sos eos",
            False,
        ),
        # an object without a box keeps two blanks between its marks, which ROUGE-L takes for an empty token
        CaptionDialect(
            "video3dllm", True, _surest_first, _spaced, lambda text: _spaced(_text(text)), "sos  eos", False
        ),
        CaptionDialect(
            "chatscene",
            True,
            _surest_first,
            lambda text: _between_marks(text).replace("\n", " "),
            lambda text: _between_marks(_capitalized(_text(text))),
            "sos eos",
            True,
        ),
    )
}
