"""Words around boxes: the object that a question names, and a sentence about what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vidllm_ros.perception.types import Box3D

_ASKING = re.compile(
    r"^(please\s+)?"
    r"((where|what)\s+(is|are)|where's|can\s+you\s+(find|locate|see)|locate|find|show(\s+me)?|mark|point(\s+(to|at))?)"
    r"\s*:?\s+",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(the|a|an|all|any|every|some|my|your)\s+", re.IGNORECASE)


def object_phrase(question: str) -> str:
    """What a request for boxes asks for: ``the red chair`` of "Where is the red chair?", without article and marks."""
    phrase = _ASKING.sub("", question.strip()).strip(" \t?.!")
    return _ARTICLE.sub("", phrase) or question.strip()


def describe_boxes(phrase: str, boxes: Sequence[Box3D], frame_id: str) -> str:
    """A reply for boxes to which the model added no words."""
    if not boxes:
        return f"nothing found for '{phrase}'"
    places = [
        f"{box.label} at ({', '.join(f'{v:.2f}' for v in box.center)}) m in {frame_id}, score {box.score:.2f}"
        for box in boxes
    ]
    return "; ".join(places)
