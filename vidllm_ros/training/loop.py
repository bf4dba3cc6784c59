"""The training loop both phases share: time budget, checkpoints, resume, log."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidllm_ros.training.optimizer import MuonAdamW, WeightAverage, warmup_cosine
from vidllm_ros.training.sample import Sample

CHECKPOINT_SECONDS = 300.0


class DivergenceError(RuntimeError):
    """A loss or a gradient that is not finite."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Args:
        minutes: training time in all, over all resumed runs.
        lr: peak learning rate.
        weight_decay: of matrices.
        clip: gradient norm limit.
        muon: use Muon for the matrices of transformer blocks.
        log_every: steps between log lines.
    """

    minutes: float
    lr: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    muon: bool = True
    log_every: int = 25


def world_size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_index() -> int:
    """This process's number among those that train together, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes logs and checkpoints."""
    return process_index() == 0


def share_seconds(seconds: float) -> float:
    """The mean over the processes, so that all agree when a budget is spent."""
    if world_size() == 1:
        return seconds
    shared = torch.tensor([seconds], dtype=torch.float64)
    dist.all_reduce(shared)
    return float(shared) / world_size()


class TrainingLoop:
    """Runs steps until the time budget is spent; a killed run resumes from its last checkpoint."""

    def __init__(self, model: nn.Module, config: LoopConfig, folder: Path) -> None:
        self.model = model
        self.config = config
        self.folder = folder
        self.optimizer = MuonAdamW(model, config.lr, config.weight_decay, config.muon)
        self.average = WeightAverage(model)
        self.step_index = 0
        self.frames = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def progress(self) -> float:
        """Share of the time budget that is spent, 0 to 1."""
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def resume(self) -> bool:
        """Load the last checkpoint of this folder; False when there is none."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values, self.average.updates = state["average"], state["updates"]
        self.step_index, self.frames, self.seconds = state["step"], state["frames"], state["seconds"]
        return True

    def save(self) -> None:
        """Write the checkpoint so that a kill at any moment leaves either the old or the new one."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
            "step": self.step_index,
            "frames": self.frames,
            "seconds": self.seconds,
        }
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")

    def run(
        self,
        step: Callable[[int], tuple[Tensor, dict[str, float], int]],
        shown: Callable[[], Sequence[Sample]] = tuple,
    ) -> None:
        """Train until the budget is spent.

        Args:
            step: takes the step index and returns the loss, values to log, and the number of frames it consumed.
            shown: the samples of the last step; should training diverge, they are saved as ``diverged_*.npz``.

        Raises:
            DivergenceError: the loss or its gradient is not finite; the weights are still those of the last good step.
        """
        last_save = last_log = time.monotonic()
        log_path = self.folder / "log.csv"
        seen: dict[str, list[float]] = {}
        counted = 0
        while self.progress < 1.0:
            started = time.monotonic()
            loss, values, frames = step(self.step_index)
            if not torch.isfinite(loss):
                raise self._diverged(f"the loss is {loss.item()}", values, shown())
            loss.backward()
            self._share_gradients()
            values["norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
            if not math.isfinite(values["norm"]):
                raise self._diverged("the gradient is not finite", values, shown())
            self.optimizer.step(warmup_cosine(self.progress, self.config.lr))
            self.average.update(self.model)
            self.step_index += 1
            self.frames += frames * world_size()
            now = time.monotonic()
            self.seconds += share_seconds(now - started)
            for name, value in {"loss": float(loss.detach()), **values}.items():
                seen.setdefault(name, []).append(value)
            counted += 1
            if counted == self.config.log_every and is_main_process():
                # Not every step has every value: a blind one has no boxes.
                row = {name: sum(of) / len(of) for name, of in seen.items()}
                self._log(log_path, row, counted / max(now - last_log, 1e-6))
                seen, counted, last_log = {}, 0, now
            if now - last_save > CHECKPOINT_SECONDS and is_main_process():
                self.save()
                last_save = now
        if is_main_process():
            self.save()

    def _diverged(self, what: str, values: dict[str, float], samples: Sequence[Sample]) -> DivergenceError:
        """The error to raise, after what caused it was saved."""
        saved = []
        for number, sample in enumerate(samples):
            path = self.folder / f"diverged_{self.step_index}_{process_index()}_{number}.npz"
            np.savez_compressed(
                path,
                name=sample.name,
                rgb=sample.rgb,
                depth=sample.depth,
                T_world_camera=sample.T_world_camera,
                intrinsics=sample.intrinsics,
            )
            saved.append(f"{sample.name} in {path}")
        where = f"; its samples: {', '.join(saved)}" if saved else ""
        return DivergenceError(f"step {self.step_index}: {what}; parts: {json.dumps(values)}{where}")

    def _share_gradients(self) -> None:
        """Average gradients over the processes, all in one message."""
        if world_size() == 1:
            return
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= world_size()
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _log(self, path: Path, row: dict[str, float], steps_per_second: float) -> None:
        remaining = 60 * self.config.minutes - self.seconds
        parts = " ".join(f"{name} {value:.3f}" for name, value in row.items())
        print(
            f"step {self.step_index} frames {self.frames} {parts} | {steps_per_second:.2f} steps/s, "
            f"{remaining / 60:.1f} min left",
            flush=True,
        )
        values = {"step": self.step_index, "frames": self.frames, "seconds": round(self.seconds, 1)}
        append_row(path, {**values, **{name: f"{value:.5f}" for name, value in row.items()}})


def append_row(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV file with a header; a value never seen before becomes a new column of the whole file."""
    rows: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    columns = list(dict.fromkeys([*(rows[0] if rows else row), *row]))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows([*rows, row])
    os.replace(partial, path)
