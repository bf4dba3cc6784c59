"""The paper's ablations: what each changes, and a miniature run of some, killed and resumed."""

import csv
import itertools
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from float64_layers import randomize
from miniature import full_config

from vidllm_ros import cli
from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.sizes import large
from vidllm_ros.training import loop as loop_module
from vidllm_ros.training.ablation import ablate
from vidllm_ros.training.ablation.ablate import Budget, run_ablations
from vidllm_ros.training.ablation.ablations import ABLATIONS, AblationError, chosen
from vidllm_ros.training.rooms import room_sample, vocabulary_texts
from vidllm_ros.training.stages.joint import JointModel, JointPhase, JointPhaseConfig
from vidllm_ros.training.stages.teachers import CheckpointTeacher

SIZE = (84, 112)
BASE = replace(full_config(), image_size=SIZE)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(vocabulary_texts(2000), 600)


def test_the_reference_is_the_papers_network():
    assert ABLATIONS["paper"].configured(large()) == large()


def test_names_keep_the_papers_order_and_bring_the_reference():
    assert chosen([]) == list(ABLATIONS) and len(ABLATIONS) == 12
    assert chosen(["no-metric", "concat"]) == ["paper", "concat", "no-metric"]
    with pytest.raises(AblationError, match="no ablation 'bridge4'.*did you mean 'bridge-4'"):
        chosen(["bridge4"])


@pytest.mark.parametrize("name", [name for name, ablation in ABLATIONS.items() if ablation.paper])
def test_each_network_of_table_6_learns(name, tokenizer):
    torch.manual_seed(0)
    model = VidLLM(ABLATIONS[name].configured(BASE), tokenizer)
    randomize(model.reconstruction, 0)
    network = model.reconstruction
    samples = [room_sample(3, "train", frames=2, image_size=SIZE, stride=3, tasks=8)]
    phase = JointPhase(model, JointModel(model).train(), JointPhaseConfig(tasks=4), iter(lambda: samples, None))
    loss, values, _ = phase.step(0)
    loss.backward()
    assert loss.isfinite() and "language" in values
    adapter = dict(network.adapter.named_parameters())
    assert bool(adapter) == (name != "no-adapter")
    assert all(p.grad is not None for p in adapter.values())
    exchange = type(network.adapter.exchange).__name__
    wanted = {"no-adapter": "NoneType", "concat": "ConcatExchange", "no-bridge": "CrossExchange"}
    assert exchange == wanted.get(name, "BridgeExchange")
    if name.startswith("bridge-"):
        assert network.adapter.exchange.tokens.shape[0] == int(name.removeprefix("bridge-"))
    with torch.no_grad():
        output = model.reconstruct(torch.rand(1, 2, 3, *SIZE))
    if name == "no-metric":
        assert network.metric_depth is None
        torch.testing.assert_close(output.scale, torch.ones(1))
        torch.testing.assert_close(output.depth, output.relative_depth)
    elif name == "no-alignment":
        torch.testing.assert_close(output.depth, output.metric_depth)
    else:
        torch.testing.assert_close(output.depth, output.relative_depth * output.scale[:, None, None, None])


def test_no_metre_pulls_at_relative_depth_without_a_metric_depth_model(tokenizer):
    model = VidLLM(ABLATIONS["no-metric"].configured(BASE), tokenizer)
    samples = [room_sample(3, "train", frames=2, image_size=SIZE, stride=3, tasks=8)]
    losses = []
    for weight in (1.0, 50.0):
        config = JointPhaseConfig()
        config = replace(config, geometry=replace(config.geometry, metric=weight))
        phase = JointPhase(model, JointModel(model), config, iter(()))
        losses.append(phase.losses(samples, np.random.default_rng(0))[0])
    assert losses[0] == losses[1]


def test_strategies_of_figure_5():
    assert ABLATIONS["single-stage"].stage_1 is None
    weights = {name: ABLATIONS[name].stage_1 for name in ("paper", "one-teacher", "no-structure")}
    assert [(w.geometry, w.language, w.structure) for w in weights.values()] == [(1, 1, 1), (1, 0, 0), (1, 1, 0)]


@pytest.fixture
def run(tokenizer, tiny_checkpoint, tmp_path, monkeypatch):
    """Runs ablations with a budget of eight steps: every look at the clock takes a second."""
    ticks = itertools.count()
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(ablate, "LOSS_ROOMS", 1)
    teachers = (CheckpointTeacher(tiny_checkpoint), CheckpointTeacher(tiny_checkpoint, "semantic"))

    def run(names, start=None, **changes):
        budget = Budget(**({"minutes": 8 / 60, "frames": 2, "windows": 1, "rooms": 1, "lr": 1e-3} | changes))
        return run_ablations(names, BASE, tokenizer, teachers, budget, tmp_path, workers=0, start=start)

    return run


def steps(folder) -> int:
    return torch.load(folder / "state.pt", weights_only=True)["step"]


def test_a_killed_run_goes_on_and_ends_in_tables(run, tmp_path, monkeypatch):
    names = ["paper", "single-stage"]
    evaluate = partial(ablate.evaluate_rooms, tasks=2)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate, "evaluate_rooms", killed)
    with pytest.raises(KeyboardInterrupt):
        run(names)
    assert not list(tmp_path.glob("*/result.json"))
    monkeypatch.setattr(ablate, "evaluate_rooms", evaluate)
    table = run(names)
    # One budget for all: two of eight steps are stage 1's, where there is one.
    assert (steps(tmp_path / "paper" / "stage1"), steps(tmp_path / "paper" / "stage2")) == (2, 6)
    assert steps(tmp_path / "single-stage" / "stage2") == 8 and not (tmp_path / "single-stage" / "stage1").exists()
    results = json.loads((tmp_path / "ablations.json").read_text())
    assert list(results) == names
    for name, frames in (("paper", 12), ("single-stage", 16)):
        result = results[name]
        assert result["frames_of_stage_2"] == frames
        seen = [entry[0] for entry in result["test_loss_over_frames"]]
        assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == frames and len(seen) > 4
        assert all(np.isfinite(entry[1]) for entry in result["test_loss_over_frames"])
    with (tmp_path / "ablations.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["paper"]["paper ScanNet"] == "0.582" and rows["single-stage"]["paper ScanNet"] == ""
    scored = {row["name"]: row["value"]["mean"] for row in results["paper"]["rows"]}
    for column, name in (("delta1", "depth delta1"), ("AbsRel", "depth AbsRel"), ("Acc@0.25", "box Acc@0.25")):
        assert float(rows["paper"][column]) == pytest.approx(scored[name])
    assert 0 <= float(rows["paper"]["delta1"]) <= 1
    assert "| Vid-LLM: 16 tokens, MD, two stages |" in table and "45.7 53.2 48.4 | 0.582 |" in table
    head, line = (
        [cell.strip() for cell in table.splitlines()[index].split("|")[1:-1]]
        for index in (3, next(i for i, text in enumerate(table.splitlines()) if text.startswith("| Vid-LLM: 16")))
    )
    for column, name in (("delta1", "depth delta1"), ("AbsRel", "depth AbsRel")):
        assert line[head.index(column)].startswith(f"{scored[name]:.3f} [")
    assert "| Single-stage |" in table.split("Figure 5")[1] and "Single-stage" not in table.split("Figure 5")[0]
    again = (tmp_path / "paper" / "result.json").stat().st_mtime_ns
    assert run(names) == table  # nothing is done twice
    assert (tmp_path / "paper" / "result.json").stat().st_mtime_ns == again
    with pytest.raises(AblationError, match="names another budget"):
        run(names, minutes=9 / 60)


def test_a_trained_network_gives_all_but_what_is_ablated_and_steps_are_a_budget(run, tokenizer, tmp_path, monkeypatch):
    torch.manual_seed(1)
    start = VidLLM(BASE, tokenizer)
    given = start.state_dict()
    seen = {}

    def looked_at(model, *_):
        seen.update(model.state_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate, "_train_and_score", looked_at)
    with pytest.raises(KeyboardInterrupt):
        run(["bridge-4"], start, steps=5)
    same = {name for name, value in seen.items() if value.shape == given[name].shape and value.equal(given[name])}
    assert all(name in same for name in seen if not name.startswith(ablate.CHANGED))
    assert not {"reconstruction.metric_depth.hidden.weight", "reconstruction.metric_depth.residual.weight"} & same
    assert "reconstruction.depth_head.decoder.projects.0.weight" in same
    monkeypatch.undo()
    monkeypatch.setattr(ablate, "LOSS_ROOMS", 1)
    monkeypatch.setattr(ablate, "evaluate_rooms", partial(ablate.evaluate_rooms, tasks=2))
    assert "5 steps of training each" in run(["paper"], start, steps=5)
    assert (steps(tmp_path / "paper" / "stage1"), steps(tmp_path / "paper" / "stage2")) == (1, 4)
    assert json.loads((tmp_path / "settings.json").read_text())["from"] == BASE.name


def test_the_command_refuses_unknown_names(tmp_path, capsys):
    assert cli.main(["train", "--ablate", "no-metrik", "--minutes", "1", "--out", str(tmp_path)]) == 1
    assert "did you mean 'no-metric'" in capsys.readouterr().err
