"""The reasoning phase: what a reconstructed scene holds, what a step trains, what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from miniature import full_config

from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.training.data.room_stream import BatchPlan
from vidllm_ros.training.loop import LoopConfig, TrainingLoop
from vidllm_ros.training.losses.reasoning import ReasoningModel, draw_questions
from vidllm_ros.training.losses.reasoning_scene import reconstructed_scene, scene_boxes
from vidllm_ros.training.rooms import LABELS, room_sample, scene_from_world, vocabulary_texts
from vidllm_ros.training.stages.reasoning import ReasoningPhase, ReasoningPhaseConfig

SIZE = (84, 112)


@pytest.fixture(scope="module")
def model() -> VidLLM:
    torch.manual_seed(0)
    small = replace(full_config(), image_size=SIZE)
    model = VidLLM(small, train_tokenizer(vocabulary_texts(2000), 600))
    model.reconstruction.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def sample():
    return room_sample(5, "train", frames=3, image_size=SIZE, stride=4, tasks=12)


def with_the_truth(model, sample):
    """The network's output with depth, cameras and intrinsics replaced by the ground truth."""
    images = torch.from_numpy(sample.rgb).permute(0, 3, 1, 2).float()[None] / 255
    output = model.reconstruct(images)
    camera_from_first = np.linalg.inv(sample.T_world_camera) @ sample.T_world_camera[0]
    return replace(
        output,
        depth=torch.from_numpy(sample.depth)[None],
        camera_from_world=torch.from_numpy(camera_from_first[None, :, :3]).float(),
        intrinsics=torch.from_numpy(sample.intrinsics)[None].float(),
    )


def test_tokens_know_what_they_show(model, sample):
    scene = reconstructed_scene(model, with_the_truth(model, sample), 0, sample)
    assert len(scene.shown) == len(scene.placed.positions)
    assert scene.shown.min() == -1 and (scene.shown >= 0).sum() > 5
    T_scene_world = scene_from_world(sample.T_world_camera)
    for index in scene.shown.unique().tolist():
        if index < 0:
            continue
        assert scene.classes[index] == LABELS.index(sample.boxes[index].label)
        points = scene.placed.positions[scene.shown == index].double().numpy()
        box = sample.boxes[index]
        world = (points - T_scene_world[:3, 3]) @ T_scene_world[:3, :3]
        local = (world - box.center) @ box.rotation
        # A patch's depth is its median, so a point may lie a little beside the object at its centre.
        assert np.median(np.abs(local) - np.asarray(box.size) / 2) < 0.1


def test_a_scene_with_every_patch_out_of_range(model, sample):
    truth = with_the_truth(model, sample)
    scene = reconstructed_scene(model, replace(truth, depth=truth.depth + 1e4), 0, sample)
    assert len(scene.placed.positions) == 0
    assert scene.shown_at(torch.zeros(2, 3)).tolist() == [-1, -1] and scene.shown_at(torch.zeros(0, 3)).tolist() == []
    asked = [draw_questions(scene, 4, 1, np.random.default_rng(0))]
    assert ReasoningModel(model).losses([scene], asked, ReasoningPhaseConfig().weights)[0].isfinite()


def test_surroundings_come_from_the_nearest_token(model, sample):
    scene = reconstructed_scene(model, with_the_truth(model, sample), 0, sample)
    seeds = scene.placed.positions[[0, 7, 30]] + 1e-4
    around = scene.surroundings(seeds, [[1]])
    assert around.shown.tolist() == scene.shown[[0, 7, 30]].tolist()
    assert torch.equal(around.boxes, scene_boxes(sample))


def test_a_step_trains_language_and_boxes_and_nothing_else(model, tmp_path):
    trained = ReasoningModel(model)
    loop = TrainingLoop(trained, LoopConfig(minutes=1.0), tmp_path)
    config = ReasoningPhaseConfig(
        plan=BatchPlan(windows=2, frames=3, stride=(2, 3), fresh=2, tasks=6), tasks=4, blind=0
    )
    phase = ReasoningPhase(model, trained, config, loop, workers=0)
    loss, values, frames = phase.step(0)
    assert frames == 6 and loss.isfinite()
    assert values.keys() >= {"language", "correct", "grounding", "category", "words", "l1", "match", "calibration"}
    loss.backward()
    assert all(p.grad is None for p in model.reconstruction.parameters())
    left_out = {name for name, p in trained.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    # The proposal protocol has its own heads, which rooms do not train.
    assert all("object_match" in n or "phrase_match" in n or "zero_proposal" in n for n in left_out), left_out


def test_blind_steps_train_no_boxes(model, tmp_path):
    trained = ReasoningModel(model)
    loop = TrainingLoop(trained, LoopConfig(minutes=1.0), tmp_path)
    config = ReasoningPhaseConfig(plan=BatchPlan(windows=1, frames=2, fresh=1, tasks=6), tasks=4, blind=1.0)
    _, values, _ = ReasoningPhase(model, trained, config, loop, workers=0).step(0)
    assert values.keys() == {"blind"}
