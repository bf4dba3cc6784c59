"""Runs ablations one after the other under one budget on procedural rooms, and sets them beside the paper's figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.model.whole_files import replacing
from vidllm_ros.training.ablation.ablations import ABLATIONS, Ablation, AblationError
from vidllm_ros.training.data.stream import mixed_batches
from vidllm_ros.training.evaluate.rooms_report import evaluate_rooms
from vidllm_ros.training.loop import LoopConfig, TrainingLoop
from vidllm_ros.training.processes import world_size
from vidllm_ros.training.rooms import room_sample
from vidllm_ros.training.stages.joint import JointModel, JointPhase, JointPhaseConfig
from vidllm_ros.training.stages.recipe import train_stage_1
from vidllm_ros.training.stages.teachers import Teacher

PROBES = 8  # times that the loss on held-out rooms is looked at, evenly over stage 2
LOSS_ROOMS = 8
# Held-out rooms of the loss; those of the scores count from 0.
FIRST_LOSS_ROOM = 50_000
# What is shown of the scores, beside which of the paper's columns.
SHOWN = {
    "question exact match": "exact match",
    "box Acc@0.25": "Acc@0.25",
    "box mean IoU": "box IoU",
    "depth delta1": "delta1",
    "depth AbsRel": "AbsRel",
    "F-score of a window's points at 5 cm": "F-score",
}
# What the ablations change, and so what each of them learns from nothing.
CHANGED = ("reconstruction.adapter.", "reconstruction.metric_depth.")


@dataclass(frozen=True)
class Budget:
    """What every ablation gets.

    Args:
        minutes: of training, both stages together.
        steps: the same in steps, which a busy machine does not make fewer; then ``minutes`` say nothing.
        stage_1: share of it that stage 1 takes, where there is one.
        frames: of a window.
        windows: per step.
        lr: peak learning rate.
        muon: Muon for the matrices of blocks.
        rooms: held-out rooms of the scores.
        seed: of the initial weights.
    """

    minutes: float
    steps: int | None = None
    stage_1: float = 0.25
    frames: int = 8
    windows: int = 4
    lr: float = 1.5e-3
    muon: bool = True
    rooms: int = 50
    seed: int = 0


def run_ablations(
    names: Sequence[str],
    base: VidLLMConfig,
    tokenizer: PreTrainedTokenizerBase,
    teachers: tuple[Teacher, Teacher],
    budget: Budget,
    out: Path,
    workers: int = 1,
    start: VidLLM | None = None,
) -> str:
    """Train and score each; what ``out`` has finished already is kept, and what was killed goes on.

    Args:
        names: of ``ABLATIONS``.
        base: the network that is changed; that of ``start`` where it is given.
        tokenizer: of its language model.
        teachers: of stage 1: geometry and semantics.
        budget: the same for each.
        out: gets a folder for each, ``ablations.json`` and ``ablations.csv``.
        workers: processes that load data.
        start: a trained network whose weights all begin with, but for those of ``CHANGED``; None begins from nothing.

    Returns:
        The tables.

    Raises:
        AblationError: the folder holds ablations under another budget, or several processes were launched.
    """
    if world_size() > 1:
        raise AblationError("ablations run in one process; run several of them side by side instead")
    out.mkdir(parents=True, exist_ok=True)
    settings = {"network": base.name, "from": start.config.name if start else "nothing", **asdict(budget)}
    _same_settings(out / "settings.json", settings)
    results = {}
    for name in names:
        path = out / name / "result.json"
        if not path.exists():
            print(f"{name}: {ABLATIONS[name].title}", flush=True)
            torch.manual_seed(budget.seed)
            model = VidLLM(ABLATIONS[name].configured(replace(base, window_size=budget.frames)), tokenizer)
            if start is not None:
                _begin_with(model, start)
            result = _train_and_score(model, ABLATIONS[name], teachers, budget, out / name, workers)
            _write(path, json.dumps(result, indent=2) + "\n")
        results[name] = json.loads(path.read_text())
    _write(out / "ablations.json", json.dumps(results, indent=2) + "\n")
    _write_csv(out / "ablations.csv", results)
    return tables(results, budget)


def _begin_with(model: VidLLM, start: VidLLM) -> None:
    own = model.state_dict()
    values = {name: value for name, value in start.state_dict().items() if not name.startswith(CHANGED)}
    model.load_state_dict(own | values)


def _train_and_score(
    model: VidLLM, ablation: Ablation, teachers: tuple[Teacher, Teacher], budget: Budget, out: Path, workers: int
) -> dict[str, Any]:
    config = LoopConfig(budget.minutes, budget.lr, muon=budget.muon, steps=budget.steps)
    if ablation.stage_1 is not None:
        first, config = _divided(config, budget.stage_1)
        train_stage_1(
            model, teachers, ["rooms:train"], out / "stage1", first, budget.windows, ablation.stage_1, workers
        )
    frames, curve = _stage_2(model, config, budget, out / "stage2", workers)
    rows, further = evaluate_rooms(model.cpu().eval(), budget.rooms, budget.frames)
    return {
        "title": ablation.title,
        "frames_of_stage_2": frames,
        "test_loss": curve[-1][1],
        "test_loss_over_frames": curve,
        "rows": [asdict(row) for row in rows],
        "further": further,
    }


def _divided(config: LoopConfig, share: float) -> tuple[LoopConfig, LoopConfig]:
    """A share of the budget, and the rest."""
    if config.steps is not None:
        steps = max(1, round(share * config.steps))
        return replace(config, steps=steps), replace(config, steps=max(1, config.steps - steps))
    minutes = share * config.minutes
    return replace(config, minutes=minutes), replace(config, minutes=config.minutes - minutes)


def _stage_2(
    model: VidLLM, config: LoopConfig, budget: Budget, out: Path, workers: int
) -> tuple[int, list[tuple[int, float]]]:
    """Frames that were seen, and (frames, loss on held-out rooms) pairs; the last is that of the averaged weights."""
    trained = JointModel(model).train()
    loop = TrainingLoop(trained, config, out)
    loop.resume()
    stream = mixed_batches(
        ["rooms:train"], model.config, budget.windows, first_room=loop.step_index * budget.windows, workers=workers
    )
    phase = JointPhase(model, trained, JointPhaseConfig(), stream)
    held_out = [
        room_sample(FIRST_LOSS_ROOM + i, "test", frames=budget.frames, image_size=model.config.image_size, tasks=12)
        for i in range(LOSS_ROOMS)
    ]
    path = out / "test_loss.json"
    curve = json.loads(path.read_text()) if path.exists() else []

    def step(index: int) -> tuple[torch.Tensor, dict[str, float], int]:
        if PROBES * loop.progress >= len(curve):
            curve.append((loop.frames, held_out_loss(phase, held_out)))
            _write(path, json.dumps(curve))
        return phase.step(index)

    loop.run(step, lambda: phase.samples)
    loop.finish()
    return loop.frames, [*curve, (loop.frames, held_out_loss(phase, held_out))]


@torch.no_grad()
def held_out_loss(phase: JointPhase, rooms: list[Any]) -> float:
    """The loss of Eq. 8 on rooms, the same questions every time."""
    losses = []
    for number, room in enumerate(rooms):
        geometry, language, _ = phase.losses([room], np.random.default_rng(number))
        losses.append(float(geometry + phase.config.language * language))
    return float(np.mean(losses))


def _same_settings(path: Path, settings: dict[str, Any]) -> None:
    if path.exists() and json.loads(path.read_text()) != settings:
        raise AblationError(f"{path} names another budget: figures would not compare. Take another --out")
    _write(path, json.dumps(settings, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text)


def _scores(result: dict[str, Any]) -> list[dict[str, float]]:
    """Mean and bounds of what is ``SHOWN``, in its order."""
    values = {row["name"]: row["value"] for row in result["rows"]}
    return [values[name] for name in SHOWN]


def _write_csv(path: Path, results: dict[str, dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        paper = ("paper ScanQA", "paper Scan2Cap", "paper ScanRefer", "paper ScanNet")
        bounds = [f"{name}{bound}" for name in SHOWN.values() for bound in ("", " low", " high")]
        writer.writerow(["name", "title", "frames", "test loss", *bounds, *paper])
        for name, result in results.items():
            scores = [score[key] for score in _scores(result) for key in ("mean", "low", "high")]
            row = ABLATIONS[name].paper
            figures = list(asdict(row).values()) if row else [""] * 4
            writer.writerow(
                [name, result["title"], result["frames_of_stage_2"], result["test_loss"], *scores, *figures]
            )


def _amount(budget: Budget) -> str:
    return f"{budget.minutes:g} minutes" if budget.steps is None else f"{budget.steps} steps"


def tables(results: dict[str, dict[str, Any]], budget: Budget) -> str:
    """Table 6 and Figure 5, measured and as published."""
    lines = [
        f"{_amount(budget)} of training each, {budget.rooms} held-out rooms [95 % over rooms];",
        "the paper's figures are of ScanNet and a network a thousand times larger: compare orders, not values.",
        "",
        "| Table 6 | " + " | ".join(SHOWN.values()) + " | frames | paper: ScanQA, Scan2Cap, ScanRefer | ScanNet |",
        "| --- |" + " --- |" * (len(SHOWN) + 3),
    ]
    for name, result in results.items():
        paper = ABLATIONS[name].paper
        if paper is not None:
            scores = [f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in _scores(result)]
            figures = f"{paper.scanqa} {paper.scan2cap} {paper.scanrefer}"
            cells = [*scores, f"{result['frames_of_stage_2']:,}", figures, str(paper.scannet or "-")]
            lines.append(f"| {result['title']} | {' | '.join(cells)} |")
    lines += ["", "| Figure 5 | test loss | frames of stage 2 | the paper says |", "| --- | --- | --- | --- |"]
    for name, result in results.items():
        if ABLATIONS[name].strategy:
            cells = [f"{result['test_loss']:.3f}", f"{result['frames_of_stage_2']:,}", ABLATIONS[name].strategy]
            lines.append(f"| {result['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)
