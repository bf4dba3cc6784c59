"""Every size: its miniature answers, its table in the documentation is true."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from miniature import TEXTS
from places import REPOSITORY

from vidllm_ros.model import VidLLM, VidLLMConfig
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.sizes import SIZES


def narrowed(config: VidLLMConfig) -> VidLLMConfig:
    """The same depths, settings and numbers of tokens, 32 channels wide, for images of 2 x 3 patches."""
    assert config.patches and config.language and config.grounding
    channels = (8, 12, 16, 16)
    llm = config.language.llm | {
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1,
    }  # fmt: skip
    llm.pop("vocab_size", None)
    return replace(
        config,
        image_size=(28, 42),
        encoder=replace(config.encoder, dim=32, heads=4),
        adapter=replace(config.adapter, heads=4),
        backbone=replace(config.backbone, heads=4),
        camera_head=replace(config.camera_head, heads=4),
        depth_head=replace(config.depth_head, features=16, channels=channels),
        metric_depth=replace(config.metric_depth, features=16, channels=channels),
        patches=replace(config.patches, feature_dim=32, position_hidden=32),
        language=replace(config.language, feature_dim=32, llm=llm, projector_hidden=32),
        grounding=replace(config.grounding, feature_dim=32, state_dim=32, dim=24),
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_miniature_of_every_size_answers_and_is_saved(size, tmp_path):
    torch.manual_seed(0)
    config = narrowed(SIZES[size]())
    model = VidLLM(config, train_tokenizer(TEXTS))
    frames = torch.rand(1, 3, 3, *config.image_size)
    geometry = model.reconstruct(frames)
    assert geometry.depth.isfinite().all() and geometry.scale.isfinite().all()
    assert len(geometry.pose_encodings) == config.camera_head.iterations
    prefix = model.read_scene(model.build_scene(geometry))
    answer = model.ask(prefix, "How many chairs are there?", max_new_tokens=3)
    assert answer.token_count <= 3
    boxes = model.locate(prefix, ["chair"], min_score=0.0)
    model.save_pretrained(tmp_path)
    again = VidLLM.from_pretrained(tmp_path)
    assert again.config == model.config
    assert torch.equal(again.reconstruct(frames).depth, geometry.depth)
    assert again.ask(geometry, "How many chairs are there?", max_new_tokens=3).text == answer.text
    assert len(again.locate(geometry, ["chair"], min_score=0.0)) == len(boxes)


@pytest.mark.slow
def test_the_tables_in_the_documentation_are_true():
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "sizes.py")]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    text = (REPOSITORY / "docs" / "sizes.md").read_text()
    for table in printed.strip().split("\n\n"):
        assert table.strip() in text, f"docs/sizes.md is out of date: run python benchmarks/sizes.py\n{table}"
