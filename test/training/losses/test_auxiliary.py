"""Dense auxiliary supervision: which patch sees which point, and losses that stay finite without targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from miniature import GRID, IMAGE_SIZE, reconstruction_model
from posed_windows import H, W, random_sample, wall_sample

from vidllm_ros.training.losses.auxiliary import (
    IGNORED,
    AttentionProbe,
    AuxiliaryHeads,
    at_patch_centres,
    patch_correspondences,
)
from vidllm_ros.training.losses.targets import geometry_targets

PATCH = 14
ROWS, COLUMNS = GRID


def heads() -> AuxiliaryHeads:
    torch.manual_seed(0)
    return AuxiliaryHeads(32, ["chair", "table"], ["red", "green", "blue"], match_dim=8)


def aux_losses(samples, model=None, auxiliary=None):
    model, targets = model or reconstruction_model(), geometry_targets(samples)
    features = model.encode(targets.images.flatten(0, 1)).unflatten(0, targets.images.shape[:2])
    output = model(features, IMAGE_SIZE)
    heads_ = auxiliary or heads()
    return heads_(features, output.semantic_tokens, output.geometry_tokens, targets, samples, PATCH)


def test_patch_centres_are_taken_row_by_row():
    image = torch.arange(H * W).view(1, 1, H, W)
    expected = [(14 * row + 7) * W + 14 * column + 7 for row in range(ROWS) for column in range(COLUMNS)]
    assert at_patch_centres(image, PATCH).flatten().tolist() == expected


def test_a_step_to_the_right_moves_the_wall_one_patch_to_the_left():
    # 1.4 m at a focal length of 30 pixels and 3 m distance are 14 pixels, one patch.
    targets = geometry_targets([wall_sample([0.0, 1.4])])
    seen = patch_correspondences(targets, [(0, 1)], PATCH, 0.05)[0, 0].view(ROWS, COLUMNS)
    assert seen.tolist() == [[IGNORED, 0, 1], [IGNORED, 3, 4]]
    back = patch_correspondences(targets, [(1, 0)], PATCH, 0.05)[0, 0].view(ROWS, COLUMNS)
    assert back.tolist() == [[1, 2, IGNORED], [4, 5, IGNORED]]


def test_hidden_and_unknown_points_have_no_partner():
    sample = wall_sample([0.0, 0.0])
    near, unknown = sample.depth.copy(), sample.depth.copy()
    near[1, 7, 7] = 1.0  # something stands in front of the first patch's centre
    unknown[0, 7, 21] = 0.0
    for depth, missing in ((near, 0), (unknown, 1)):
        targets = geometry_targets([replace(sample, depth=depth)])
        seen = patch_correspondences(targets, [(0, 1)], PATCH, 0.05)[0, 0].tolist()
        assert seen == [IGNORED if n == missing else n for n in range(ROWS * COLUMNS)]


def test_a_point_behind_the_other_camera_has_no_partner():
    sample = wall_sample([0.0, 0.0])
    T = sample.T_world_camera.copy()
    T[1, :3, :3] = np.diag([-1.0, 1.0, -1.0])  # looking back
    targets = geometry_targets([replace(sample, T_world_camera=T)])
    assert (patch_correspondences(targets, [(0, 1)], PATCH, 0.05) == IGNORED).all()


@pytest.mark.parametrize("seed", range(3))
def test_partners_by_projection(seed):
    rng = np.random.default_rng(seed)
    shifts = list(rng.uniform(-1, 1, size=2))
    sample = wall_sample(shifts)
    T = sample.T_world_camera.copy()
    T[1, 1, 3] = rng.uniform(-0.5, 0.5)
    sample = replace(sample, T_world_camera=T)
    seen = patch_correspondences(geometry_targets([sample]), [(0, 1)], PATCH, 0.05)[0, 0]
    for n in range(ROWS * COLUMNS):
        row, column = divmod(n, COLUMNS)
        ray = np.linalg.inv(sample.intrinsics[0]) @ [14 * column + 7, 14 * row + 7, 1]
        world = T[0] @ [*(3.0 * ray), 1]
        u, v, z = sample.intrinsics[1] @ (np.linalg.inv(T[1]) @ world)[:3]
        u, v = round(u / z), round(v / z)
        inside = 0 <= u < W and 0 <= v < H
        assert seen[n] == (v // PATCH * COLUMNS + u // PATCH if inside else IGNORED)


def test_labels_name_objects_and_the_rooms_shell():
    sample = random_sample(frames=1)
    ids = np.full((1, H, W), -4, dtype=np.int16)
    for n, instance in enumerate((0, 1, -1, -2, -3, -4)):
        row, column = divmod(n, COLUMNS)
        ids[0, 14 * row + 7, 14 * column + 7] = instance
    label, color = heads().labels([replace(sample, instances=ids)], PATCH)
    # Wall, floor and ceiling come first, then the classes.
    assert label.flatten().tolist() == [3, 4, 0, 1, 2, IGNORED]
    assert color.flatten().tolist() == [0, 1, IGNORED, IGNORED, IGNORED, IGNORED]


def test_labels_without_boxes_or_with_unknown_names():
    wall = wall_sample([0.0])
    label, color = heads().labels([wall], PATCH)
    assert (label == 0).all() and (color == IGNORED).all()
    sample = random_sample(frames=1)
    strange = replace(
        sample, boxes=tuple(replace(box, label="harp") for box in sample.boxes), instances=np.zeros((1, H, W), np.int16)
    )
    assert (heads().labels([strange], PATCH)[0] == IGNORED).all()


def test_tokens_that_all_look_alike_match_at_chance():
    targets = geometry_targets([wall_sample([0.0, 0.0, 0.0])])
    auxiliary = heads()
    tokens = torch.ones(1, 3, ROWS * COLUMNS, 32)
    loss = auxiliary.match_loss(tokens, auxiliary.match, targets, PATCH)
    torch.testing.assert_close(loss, torch.tensor(np.log(ROWS * COLUMNS), dtype=torch.float32))


def test_tokens_that_tell_the_places_apart_match():
    targets = geometry_targets([wall_sample([0.0, 0.0])])
    auxiliary = AuxiliaryHeads(32, ["chair"], ["red"], match_dim=32)
    tokens = 5 * torch.eye(32)[: ROWS * COLUMNS].expand(1, 2, -1, -1)
    with torch.no_grad():
        auxiliary.match.weight.copy_(torch.eye(32))
        auxiliary.match.bias.zero_()
        right = auxiliary.match_loss(tokens, auxiliary.match, targets, PATCH)
        swapped = torch.stack([tokens[0, 0], tokens[0, 1].flip(0)])[None]
        wrong = auxiliary.match_loss(swapped, auxiliary.match, targets, PATCH)
    assert right < 0.01 < np.log(6) < wrong


def test_every_loss_trains_its_head_and_the_network():
    model, auxiliary = reconstruction_model(), heads()
    samples = [
        replace(wall_sample([0.0, 0.5, 1.0], seed=seed), instances=random_sample(seed=seed).instances,
                boxes=random_sample().boxes, colors=("red", "blue"))
        for seed in range(2)
    ]  # fmt: skip
    losses = aux_losses(samples, model, auxiliary)
    assert losses.keys() >= {"patch_point", "match", "match_deep", "place", "label", "color"}
    assert all(loss > 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in auxiliary.named_parameters():
        if name.startswith("own_place"):
            continue  # reads the tokens inside the backbone; see below
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("case", ["nothing labelled", "no overlap", "no depth at patch centres", "one frame"])
def test_losses_without_targets_are_zero_and_harmless(case):
    model, auxiliary = reconstruction_model(), heads()
    sample, without = wall_sample([0.0, 0.2]), {"patch_point"}
    if case == "nothing labelled":
        sample, without = replace(sample, instances=np.full_like(sample.instances, -4)), {"label", "color"}
    elif case == "no overlap":
        sample, without = wall_sample([0.0, 100.0]), {"match", "match_deep", "place"}
    elif case == "one frame":
        sample, without = wall_sample([0.0]), {"match", "match_deep", "place"}
    else:
        depth = sample.depth.copy()
        depth[:, 7::14, 7::14] = 0
        sample = replace(sample, depth=depth)
    losses = aux_losses([sample], model, auxiliary)
    assert all(losses[name] == 0 for name in without)
    sum(losses.values()).backward()
    for name, parameter in [*auxiliary.named_parameters(), *model.named_parameters()]:
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_the_place_of_a_point_in_the_first_image():
    targets = geometry_targets([wall_sample([0.0, 1.4])])
    auxiliary = AuxiliaryHeads(32, ["chair"], ["red"])
    with torch.no_grad():
        auxiliary.place[1].weight.zero_()
        auxiliary.place[1].bias.copy_(torch.tensor([0.5, 0.5]))
        loss = auxiliary.place_loss(torch.randn(1, 2, 6, 64), targets, PATCH)
    # The second camera sees the first image's pixels 14 columns further right; the first frame does not count.
    columns, rows = np.meshgrid((7 + 14 * np.arange(COLUMNS) + 14) / W, (7 + 14 * np.arange(ROWS)) / H)
    expected = (np.abs(columns - 0.5) + np.abs(rows - 0.5)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_a_patchs_own_place():
    auxiliary = AuxiliaryHeads(32, ["chair"], ["red"])
    with torch.no_grad():
        auxiliary.own_place.weight.zero_()
        auxiliary.own_place.bias.zero_()
        loss = auxiliary.own_place_loss(torch.randn(1, 2, 6, 32), GRID)
    np.testing.assert_allclose(loss, 0.5 + 0.5, rtol=1e-6)  # the mean of u and that of v


def probed(frames: int = 3):
    model, seen = reconstruction_model(), {}
    probe = AttentionProbe(model.backbone, 1)
    attention = model.backbone.global_blocks[1].attn
    attention.proj.register_forward_pre_hook(lambda module, args: seen.update(mixed=args[0]))
    tokens = torch.randn(2, frames, 6, 32, generator=torch.Generator().manual_seed(0))
    model.backbone(tokens, GRID)
    return model, probe, attention, seen


def test_the_probe_sees_the_attention_that_is_computed():
    model, probe, attention, seen = probed()
    q, k = (x.flatten(2, 3) for x in probe.queries_and_keys(frames=3, heads=2))
    x, _ = probe.inputs
    b, n, c = x.shape
    values = attention.qkv(x)[..., 2 * c :].reshape(b, n, 2, c // 2).transpose(1, 2)
    mixed = (q @ k.mT).softmax(-1) @ values
    torch.testing.assert_close(mixed.transpose(1, 2).reshape(b, n, c), seen["mixed"], rtol=1e-4, atol=1e-5)
    assert probe.tokens(3).shape == (2, 3, 6, 32)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_probes_loss_teaches_queries_and_keys(frames):
    model, probe, attention, _ = probed(frames)
    shifts = [0.4 * i for i in range(frames)]
    loss = probe.loss(geometry_targets([wall_sample(shifts), wall_sample(shifts)]), PATCH)
    if frames == 1:
        assert loss == 0
        return
    loss.backward()
    assert loss > 0 and attention.qkv.weight.grad.isfinite().all()
    queries, keys, values = attention.qkv.weight.grad.chunk(3)
    assert queries.any() and keys.any() and not values.any()
