"""SQA3D (Ma et al., ICLR 2023): questions from the view of somebody whose situation is described.

``v1_balanced_questions_{split}_scannetv2.json`` holds situations and questions, and
``v1_balanced_sqa_annotations_{split}_scannetv2.json`` the answers; ``question_id`` joins them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidllm_ros.training.data.errors import DataError
from vidllm_ros.training.data.scannet.annotations import Annotation, convert_rows, read_json, rows_of, scene_name, text

_QUESTIONS, _ANSWERS = "_questions_", "_sqa_annotations_"


def read_sqa3d(path: Path, annotations: Path | None = None) -> list[Annotation]:
    """Questions of SQA3D; the situation's words stand before each question.

    The annotated position and heading, which are not aligned with the axes, are not used: a person tells a robot the
    situation in words. Questions without an answer and other broken entries are left out with a warning.

    Args:
        path: the file of questions.
        annotations: the file of answers; by its published name beside ``path`` when not given.

    Raises:
        DataError: a file is missing or broken.
    """
    if annotations is None:
        if _QUESTIONS not in path.name:
            raise DataError(
                f"{path} is not named v1_balanced_questions_..._scannetv2.json, so the file of its answers cannot be "
                "found; name it with annotations=FILE."
            )
        annotations = path.with_name(path.name.replace(_QUESTIONS, _ANSWERS))
    answers: dict[Any, str] = {}
    for _, row in _rows(annotations, "annotations"):
        if isinstance(row, dict) and row.get("answers") and isinstance(row["answers"][0], dict):
            answers[row.get("question_id")] = str(row["answers"][0].get("answer", "")).strip()

    def annotation(row: Any) -> Annotation:
        answer = answers.get(row["question_id"])
        if not answer:
            raise ValueError(f"question {row['question_id']} has no answer in {annotations}")
        question = f"{_sentence(text(row, 'situation'))} {text(row, 'question')}"
        bare = {"question": text(row, "question")}  # its beginning decides its kind
        return Annotation(scene_name(row), "situated_question", question, answer, details=bare)

    return convert_rows(path, _rows(path, "questions"), annotation)


def _rows(path: Path, key: str) -> list[tuple[str, Any]]:
    content = read_json(path)
    if not isinstance(content, dict) or key not in content:
        raise DataError(f"{path} has no '{key}'; is it SQA3D's file of {key}?")
    return rows_of(path, content[key])


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
