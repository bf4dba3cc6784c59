"""The benchmarks that look at one window of a scene: its geometry, and the answers to questions about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow, Report, Row, nanmean
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import (
    captions,
    depth,
    poses,
    trajectory,
)
from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.language_types import QuestionError, ScenePrefix
from vidllm_ros.perception.geometry.images import to_tensor

Evaluate = Callable[[EvaluatedWindow], dict[str, Any]]
# Vid-LLM's row in Table 1 of the paper; validation set of ScanQA.
PAPER_SQA3D = 57.3  # EM@1 of the same row; test set
PAPER_SCANQA = {"CIDEr": 101.9, "BLEU-4": 15.8, "METEOR": 18.3, "ROUGE-L": 49.5, "EM@1": 27.6}
PAPER_SCANQA_MEAN = 45.7  # Tables 5 and 6


def geometry(model: VidLLM) -> Evaluate:
    """What compares depth and poses of a window with the truth, see ``geometry_report``."""

    def evaluate(window: EvaluatedWindow) -> dict[str, Any]:
        started = time.monotonic()
        output = model.reconstruct(_images(model, window))
        seconds = time.monotonic() - started
        predicted = output.depth[0].float().cpu().numpy()
        result: dict[str, Any] = {"seconds": seconds, "frames": len(window.rgb)}
        for align in ("none", "median"):
            pairs = zip(predicted, window.depth, strict=True)
            errors = depth.summary(depth.metrics(ours, true, crop=None, align=align) for ours, true in pairs)
            result[f"depth_{align}"] = {"abs_rel": errors.abs_rel, "rmse": errors.rmse, "delta1": errors.delta1}
        camera_from_world = np.tile(np.eye(4), (len(window.rgb), 1, 1))
        camera_from_world[:, :3] = output.camera_from_world[0].double().cpu().numpy()[:, :3]
        pairs_ = poses.relative_pose_errors(camera_from_world, np.linalg.inv(window.T_world_camera))
        result["rotation"], result["translation"] = pairs_.rotation.tolist(), pairs_.translation.tolist()
        return {**result, **_trajectory(np.linalg.inv(camera_from_world), window.T_world_camera)}

    return evaluate


def geometry_report(benchmark: str, rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """Means over scenes; pose accuracies over all pairs of all scenes."""
    pairs = [poses.PairErrors(np.array(row["rotation"]), np.array(row["translation"])) for row in rows]
    accuracy = poses.summary(pairs)
    table = [
        Row("depth AbsRel", nanmean(row["depth_none"]["abs_rel"] for row in rows), note="metric"),
        Row("depth RMSE, m", nanmean(row["depth_none"]["rmse"] for row in rows), note="metric"),
        Row("depth delta1, %", 100 * nanmean(row["depth_none"]["delta1"] for row in rows), note="metric"),
        Row("depth AbsRel", nanmean(row["depth_median"]["abs_rel"] for row in rows), note="medians fitted"),
        *(Row(name, accuracy[name], note="%") for name in ("RRA@15", "RTA@15", "AUC@30")),
        Row("ATE, m", nanmean(row["ate_se3"] for row in rows), note="SE(3)"),
        Row("ATE, m", nanmean(row["ate_sim3"] for row in rows), note="Sim(3)"),
        Row("scale", nanmean(row["scale"] for row in rows), note="metres of the truth per metre predicted"),
        Row("RPE, m", nanmean(row["rpe_translation"] for row in rows), note="frame to frame"),
        Row("RPE, degrees", nanmean(row["rpe_rotation"] for row in rows), note="frame to frame"),
        Row("seconds per window", float(np.median([row["seconds"] for row in rows])), note="median"),
    ]
    lost = sum(not np.isfinite(row["ate_se3"]) for row in rows)
    notes = [f"{len(rows)} scenes, one window each. The paper reports nothing on this data."]
    if lost:
        notes.append(f"{lost} scenes have no ATE: their positions lie on one line or in one place.")
    return Report(benchmark, tuple(table), settings, tuple(notes))


def questions(model: VidLLM, max_new_tokens: int = 32) -> Evaluate:
    """What asks every question of a window and keeps the answers, see ``scanqa_report``."""

    def evaluate(window: EvaluatedWindow) -> dict[str, Any]:
        output = model.reconstruct(_images(model, window))
        prefix = model.read_scene(model.build_scene(output, window.T_scene_window))
        answers = []
        for asked in window.questions:
            reply = say(model, prefix, asked.text, max_new_tokens)
            row = {"key": asked.key, "question": asked.text, "answer": reply, "accepted": list(asked.answers)}
            answers.append({**row, "bare": asked.bare or asked.text})
        return {"answers": answers}

    return evaluate


def say(model: VidLLM, prefix: ScenePrefix, question: str, max_new_tokens: int) -> str:
    """The answer; an empty one to a question that is too long to be read, since every question counts."""
    try:
        return model.ask(prefix, question, max_new_tokens=max_new_tokens).text
    except QuestionError:
        return ""


def scanqa_report(rows: Sequence[dict[str, Any]], settings: dict[str, Any], dialects: Sequence[str]) -> Report:
    """The paper's metrics in each dialect, beside the paper's row.

    Raises:
        EvaluationError: the scenes have no questions.
    """
    answers, predictions, references = _answers(rows)
    table, notes = [], []
    for dialect in dialects:
        result = captions.score(predictions, references, dialect)
        for name in (*captions.METRICS, "EM@1", "refined EM"):
            if np.isfinite(result[name]) or name in PAPER_SCANQA:
                table.append(Row(name, 100 * result[name], PAPER_SCANQA.get(name), dialect))
        mean = 100 * float(np.mean([result[name] for name in PAPER_SCANQA]))
        table.append(Row("mean of C, B-4, M, R and EM@1", mean, PAPER_SCANQA_MEAN, dialect))
        notes += result["notes"]
    notes = [
        f"{len(answers)} questions in {len(rows)} scenes; all values times 100.",
        "The paper does not say which dialect its row was made with, nor which split; rows compare within a dialect.",
        "Its Tables 5 and 6 print 45.7 as the mean of this row; by the rule its other rows follow it is 42.6.",
        *dict.fromkeys(notes),
    ]
    return Report("scanqa", tuple(table), {**settings, "dialects": list(dialects)}, tuple(notes))


def sqa3d_report(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Report:
    """Exact match on cleaned answers, overall beside the paper's and by kind of question.

    Raises:
        EvaluationError: the scenes have no questions.
    """
    answers, predictions, references = _answers(rows)
    result = captions.sqa3d_score(predictions, references, {row["key"]: row["bare"] for row in answers})
    table = [Row("EM@1, %", 100 * result["EM@1"], PAPER_SQA3D), Row("refined EM, %", 100 * result["refined EM"])]
    for kind in captions.QUESTION_TYPES:
        count = result[f"items ({kind})"]
        table.append(Row(f"EM@1 ({kind}), %", 100 * result[f"EM@1 ({kind})"], note=f"{count} questions"))
    notes = (
        f"{len(answers)} questions in {len(rows)} scenes; the situation is told in words before each question.",
        "All published scripts agree on EM@1 of cleaned answers.",
    )
    return Report("sqa3d", tuple(table), settings, notes)


def _answers(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, list[str]]]:
    """All answers, and by key what was said and what is accepted."""
    answers = [answer for row in rows for answer in row["answers"]]
    if not answers:
        raise EvaluationError("the scenes have no questions: is this the right file of annotations?")
    said, accepted = ({row["key"]: row[part] for row in answers} for part in ("answer", "accepted"))
    return answers, said, accepted


def _images(model: VidLLM, window: EvaluatedWindow) -> torch.Tensor:
    return to_tensor(list(window.rgb), model.device)[None]


def _trajectory(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    result = dict.fromkeys(("ate_se3", "ate_sim3", "scale", "rpe_translation", "rpe_rotation"), float("nan"))
    if len(truth) > 1:
        relative = trajectory.rpe(predicted, truth)
        result |= {"rpe_translation": relative.translation.rmse, "rpe_rotation": relative.rotation.rmse}
    try:
        sim3 = trajectory.ate(predicted, truth, "sim3")
        result |= {"ate_sim3": sim3.rmse, "scale": sim3.alignment.scale}
        result |= {"ate_se3": trajectory.ate(predicted, truth, "se3").rmse}
    except EvaluationError:
        pass  # positions on one line: there is nothing to align
    return result
