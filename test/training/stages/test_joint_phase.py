"""Stage 2: which loss reaches which parameter, and that everything learns together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from float64_layers import randomize
from miniature import full_config

from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.training.rooms import room_sample, vocabulary_texts
from vidllm_ros.training.stages.joint import JointModel, JointPhase, JointPhaseConfig

SIZE = (84, 112)
# The semantic stream leaves the adapter through these; no reconstruction loss can reach them.
SEMANTIC_ONLY = ("adapter.phi_lang", "adapter.exchange.norm_language", "adapter.exchange.read_language")
# The proposal protocol is trained on given boxes, which rooms do not use.
PROPOSALS = ("object_match", "phrase_match", "zero_proposal")


@pytest.fixture
def phase() -> JointPhase:
    torch.manual_seed(0)
    model = VidLLM(replace(full_config(), image_size=SIZE), train_tokenizer(vocabulary_texts(2000), 600))
    randomize(model.reconstruction, 0)
    samples = [room_sample(seed, "train", frames=2, image_size=SIZE, stride=3, tasks=8) for seed in (3, 4)]
    trained = JointModel(model).train()
    return JointPhase(model, trained, JointPhaseConfig(tasks=4), iter(lambda: samples, None))


def reached(phase: JointPhase, loss: torch.Tensor) -> set[str]:
    """Names of the parameters that a loss gives a gradient other than zero."""
    phase.trained.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {name for name, p in phase.trained.named_parameters() if p.grad is not None and p.grad.any()}


def test_gradients_flow_one_way(phase):
    samples = next(phase.stream)
    geometry, language, _ = phase.losses(samples, np.random.default_rng(0))
    from_geometry, from_language = reached(phase, geometry), reached(phase, language)
    reconstruction = {"reconstruction." + name for name, p in phase.model.reconstruction.named_parameters()}
    trainable = {name for name, p in phase.trained.named_parameters() if p.requires_grad}
    adapter = {name for name in reconstruction if ".adapter." in name}
    # The reconstruction losses train the reconstruction branch and nothing of the reasoning branch ...
    assert from_geometry <= reconstruction
    untouched = (reconstruction & trainable) - from_geometry
    assert all(any(part in name for part in SEMANTIC_ONLY) for name in untouched), untouched
    # ... and the vision-language loss trains the reasoning branch and the adapter, nothing else of the reconstruction.
    assert from_language & reconstruction <= adapter
    assert any(SEMANTIC_ONLY[0] in name for name in from_language)
    left_out = {name for name in trainable - reconstruction if name not in from_language}
    assert all(any(part in name for part in PROPOSALS) for name in left_out), left_out
    # Both meet in the bridge.
    assert from_geometry & from_language & adapter


def test_all_losses_fall_together(phase):
    optimizer = torch.optim.AdamW([p for p in phase.trained.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(12):
        loss, values, frames = phase.step(0)  # the same questions each time
        assert frames == 4 and loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(phase.trained.parameters(), 1.0)
        optimizer.step()
        history.append(values)
    for name in ("depth", "metric", "language", "grounding"):
        assert history[-1][name] < history[0][name], (name, [h[name] for h in history])


def test_a_step_draws_the_same_questions_whenever_it_is_run(phase):
    first, again, other = (phase.step(index)[1] for index in (5, 5, 6))
    assert first == again and first["language"] != other["language"]


def test_mixed_precision_leaves_metres_alone(phase):
    """Under bfloat16 the network rounds, but what it is held against, and where tokens stand, is not rounded."""
    samples = next(phase.stream)
    with torch.no_grad():
        exact = phase.losses(samples, np.random.default_rng(0))[2]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = phase.losses(samples, np.random.default_rng(0))[2]
    for name in ("camera", "depth", "points", "metric", "language"):
        assert mixed[name] == pytest.approx(exact[name], rel=0.02, abs=1e-3), name
    with torch.autocast("cpu", torch.bfloat16):
        geometry, language, _ = phase.losses(samples, np.random.default_rng(0))
    assert {p.dtype for p in phase.trained.parameters()} == {torch.float32}
    assert "reconstruction.depth_head.conv1.weight" in reached(phase, geometry + language)
