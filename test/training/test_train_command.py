"""``vidllm train --stage``: both stages from the command line on rooms, killed and resumed."""

import argparse
import csv
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from float64_layers import randomize
from miniature import full_config
from torch import nn

from vidllm_ros import cli
from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.training import cli as train_cli
from vidllm_ros.training import loop
from vidllm_ros.training.cli import add_parser, loop_config
from vidllm_ros.training.optimizer import MuonAdamW
from vidllm_ros.training.rooms import vocabulary_texts

SIZE = (84, 112)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A miniature that sees rooms two frames at a time."""
    torch.manual_seed(0)
    config = replace(full_config(), image_size=SIZE, window_size=2)
    model = VidLLM(config, train_tokenizer(vocabulary_texts(2000), 600))
    randomize(model.reconstruction, 0)
    folder = tmp_path_factory.mktemp("student")
    model.save_pretrained(folder, dtype="float32")
    return folder


def train(*arguments) -> int:
    return cli.main(["train", "--workers", "0", "--windows", "1", "--lr", "1e-3", *map(str, arguments)])


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock takes a second, so a step does: budgets become numbers of steps."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


def steps(folder) -> int:
    return torch.load(folder / "state.pt", weights_only=True)["step"]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_changes_what_it_trains_and_resumes(stage, student, tmp_path, clock, monkeypatch, capsys):
    monkeypatch.setattr(train_cli, "loop_config", lambda *given: replace(loop_config(*given), log_every=1))
    run = ["--stage", stage, "--init", student, "--out", tmp_path / "run"]
    teachers = ["--geometry-teacher", student, "--semantic-teacher", student, "--teacher-cache", tmp_path / "cache"]
    run += teachers if stage == 1 else []
    assert train(*run, "--minutes", 2 / 60) == 0
    assert steps(tmp_path / "run") == 2
    assert "written to" in capsys.readouterr().out
    assert train(*run, "--minutes", 1) == 2  # holds a run already
    assert "--resume" in capsys.readouterr().out
    assert train(*run, "--minutes", 4 / 60, "--resume") == 0
    assert steps(tmp_path / "run") == 4
    # Not a nano, so the optimiser is the paper's (section 4.1).
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["optimizer"]["optimizers"]
    assert len(state) == 1 and {group["betas"] for group in state[0]["param_groups"]} == {(0.9, 0.999)}
    assert {group["weight_decay"] for group in state[0]["param_groups"]} == {0.0, 0.05}
    assert (tmp_path / "run" / "curves.html").exists()
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "structure" if stage == 1 else "language"} <= rows[0].keys()
    before, after = (VidLLM.from_pretrained(f).state_dict() for f in (student, tmp_path / "run" / "model"))
    # The result is stored in half precision; what was not trained is otherwise the same.
    changed = {name for name, value in before.items() if not torch.equal(value.half().float(), after[name].float())}
    distilled = {name for name in before if name.startswith(("reconstruction.encoder", "reconstruction.adapter"))}
    if stage == 1:
        assert changed and changed <= distilled
        assert any((tmp_path / "cache").rglob("*.safetensors"))
    else:
        parts = ("reconstruction.backbone", "reconstruction.depth_head", "_language.llm", "_grounding.layers")
        assert all(any(name.startswith(part) for name in changed) for part in parts)


def test_wrong_data_lists_what_exists(student, tmp_path, capsys):
    assert train("--stage", 2, "--init", student, "--out", tmp_path, "--data", "scanet:/nowhere") == 1
    message = capsys.readouterr().err
    assert "there is no source 'scanet'" in message and "did you mean 'scannet'" in message


@pytest.mark.parametrize(
    ("size", "options", "muon", "lr"),
    [
        ("large", [], False, 1e-4),
        ("small", ["--lr", "3e-5"], False, 3e-5),
        ("nano", [], True, 1.5e-3),
        ("nano", ["--optimizer", "adamw"], False, 1e-4),
    ],
)
def test_the_optimizer_is_the_papers_except_for_nano(size, options, muon, lr):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    config = loop_config(parser.parse_args(["train", "--stage", "2", "--out", "out", *options]), size)
    assert (config.muon, config.lr, config.weight_decay, config.clip) == (muon, lr, 0.05, 1.0)
    model = nn.ModuleDict({"encoder": nn.ModuleDict({"layer": nn.ModuleList([nn.Linear(3, 3)])})})
    optimizers = MuonAdamW(model, config.lr, config.weight_decay, config.muon).optimizers
    assert [type(o).__name__ for o in optimizers] == (["AdamW", "Muon"] if muon else ["AdamW"])
    assert all(group["betas"] == (0.9, 0.999) for group in optimizers[0].param_groups)
    decays = [group["weight_decay"] for optimizer in optimizers for group in optimizer.param_groups]
    assert sorted(decays) == [0.0, 0.05]  # biases and norms do not decay
