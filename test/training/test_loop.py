"""The training loop: budget, resume after a kill, divergence, log."""

import csv
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from posed_windows import random_sample
from torch import nn

from vidllm_ros.training import loop as loop_module
from vidllm_ros.training.loop import CHECKPOINT_SECONDS, DivergenceError, LoopConfig, TrainingLoop

FRAMES = 8


class Clock:
    """Seconds that pass only when training does."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Regression:
    """Fits a linear layer; every step takes ``seconds`` and its data depend on the step alone."""

    def __init__(self, folder, clock: Clock, steps: int = 10, seconds: float = 6.0, log_every: int = 25) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.clock, self.seconds = clock, seconds
        config = LoopConfig(minutes=steps * seconds / 60, lr=1e-2, log_every=log_every)
        self.loop = TrainingLoop(self.model, config, folder)
        self.asked: list[int] = []

    def loss(self, index: int) -> torch.Tensor:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(index))
        return (self.model(x) - x[:, :2]).square().mean()

    def step(self, index: int):
        self.asked.append(index)
        self.clock.now += self.seconds
        loss = self.loss(index)
        return loss, {"half": loss.item() / 2}, FRAMES


def killed_after(job: Regression, steps: int) -> None:
    def step(index: int):
        if index == steps:
            raise KeyboardInterrupt
        return job.step(index)

    with pytest.raises(KeyboardInterrupt):
        job.loop.run(step)


def test_training_ends_with_its_budget_and_learns(tmp_path, clock):
    job = Regression(tmp_path, clock, steps=40)
    before = job.loss(999).item()
    job.loop.run(job.step)
    assert job.asked == list(range(40)) and job.loop.progress == 1.0
    assert (job.loop.step_index, job.loop.frames, job.loop.seconds) == (40, 40 * FRAMES, 240.0)
    assert job.loss(999).item() < 0.5 * before


def test_a_resumed_run_is_the_run_that_was_never_killed(tmp_path, clock):
    whole = Regression(tmp_path / "whole", clock)
    whole.loop.run(whole.step)
    first = Regression(tmp_path / "killed", clock)
    killed_after(first, 4)
    first.loop.save()
    second = Regression(tmp_path / "killed", clock)
    with torch.no_grad():
        second.model[0].weight.zero_()  # all of this must come from the checkpoint
    assert second.loop.resume()
    assert (second.loop.step_index, second.loop.frames, second.loop.seconds) == (4, 4 * FRAMES, 24.0)
    second.loop.run(second.step)
    assert second.asked == [4, 5, 6, 7, 8, 9] and second.loop.frames == whole.loop.frames
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.loop.average.updates == whole.loop.average.updates
    for name, value in whole.loop.average.values.items():
        assert torch.equal(second.loop.average.values[name], value), name


def test_nothing_to_resume(tmp_path, clock):
    job = Regression(tmp_path / "new", clock)
    assert not job.loop.resume()
    assert (job.loop.step_index, job.loop.progress) == (0, 0.0)


def test_a_finished_run_stays_finished(tmp_path, clock):
    job = Regression(tmp_path, clock)
    job.loop.run(job.step)
    again = Regression(tmp_path, clock)
    again.loop.resume()
    again.loop.run(again.step)
    assert again.asked == []


def test_checkpoints_are_written_while_training(tmp_path, clock):
    job = Regression(tmp_path, clock, steps=10, seconds=0.4 * CHECKPOINT_SECONDS)
    killed_after(job, 8)
    again = Regression(tmp_path, clock)
    assert again.loop.resume()
    assert again.loop.step_index == 6  # saved after steps 3 and 6, killed in step 8


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path, clock, monkeypatch, moment):
    job = Regression(tmp_path, clock)
    killed_after(job, 3)
    job.loop.save()
    job.loop.step_index = 77

    def torn(state, path):
        path.write_bytes(b"half a checkpoint")
        raise KeyboardInterrupt

    def interrupted(*paths):
        raise KeyboardInterrupt

    if moment == "writing":
        monkeypatch.setattr(torch, "save", torn)
    else:
        monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.loop.save()
    monkeypatch.undo()
    again = Regression(tmp_path, clock)
    assert again.loop.resume() and again.loop.step_index == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_divergence_stops_before_the_weights_are_touched(tmp_path, clock, value):
    job = Regression(tmp_path, clock)
    job.loop.save()

    def step(index: int):
        loss, values, frames = job.step(index)
        return (loss * value if index == 3 else loss), values, frames

    with pytest.raises(DivergenceError, match=rf"step 3: the loss is -?({value}|nan|inf); parts: .*half"):
        job.loop.run(step)
    assert job.loop.step_index == 3
    assert all(parameter.isfinite().all() for parameter in job.model.parameters())
    assert Regression(tmp_path, clock).loop.resume()


def test_a_finite_loss_with_an_infinite_gradient_is_divergence_too(tmp_path, clock):
    job = Regression(tmp_path, clock)

    def step(index: int):
        loss, values, frames = job.step(index)
        return (loss - loss.detach()).sqrt() + 1 if index == 2 else loss, values, frames

    with pytest.raises(DivergenceError, match="step 2: the gradient is not finite; parts"):
        job.loop.run(step)
    assert all(parameter.isfinite().all() for parameter in job.model.parameters())


def test_the_samples_that_broke_it_are_kept(tmp_path, clock):
    job, sample = Regression(tmp_path, clock), random_sample(seed=4)

    def step(index: int):
        loss, values, frames = job.step(index)
        return loss * float("nan"), values, frames

    with pytest.raises(DivergenceError, match=f"its samples: {sample.name} in .*diverged_0_0_0.npz"):
        job.loop.run(step, lambda: [sample])
    kept = np.load(tmp_path / "diverged_0_0_0.npz")
    assert str(kept["name"]) == sample.name
    np.testing.assert_array_equal(kept["rgb"], sample.rgb)
    np.testing.assert_array_equal(kept["T_world_camera"], sample.T_world_camera)


def test_the_gradient_norm_is_limited(tmp_path, clock):
    job = Regression(tmp_path, clock, steps=1)
    norms = []
    original = job.loop.optimizer.step

    def step(lr: float) -> None:
        norms.append(torch.stack([p.grad.norm() for p in job.model.parameters()]).norm().item())
        original(lr)

    job.loop.optimizer.step = step
    job.loop.run(lambda index: (1000 * job.step(index)[0], {}, FRAMES))
    assert norms[0] == pytest.approx(job.loop.config.clip, rel=1e-4)


def test_the_log_holds_means_and_goes_on_after_a_resume(tmp_path, clock, capsys):
    job = Regression(tmp_path, clock, steps=9, log_every=3)
    killed_after(job, 6)
    job.loop.save()
    again = Regression(tmp_path, clock, steps=9, log_every=3)
    again.loop.resume()
    again.loop.run(again.step)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert [row["frames"] for row in rows] == ["24", "48", "72"]
    for row in rows:
        assert float(row["half"]) == pytest.approx(float(row["loss"]) / 2, rel=1e-3)
        assert float(row["norm"]) > 0
    assert "step 9 frames 72 loss" in capsys.readouterr().out


def test_the_checkpoint_is_read_without_unpickling_code(tmp_path, clock):
    job = Regression(tmp_path, clock)
    killed_after(job, 1)
    job.loop.save()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], state["frames"]) == (1, FRAMES)
