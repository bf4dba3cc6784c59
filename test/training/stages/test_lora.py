"""LoRA: what learns, and that the checkpoint is an ordinary network that answers as the trained one did."""

import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from float64_layers import randomize
from miniature import full_config

from vidllm_ros import cli
from vidllm_ros.model import SceneTokens, VidLLM
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.training import loop as loop_module
from vidllm_ros.training.loop import LoopConfig, ResumeError
from vidllm_ros.training.rooms import room_sample, vocabulary_texts
from vidllm_ros.training.stages.joint import JointModel, JointPhase, JointPhaseConfig
from vidllm_ros.training.stages.lora import add_lora
from vidllm_ros.training.stages.recipe import train_stage_2

SIZE = (84, 112)
MARKS = "trainable_tokens_delta"  # rows of the conversation marks, which a pretrained model has never seen


def network(tied: bool = True) -> VidLLM:
    torch.manual_seed(0)
    config = replace(full_config(), image_size=SIZE, window_size=2)
    llm = config.language.llm | {"tie_word_embeddings": tied}
    config = replace(config, language=replace(config.language, llm=llm))
    model = VidLLM(config, train_tokenizer(vocabulary_texts(2000), 600))
    randomize(model.reconstruction, 0)
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_only_additions_and_marks_of_the_language_model_learn(tied):
    model = network(tied)
    add_lora(model.language, 2)
    samples = [room_sample(3, "train", frames=2, image_size=SIZE, stride=3, tasks=8)]
    phase = JointPhase(model, JointModel(model).train(), JointPhaseConfig(tasks=4), iter(lambda: samples, None))
    phase.step(0)[0].backward()
    reached = {name for name, p in model.language.llm.named_parameters() if p.grad is not None}
    assert reached and all("lora_" in name or MARKS in name for name in reached)
    assert sum(MARKS in name for name in reached) == (1 if tied else 2)
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in reached if ".lora_" in name}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(p.grad is not None for p in model.language.projector.parameters())
    assert any(p.grad is not None for p in model.reconstruction.encoder.parameters())


def test_the_checkpoint_answers_as_the_trained_network(tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_stage_2(model, ["rooms:train"], tmp_path, LoopConfig(4 / 60, lr=3e-3), windows=1, workers=0, lora=2)
    loaded = VidLLM.from_pretrained(tmp_path / "model")
    after = loaded.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name].half().float())}
    assert any("layers.0.self_attn.q_proj" in name for name in changed)
    assert not any(name.endswith("layers.0.input_layernorm.weight") for name in changed)
    scene = SceneTokens(torch.randn(6, 32), torch.randn(6, 3))
    conversation = [[("How many chairs are there?", "There are 3."), ("Locate: chair", "<LOC>")]]
    with torch.no_grad():
        here, there = (m.language.loss([scene], conversation) for m in (model, loaded))
    # The checkpoint is in half precision.
    torch.testing.assert_close(there.loss, here.loss, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(there.loc_states[0][1], here.loc_states[0][1], rtol=0.02, atol=0.02)
    assert loaded.ask(scene, "How many chairs are there?").text == model.ask(scene, "How many chairs are there?").text
    with pytest.raises(ResumeError, match="resume with the options it began with"):
        train_stage_2(network(), ["rooms:train"], tmp_path, LoopConfig(5 / 60), windows=1, workers=0)


def test_wrong_use_and_a_missing_package(tmp_path, monkeypatch, capsys):
    assert cli.main(["train", "--stage", "1", "--lora", "8", "--out", str(tmp_path)]) == 2
    assert "--lora is for stage 2" in capsys.readouterr().out
    assert cli.main(["train", "--stage", "2", "--lora", "0", "--out", str(tmp_path)]) == 2
    assert "must be at least 1" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "vidllm_ros.training.stages.lora")
    assert cli.main(["train", "--stage", "2", "--lora", "8", "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "peft is not installed: pip install 'vidllm_ros[train]'" in capsys.readouterr().err
