"""The assembled network: scenes from windows, questions through the parts it really has."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from float64_layers import randomize
from miniature import IMAGE_SIZE, TEXTS, config, full_config, vidllm, window
from scipy.spatial.transform import Rotation

from vidllm_ros.model import ConfigError, QuestionError, VidLLM
from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.patches import PatchConfig
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.sizes import nano
from vidllm_ros.model.vidllm import LEVEL_FROM_OPTICAL, scene_poses

QUESTION = "How many chairs are there?"


@pytest.fixture(scope="module")
def model() -> VidLLM:
    return vidllm()


@pytest.fixture(scope="module")
def geometry(model):
    return model.reconstruct(window(frames=5))


def test_features_may_stand_in_for_images(model):
    images = window(frames=3, batch=2)
    tokens = torch.stack([model.encode(frames) for frames in images])
    out, again = model.reconstruct(images), model.reconstruct(tokens=tokens)
    torch.testing.assert_close(again.depth, out.depth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.camera_from_world, out.camera_from_world, rtol=1e-5, atol=1e-5)


def test_features_of_another_image_size(model):
    images = window(frames=2, image_size=(42, 56))
    tokens = model.encode(images[0])[None]
    assert model.reconstruct(tokens=tokens, image_size=(42, 56)).depth.shape == (1, 2, 42, 56)
    with pytest.raises(ValueError, match=r"28 x 42 image"):
        model.reconstruct(tokens=tokens)


@pytest.mark.parametrize("both", [True, False])
def test_images_or_tokens_but_not_both_or_neither(model, both):
    images = window(frames=2)
    given = {"images": images, "tokens": model.encode(images[0])[None]} if both else {}
    with pytest.raises(ValueError, match="either images or tokens"):
        model.reconstruct(**given)


def test_a_level_camera_looks_along_x_with_z_up():
    forward, right, down = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]], float)
    np.testing.assert_array_equal(LEVEL_FROM_OPTICAL @ forward, [1, 0, 0, 0])
    np.testing.assert_array_equal(LEVEL_FROM_OPTICAL @ right, [0, -1, 0, 0])
    np.testing.assert_array_equal(LEVEL_FROM_OPTICAL @ down, [0, 0, -1, 0])
    np.testing.assert_allclose(np.linalg.det(LEVEL_FROM_OPTICAL), 1)


def test_scene_poses_invert_the_networks_and_move_them():
    rng = np.random.default_rng(0)
    T_camera_world = np.tile(np.eye(4), (3, 1, 1))
    T_camera_world[:, :3, :3], T_camera_world[:, :3, 3] = (
        Rotation.random(3, rng=rng).as_matrix(),
        rng.normal(size=(3, 3)),
    )
    T_scene_window = np.eye(4)
    T_scene_window[:3, :3], T_scene_window[:3, 3] = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    got = scene_poses(torch.tensor(T_camera_world[:, :3]), T_scene_window)
    np.testing.assert_allclose(got.numpy(), T_scene_window @ np.linalg.inv(T_camera_world), atol=1e-12)


def test_a_scene_holds_the_windows_points_in_the_scene_frame():
    fine = replace(full_config(), patches=PatchConfig(32, 16, voxel_size=1e-4, max_tokens=10_000))  # one point a voxel
    torch.manual_seed(0)
    model = VidLLM(fine, train_tokenizer(TEXTS))
    geometry = model.reconstruct(window(frames=3))
    T_scene_window = np.eye(4)
    T_scene_window[:3, :3] = Rotation.from_euler("z", 40, degrees=True).as_matrix() @ LEVEL_FROM_OPTICAL[:3, :3]
    T_scene_window[:3, 3] = [3, -2, 1]
    level = model.build_scene(geometry).positions.double().numpy()
    moved = model.build_scene(geometry, T_scene_window).positions.double().numpy()
    assert len(level) == len(moved) == 18  # every patch of the three frames
    turn = T_scene_window @ np.linalg.inv(LEVEL_FROM_OPTICAL)
    expected = level @ turn[:3, :3].T + turn[:3, 3]
    distance = np.linalg.norm(expected[:, None] - moved, axis=-1)
    assert distance.min(axis=0).max() < 1e-4 and distance.min(axis=1).max() < 1e-4


def test_language_reads_a_scene_coarser_than_boxes_are_found_in():
    two_grains = replace(full_config(), patches=PatchConfig(32, 16, voxel_size=1e-4, max_tokens=15, language_tokens=6))
    torch.manual_seed(0)
    model = VidLLM(two_grains, train_tokenizer(TEXTS))
    scene = model.build_scene(model.reconstruct(window(frames=3)))
    prefix = model.read_scene(scene)
    assert 6 < len(scene.positions) <= 15 and prefix.scene is scene
    marks = model.read_scene(SceneTokens(scene.features[:0], scene.positions[:0])).length
    assert 1 <= prefix.length - marks <= 6


def test_lifted_positions_are_the_back_projected_patch_centres(model, geometry):
    first = {
        "tokens": geometry.semantic_tokens[0, :1],
        "depth": geometry.depth[0, :1],
        "intrinsics": geometry.intrinsics[0, :1],
        "pose": scene_poses(geometry.camera_from_world[0, :1], LEVEL_FROM_OPTICAL),
    }
    lifted = model.patches.lift(*first.values(), geometry.patch_size)
    k = geometry.intrinsics[0, 0].double().numpy()
    R, t = np.split(geometry.camera_from_world[0, 0].double().numpy(), [3], axis=1)
    # The scene is the window's world with its axes renamed: x = z, y = -x, z = -y.
    for index, position in enumerate(lifted.positions.double().numpy()):
        row, column = divmod(index, IMAGE_SIZE[1] // 14)
        world = np.array([-position[1], -position[2], position[0]])
        u, v, w = k @ (R @ world + t[:, 0])
        np.testing.assert_allclose([u / w, v / w], [14 * column + 6.5, 14 * row + 6.5], atol=1e-3)


def test_the_second_window_of_a_batch(model):
    images = window(frames=3, batch=2)
    both = model.reconstruct(images)
    alone = model.build_scene(model.reconstruct(images[1:]))
    scene = model.build_scene(both, batch=1)
    torch.testing.assert_close(scene.positions, alone.positions, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scene.features, alone.features, rtol=1e-3, atol=1e-3)


def test_geometry_scene_and_prefix_answer_alike(model, geometry):
    scene = model.build_scene(geometry)
    prefix = model.read_scene(scene)
    answers = [model.ask(source, QUESTION, max_new_tokens=8) for source in (geometry, scene, prefix, prefix)]
    assert len({answer.text for answer in answers}) == 1
    np.testing.assert_allclose([answer.confidence for answer in answers], answers[0].confidence, atol=1e-5)
    boxes = [model.locate(source, ["chair", "table"], min_score=0.0) for source in (geometry, scene, prefix)]
    assert boxes[0] and {box.label for box in boxes[0]} == {"chair", "table"}
    for others in boxes[1:]:
        np.testing.assert_allclose([b.center for b in others], [b.center for b in boxes[0]], atol=1e-4)


def test_answers_stream_and_stop(model, geometry):
    pieces: list[str] = []
    whole = model.ask(geometry, QUESTION, max_new_tokens=12)
    streamed = model.ask(geometry, QUESTION, max_new_tokens=12, on_text=lambda text: pieces.append(text) or True)
    assert "".join(pieces) == streamed.text == whole.text and streamed.finished
    stopped = model.ask(geometry, QUESTION, max_new_tokens=12, on_text=lambda text: False)
    assert not stopped.finished


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(model, geometry, question):
    with pytest.raises(QuestionError):
        model.ask(geometry, question)


def test_a_reconstruction_only_network_says_what_it_lacks():
    bare = VidLLM(config())
    geometry = bare.reconstruct(window(frames=2))
    for use in (lambda: bare.ask(geometry, QUESTION), lambda: bare.locate(geometry, ["chair"])):
        with pytest.raises(ConfigError, match=r"'miniature'\) reconstructs only"):
            use()


def test_a_language_model_needs_its_tokenizer():
    with pytest.raises(ConfigError, match="configuration 'miniature' needs a tokenizer"):
        VidLLM(full_config())


def test_inference_leaves_no_gradients(model, geometry):
    assert geometry.depth.is_inference() and not geometry.depth.requires_grad
    assert not model.training


@pytest.fixture(scope="module")
def nano_model() -> VidLLM:
    torch.manual_seed(0)
    model = VidLLM(nano(), train_tokenizer(["How many chairs are there?"] * 10))
    randomize(model.reconstruction)
    return model


def test_nano_runs_end_to_end(nano_model):
    geometry = nano_model.reconstruct(window(frames=4, image_size=nano().image_size))
    assert geometry.depth.shape == (1, 4, 84, 112) and geometry.depth.isfinite().all()
    prefix = nano_model.read_scene(nano_model.build_scene(geometry))
    assert nano_model.ask(prefix, QUESTION, max_new_tokens=4).token_count <= 4
    nano_model.locate(prefix, ["chair"])


def test_nano_fits_in_fifteen_megabytes(nano_model, tmp_path):
    nano_model.save_pretrained(tmp_path, dtype="float16")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 15e6
