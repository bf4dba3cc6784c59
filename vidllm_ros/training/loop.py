"""The training loop that all phases share: processes, time budget, checkpoints, resume, log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from vidllm_ros.model.whole_files import replacing
from vidllm_ros.training.optimizer import MuonAdamW, WeightAverage, warmup_cosine
from vidllm_ros.training.processes import LaunchError, connect
from vidllm_ros.training.sample import Sample
from vidllm_ros.training.sharding import like, unshard, whole
from vidllm_ros.training.training_log import TrainingLog

CHECKPOINT_SECONDS = 300.0

Step = Callable[[int], tuple[Tensor, dict[str, float], int]]


class DivergenceError(RuntimeError):
    """A loss or a gradient that is not finite."""


class ResumeError(ValueError):
    """A checkpoint that the run does not fit."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Args:
        minutes: training time in all, over all resumed runs.
        steps: steps in all; given, they are the budget and time is not.
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
    steps: int | None = None


class _Step(nn.Module):
    """A phase's step as the forward pass of one module, which is what accelerate's wrappers know how to share out.

    A phase calls the parts of its model as it needs them, never the model as a whole.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.model = model
        self.accelerator = accelerator

    def forward(self, step: Step, index: int) -> tuple[Tensor, dict[str, float], int]:
        with self.accelerator.autocast():
            return step(index)


class TrainingLoop:
    """Runs steps until the budget is spent; a killed run resumes from its last checkpoint.

    Launched by ``accelerate launch``, several processes train together: each takes its own batches, gradients are
    averaged, and with FSDP parameters and optimiser state are shared out. Checkpoints and logs are the same as those of
    a single process.

    Args:
        model: what is trained; moved to this process's device.
        config: how long and how fast.
        folder: for checkpoints and logs; all processes must see the same one.
        accelerator: the processes; None joins those that were launched.
    """

    def __init__(
        self, model: nn.Module, config: LoopConfig, folder: Path, accelerator: Accelerator | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.folder = folder
        self.accelerator = accelerator or connect()
        if config.muon and self.accelerator.distributed_type == DistributedType.FSDP:
            raise LaunchError("Muon turns whole matrices, which FSDP shares out: train with --optimizer adamw")
        if self.accelerator.distributed_type == DistributedType.FSDP:
            # FSDP would make every weight bfloat16, the float32 heads' too; autocast knows which operations may round.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
        self.optimizer = MuonAdamW(model, config.lr, config.weight_decay, config.muon)
        # The optimisers come along because FSDP gives the model new parameters; they are stepped directly.
        self.module = self.accelerator.prepare(_Step(model, self.accelerator), *self.optimizer.optimizers)[0]
        self.average = WeightAverage(model)
        self.log = TrainingLog(folder)
        self.step_index = 0
        self.frames = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        if self.config.steps is not None:
            return min(1.0, self.step_index / self.config.steps)
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def resume(self) -> bool:
        """Load the last checkpoint of this folder; False when there is none.

        Raises:
            ResumeError: it is of another network.
        """
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = self.model.state_dict()
        values = {name: like(value, own.get(name, value)) for name, value in state["model"].items()}
        try:
            self.model.load_state_dict(values)
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ResumeError(f"{path} holds another network; resume with the options it began with") from error
        self.average.load(state["average"], state["updates"])
        self.step_index, self.frames, self.seconds = state["step"], state["frames"], state["seconds"]
        return True

    def save(self) -> None:
        """Write the checkpoint so that a kill at any moment leaves either the old or the new one.

        All processes must call it together; the main one writes.
        """
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
            "step": self.step_index,
            "frames": self.frames,
            "seconds": self.seconds,
        }
        state = whole(state)
        if not self.accelerator.is_main_process:
            return
        with replacing(self.folder / "state.pt") as partial:
            torch.save(state, partial)

    def run(self, step: Step, shown: Callable[[], Sequence[Sample]] = tuple) -> None:
        """Train until the budget is spent.

        Args:
            step: takes the step index and returns the loss, values to log, and the number of frames it consumed.
            shown: the samples of the last step; should training diverge, they are saved as ``diverged_*.npz``.

        Raises:
            DivergenceError: the loss or its gradient is not finite in some process; the weights are still those of the
                last good step.
        """
        saved, last_log = self.seconds, time.monotonic()
        seen: dict[str, list[float]] = {}
        counted = 0
        while self.progress < 1.0:
            started = time.monotonic()
            loss, values, frames = self.module(step, self.step_index)
            finite = bool(torch.isfinite(loss))
            if self._over_processes(0.0 if finite else 1.0)[0] > 0:
                raise self._diverged(f"the loss is {loss.item()}", values, () if finite else shown())
            self.accelerator.backward(loss)
            values["norm"] = self._clip()
            if not math.isfinite(values["norm"]):
                raise self._diverged("the gradient is not finite", values, shown())
            self.optimizer.step(warmup_cosine(self.progress, self.config.lr))
            self.average.update(self.model)
            now = time.monotonic()
            elapsed, shown_frames = self._over_processes(now - started, frames)
            self.step_index += 1
            self.frames += round(shown_frames)
            self.seconds += elapsed / self.accelerator.num_processes
            for name, value in {"loss": float(loss.detach()), **values}.items():
                seen.setdefault(name, []).append(value)
            counted += 1
            if counted == self.config.log_every:
                self._log(seen, counted / max(now - last_log, 1e-6))
                seen, counted, last_log = {}, 0, now
            if self.seconds - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = self.seconds
        self.save()
        if self.accelerator.is_main_process:
            self.log.close()

    def finish(self) -> None:
        """Put the averaged weights into the model, whole and on the CPU, ready to be saved by the main process."""
        self.average.copy_to(self.model)
        unshard(self.model, keep=self.accelerator.is_main_process)

    def _over_processes(self, *numbers: float) -> list[float]:
        """Sums over the processes, so that all decide alike."""
        if self.accelerator.num_processes == 1:
            return list(numbers)
        # Seconds of a long run need more digits than float32 has, but MPS has nothing better.
        here = torch.tensor(numbers, dtype=torch.float32, device=self.accelerator.device)
        return self.accelerator.reduce(here, "sum").tolist()

    def _clip(self) -> float:
        """Limit the gradient norm over all parameters; what it was before."""
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip)
        return float(whole(norm))

    def _diverged(self, what: str, values: dict[str, float], samples: Sequence[Sample]) -> DivergenceError:
        """The error to raise, after what caused it was saved."""
        saved = []
        for number, sample in enumerate(samples):
            path = self.folder / f"diverged_{self.step_index}_{self.accelerator.process_index}_{number}.npz"
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

    def _log(self, seen: dict[str, list[float]], steps_per_second: float) -> None:
        """One line of means over the steps and processes since the last; not every step has every value."""
        sums: dict[str, tuple[float, int]] = {}
        for process in gather_object([seen]):
            for name, values in process.items():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + sum(values), count + len(values))
        if not self.accelerator.is_main_process:
            return
        row = {name: total / count for name, (total, count) in sums.items()}
        remaining = self.seconds * (1 / self.progress - 1)
        parts = " ".join(f"{name} {value:.3f}" for name, value in row.items())
        print(
            f"step {self.step_index} frames {self.frames} {parts} | {steps_per_second:.2f} steps/s, "
            f"{remaining / 60:.1f} min left",
            flush=True,
        )
        self.log.add(self.step_index, self.frames, self.seconds, row)
