"""Stage 1 with real teachers: a checkpoint of ours and a miniature CLIP tower from transformers."""

import numpy as np
import pytest
import torch
from miniature import reconstruction_model
from posed_windows import random_sample
from transformers import CLIPVisionConfig, CLIPVisionModel

from vidllm_ros.model import VidLLM
from vidllm_ros.training.losses.distillation import DistillationWeights
from vidllm_ros.training.stages.distillation import DistillationModel, DistillationPhase
from vidllm_ros.training.stages.teachers import CachedTeacher, CheckpointTeacher, ClipTeacher, TeacherError

GRID = (2, 3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    CLIPVisionModel(config).save_pretrained(folder)
    return folder


def frames(seed: int = 0, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 28, 42, generator=torch.Generator().manual_seed(seed))


def test_a_checkpoint_teaches_what_its_own_network_computes(tiny_checkpoint):
    model, images = VidLLM.from_pretrained(tiny_checkpoint), frames()
    encoded = model.encode(images)
    torch.testing.assert_close(CheckpointTeacher(tiny_checkpoint).features(images, GRID), encoded[:, -1])
    semantic = CheckpointTeacher(tiny_checkpoint, "semantic").features(images, GRID)
    for frame in range(2):  # each frame on its own
        with torch.inference_mode():
            expected = model.reconstruction.adapter(encoded[frame : frame + 1, -1][None])[1][0, 0]
        torch.testing.assert_close(semantic[frame], expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(TeacherError, match="no stream 'depth'"):
        CheckpointTeacher(tiny_checkpoint, "depth")


def test_clip_gives_the_last_layer_but_one_on_the_students_grid(clip):
    teacher = ClipTeacher(clip)
    assert teacher.dim == 24
    own = teacher.features(frames(), (4, 4))
    tower = CLIPVisionModel.from_pretrained(clip).eval()
    squared = torch.nn.functional.interpolate(frames(), (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.no_grad():
        states = tower((squared - mean) / std, output_hidden_states=True).hidden_states
    torch.testing.assert_close(own, states[2][:, 1:])
    assert teacher.features(frames(), GRID).shape == (2, 6, 24)
    with pytest.raises(TeacherError, match="is no CLIP model"):
        ClipTeacher(clip.parent / "nowhere")


def test_features_are_computed_once_and_for_these_pixels_only(tiny_checkpoint, tmp_path):
    cached = CachedTeacher(CheckpointTeacher(tiny_checkpoint), tmp_path)
    first = cached.features(frames(), GRID)
    again = CachedTeacher(CheckpointTeacher(tiny_checkpoint), tmp_path)
    torch.testing.assert_close(again.features(frames(), GRID), first, rtol=0, atol=0)
    assert (cached.computed, again.computed) == (1, 0)
    changed = frames()
    changed[0, 0, 0, 0] = 1 - changed[0, 0, 0, 0]
    again.features(changed, GRID)
    again.features(frames(), (1, 1))
    assert again.computed == 2
    assert not list(tmp_path.rglob("*.partial"))


def test_the_student_comes_to_agree_with_both_teachers(tiny_checkpoint, clip):
    teachers = (CheckpointTeacher(tiny_checkpoint), ClipTeacher(clip))
    student = reconstruction_model(seed=9).train()
    model = DistillationModel(student, teachers, DistillationWeights())
    samples = [random_sample(seed=1), random_sample(seed=2)]
    phase = DistillationPhase(model, teachers, iter(lambda: samples, None), student.config.patch_size)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for step in range(30):
        loss, values, count = phase.step(step)
        assert count == 2 * samples[0].rgb.shape[0] and values.keys() == {"geometry", "language", "structure"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append([values["geometry"], values["language"], values["structure"]])
    first, last = np.array(history[0]), np.array(history[-1])
    assert (last < 0.7 * first).all(), (first, last)


def test_every_trained_parameter_is_reached(tiny_checkpoint, clip):
    teachers = (CheckpointTeacher(tiny_checkpoint), ClipTeacher(clip))
    student = reconstruction_model(seed=9).train()
    model = DistillationModel(student, teachers, DistillationWeights())
    samples = [random_sample(seed=1)]
    DistillationPhase(model, teachers, iter(lambda: samples, None), 14).step(0)[0].backward()
    missing = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not missing
    assert all(p.grad is None for p in student.backbone.parameters())
