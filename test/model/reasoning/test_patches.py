"""3D patch construction against independent float64 computations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.patches import PatchConfig, PatchConstructor, PositionEncoding, patch_depth, voxel_pool

PATCH, ROWS, COLUMNS, FRAMES, DIM = 4, 3, 5, 2, 8


def constructor(**changes) -> PatchConstructor:
    torch.manual_seed(0)
    return PatchConstructor(PatchConfig(**({"feature_dim": DIM, "position_hidden": 16} | changes)))


def camera_views(seed: int = 0):
    """Semantic tokens, depth, intrinsics and the camera-from-world poses of Eq. 3."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(FRAMES, ROWS * COLUMNS, DIM))
    depth = rng.uniform(0.5, 6.0, size=(FRAMES, ROWS * PATCH, COLUMNS * PATCH))
    intrinsics = np.tile(np.array([[17.0, 0.0, 9.5], [0.0, 19.0, 6.5], [0.0, 0.0, 1.0]]), (FRAMES, 1, 1))
    rotations = Rotation.random(FRAMES, rng=rng).as_matrix()
    translations = rng.normal(size=(FRAMES, 3))
    return tokens, depth, intrinsics, rotations, translations


def scene_from_camera(rotations, translations):
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = rotations.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("sji,sj->si", rotations, translations)
    return poses


def tensors(*arrays):
    return [torch.tensor(array, dtype=torch.float32) for array in arrays]


def test_lifted_positions_are_equation_3():
    tokens, depth, intrinsics, rotations, translations = camera_views()
    expected = []
    for s in range(FRAMES):
        inverse_r, inverse_k = np.linalg.inv(rotations[s]), np.linalg.inv(intrinsics[s])
        for row in range(ROWS):
            for column in range(COLUMNS):
                block = depth[s, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
                distance = np.sort(block.ravel())[(block.size - 1) // 2]
                u = np.mean(np.arange(column * PATCH, (column + 1) * PATCH))
                v = np.mean(np.arange(row * PATCH, (row + 1) * PATCH))
                expected.append(inverse_r @ inverse_k @ [u, v, 1] * distance - inverse_r @ translations[s])
    pose = scene_from_camera(rotations, translations)
    scene = constructor().lift(*tensors(tokens, depth, intrinsics, pose), PATCH)
    np.testing.assert_allclose(scene.positions.numpy(), expected, atol=1e-5)


def test_lifted_features_are_equation_4():
    tokens, depth, intrinsics, rotations, translations = camera_views()
    patches = constructor()
    scene = patches.lift(*tensors(tokens, depth, intrinsics, scene_from_camera(rotations, translations)), PATCH)
    first, norm, _, last = patches.position.mlp
    weights = [p.detach().double().numpy() for layer in (first, norm, last) for p in (layer.weight, layer.bias)]
    hidden = scene.positions.double().numpy() @ weights[0].T + weights[1]
    hidden = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + norm.eps)
    embedded = np.maximum(hidden * weights[2] + weights[3], 0) @ weights[4].T + weights[5]
    expected = tokens.reshape(-1, DIM) + embedded
    np.testing.assert_allclose(scene.features.detach().numpy(), expected, atol=1e-5)


def test_fourier_features_are_waves_of_the_position():
    encoding = PositionEncoding(dim=4, hidden=8, frequencies=3, period=10.0)
    seen = []
    encoding.mlp[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    position = torch.tensor([[1.25, -3.0, 0.5]])
    encoding(position)
    angles = [2 * np.pi * x * 2**k / 10.0 for x in (1.25, -3.0, 0.5) for k in range(3)]
    np.testing.assert_allclose(seen[0][0].numpy(), [1.25, -3.0, 0.5, *np.sin(angles), *np.cos(angles)], atol=1e-6)


def test_gradient_reaches_the_semantic_tokens_and_never_the_geometry():
    tokens, depth, intrinsics, pose = tensors(*camera_views()[:3], scene_from_camera(*camera_views()[3:]))
    for tensor in (tokens, depth, intrinsics, pose):
        tensor.requires_grad_()
    patches = constructor()
    patches.pool(patches.lift(tokens, depth, intrinsics, pose, PATCH)).features.sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0
    assert depth.grad is None and intrinsics.grad is None and pose.grad is None


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 21.0])
def test_patches_without_usable_depth_are_dropped(bad):
    tokens, depth, intrinsics, pose = tensors(*camera_views()[:3], scene_from_camera(*camera_views()[3:]))
    whole = constructor().lift(tokens, depth, intrinsics, pose, PATCH)
    depth[1, PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH] = bad
    scene = constructor().lift(tokens, depth, intrinsics, pose, PATCH)
    dropped = ROWS * COLUMNS + COLUMNS + 2
    kept = [k for k in range(FRAMES * ROWS * COLUMNS) if k != dropped]
    torch.testing.assert_close(scene.features, whole.features[kept])
    assert scene.positions.isfinite().all()


def test_patch_depth_ignores_invalid_pixels():
    depth = torch.zeros(1, PATCH, PATCH)
    depth[0, 0, :3] = torch.tensor([2.0, 9.0, 3.0])
    depth[0, 1, 0] = float("nan")
    assert patch_depth(depth, PATCH).tolist() == [[3.0]]


def test_a_scene_without_any_depth_is_empty_and_still_pools():
    tokens, depth, intrinsics, pose = tensors(*camera_views()[:3], scene_from_camera(*camera_views()[3:]))
    patches = constructor()
    scene = patches.pool(patches.lift(tokens, torch.zeros_like(depth), intrinsics, pose, PATCH))
    assert scene.features.shape == (0, DIM) and scene.positions.shape == (0, 3)


def test_pooling_is_the_mean_of_each_voxel():
    rng = np.random.default_rng(1)
    positions, features = rng.uniform(-1, 1, size=(200, 3)), rng.normal(size=(200, DIM))
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, position in enumerate(positions.astype(np.float32)):
        groups.setdefault(tuple(np.rint(position / np.float32(0.4)).astype(int)), []).append(k)
    order = sorted(groups)
    pooled, centres = voxel_pool(*tensors(features, positions), 0.4)
    np.testing.assert_allclose(pooled.numpy(), [features[groups[v]].mean(0) for v in order], atol=1e-5)
    np.testing.assert_allclose(centres.numpy(), [positions[groups[v]].mean(0) for v in order], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.floats(1e-3, 1e6), st.integers(0, 2**31))
def test_pooling_always_fits_the_budget_and_keeps_the_centroid_inside(count, budget, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    positions = spread * torch.randn(count, 3, generator=generator)
    patches = constructor()
    scene = patches.pool(SceneTokens(torch.randn(count, DIM, generator=generator), positions), budget)
    assert 1 <= len(scene.positions) <= budget and len(scene.features) == len(scene.positions)
    margin = 1e-4 * spread
    assert (scene.positions >= positions.amin(0) - margin).all()
    assert (scene.positions <= positions.amax(0) + margin).all()


def test_half_precision_features_are_pooled_without_loss():
    ones = torch.ones(1000, DIM, dtype=torch.bfloat16)
    pooled = constructor().pool(SceneTokens(ones, torch.zeros(1000, 3)))
    assert pooled.features.dtype == torch.bfloat16 and (pooled.features == 1).all()


def test_pooling_does_not_depend_on_the_order_of_the_tokens():
    generator = torch.Generator().manual_seed(2)
    features, positions = torch.randn(400, DIM, generator=generator), torch.randn(400, 3, generator=generator)
    order = torch.randperm(400, generator=generator)
    first = constructor().pool(SceneTokens(features, positions), 50)
    second = constructor().pool(SceneTokens(features[order], positions[order]), 50)
    torch.testing.assert_close(first.positions, second.positions)
    torch.testing.assert_close(first.features, second.features)


def test_an_unlimited_budget_keeps_the_configured_voxel():
    positions = torch.tensor([[0.0, 0, 0], [0.05, 0, 0], [0.2, 0, 0], [5.0, 0, 0]])
    scene = constructor(voxel_size=0.2).pool(SceneTokens(torch.ones(4, DIM), positions), 1000)
    torch.testing.assert_close(scene.positions[:, 0], torch.tensor([0.025, 0.2, 5.0]))


def test_bad_input_is_named():
    tokens, depth, intrinsics, pose = tensors(*camera_views()[:3], scene_from_camera(*camera_views()[3:]))
    patches = constructor()
    with pytest.raises(ValueError, match="semantic tokens .* do not fit depth"):
        patches.lift(tokens[:, 1:], depth, intrinsics, pose, PATCH)
    with pytest.raises(ValueError, match="multiples of the patch"):
        patches.lift(tokens, depth, intrinsics, pose, 5)
    with pytest.raises(ValueError, match=r"T_scene_camera has shape \(2, 3, 4\)"):
        patches.lift(tokens, depth, intrinsics, pose[:, :3], PATCH)
    with pytest.raises(ValueError, match="budget is 0"):
        patches.pool(SceneTokens(tokens[0], torch.zeros(ROWS * COLUMNS, 3)), 0)
    with pytest.raises(ValueError, match="voxel_size is -1"):
        PatchConfig(feature_dim=8, position_hidden=8, voxel_size=-1)
    for name in ("max_tokens", "language_tokens"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            PatchConfig(**{"feature_dim": 8, "position_hidden": 8, name: 0})
