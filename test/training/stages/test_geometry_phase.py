"""The geometry phase: a step over rendered rooms, the curriculum, and that it learns."""

import pytest
import torch
from miniature import reconstruction_model

from vidllm_ros.training.data.room_stream import BatchPlan
from vidllm_ros.training.loop import LoopConfig, TrainingLoop
from vidllm_ros.training.stages.geometry import GeometryModel, GeometryPhase, GeometryPhaseConfig, metric_error

SHORT, LONG = BatchPlan(windows=2, frames=2), BatchPlan(windows=1, frames=3)


@pytest.fixture
def phase(tmp_path) -> GeometryPhase:
    torch.manual_seed(0)
    model = GeometryModel(reconstruction_model())
    loop = TrainingLoop(model, LoopConfig(minutes=1.0), tmp_path)
    return GeometryPhase(model, GeometryPhaseConfig(curriculum=((0.5, SHORT), (1.0, LONG))), loop, workers=0)


def test_a_step_gives_a_finite_loss_and_gradients(phase):
    loss, values, frames = phase.step(0)
    assert frames == 4 and loss.isfinite()
    assert values.keys() >= {"camera", "depth", "points", "metric", "abs_rel", "label", "match"}
    assert all(value == value for value in values.values())
    loss.backward()
    for name, parameter in phase.model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    untouched = {name for name, p in phase.model.named_parameters() if p.requires_grad and p.grad is None}
    assert not untouched


def test_the_curriculum_follows_the_budget(phase):
    frames = []
    for seconds in (0.0, 29.0, 31.0, 60.0):
        phase.loop.seconds = seconds
        frames.append(phase.step(len(frames))[2])
    assert frames == [4, 4, 3, 3]


def test_the_auxiliary_heads_stay_out_of_the_network(phase):
    names = phase.model.reconstruction.state_dict()
    assert not [name for name in names if "auxiliary" in name or "probe" in name]


def test_metric_error():
    truth = torch.tensor([[2.0, 0.0, 4.0]])
    assert metric_error(torch.tensor([[1.0, 9.0, 5.0]]), truth) == pytest.approx((0.5 + 0.25) / 2)
