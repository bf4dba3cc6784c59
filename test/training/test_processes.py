"""Two processes, started by `accelerate launch`, train as one does: gradients averaged, or everything shared out."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import several_processes
import torch
from places import SUPPORT

from vidllm_ros.training import loop as loop_module
from vidllm_ros.training.processes import LaunchError, connect


@pytest.fixture(scope="module")
def two_processes(tiny_checkpoint, tmp_path_factory) -> Path:
    """What two processes wrote."""
    out = tmp_path_factory.mktemp("two_processes")
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"]
    settings = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    script = [several_processes.__file__, str(tiny_checkpoint), str(out)]
    found = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *launch, *settings, *script], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def one_process(checkpoint: Path, out: Path, monkeypatch, muon: bool) -> torch.nn.Module:
    """The same steps here; the averaged network."""
    monkeypatch.setattr(loop_module, "time", loop_module.time)  # restored afterwards
    loop, step = several_processes.training(checkpoint, out, muon)
    loop.run(step)
    loop.finish()
    return loop.model


def curve(folder: Path) -> torch.Tensor:
    """Frames seen, losses and gradient norm after each step, [steps, values]."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("step", "frames", "seconds", "loss", "geometry", "language", "structure", "norm")
    assert len(rows) == several_processes.STEPS
    return torch.tensor([[float(row[name]) for name in names] for row in rows])


def test_two_processes_give_the_curve_of_one(two_processes, tiny_checkpoint, tmp_path, monkeypatch):
    one_process(tiny_checkpoint, tmp_path, monkeypatch, muon=True)
    one, two = curve(tmp_path), curve(two_processes / "averaged")
    assert one[-1, 3] < 0.6 * one[0, 3]  # a curve that leads somewhere
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)


def test_shared_out_parameters_give_the_curve_too(two_processes, tiny_checkpoint, tmp_path, monkeypatch):
    model = one_process(tiny_checkpoint, tmp_path, monkeypatch, muon=False)
    torch.testing.assert_close(curve(two_processes / "sharded"), curve(tmp_path), rtol=1e-3, atol=1e-4)
    # Half of it came out of a checkpoint, and what it ends with is whole, under the names that it always has.
    finished = torch.load(two_processes / "sharded" / "finished.pt", weights_only=True)
    assert finished["shared"] > 50
    # AdamW blows up the rounding of gradients that are zero in theory, such as those of key biases.
    torch.testing.assert_close(finished["model"], dict(model.state_dict()), rtol=1e-2, atol=2e-3)
    state = torch.load(two_processes / "sharded" / "state.pt", weights_only=True)
    assert state["model"].keys() == finished["model"].keys()
    assert state["average"].keys() == dict(model.named_parameters()).keys()


def test_all_stop_where_one_diverges(two_processes):
    folder = two_processes / "broken"
    messages = [(folder / f"stopped_{process}.txt").read_text() for process in (0, 1)]
    assert all(message.startswith("step 2: the loss is") for message in messages)
    assert "diverged_2_1_0.npz" in messages[1] and "diverged" not in messages[0]
    assert [file.name for file in folder.glob("diverged_*")] == ["diverged_2_1_0.npz"]


def test_processes_that_did_not_find_each_other(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(LaunchError, match="3 processes were launched, but 1 found each other"):
        connect()
