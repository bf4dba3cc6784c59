"""The shared encoder against DINOv2 with registers written out in float64."""

import numpy as np
import pytest
import torch
from float64_layers import (
    antialiased_bicubic,
    attend,
    gelu,
    heads_of,
    inside,
    layer_norm,
    linear,
    randomize,
    weights,
)

from vidllm_ros.model.config import EncoderConfig
from vidllm_ros.model.reconstruction.encoder import Encoder, keep_checkpoint_names

DIM, LAYERS, HEADS, REGISTERS, SLOTS = 16, 3, 2, 2, 4
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def encoder(feature_layers=(0, 2), seed: int = 0) -> Encoder:
    config = EncoderConfig(
        dim=DIM, layers=LAYERS, heads=HEADS, registers=REGISTERS, mlp_ratio=4, position_grid=SLOTS,
        feature_layers=feature_layers,
    )  # fmt: skip
    return randomize(Encoder(config, (28, 42)), seed).eval()


def images(frames: int = 2, height: int = 28, width: int = 42, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def position_table(w, rows: int, columns: int) -> np.ndarray:
    """The learned grid at another size: bicubic, filtered against aliasing, no offset; [rows * columns, C]."""
    table = w["embeddings.position_embeddings"][0, 1:].reshape(SLOTS, SLOTS, -1)
    down, across = antialiased_bicubic(rows, SLOTS), antialiased_bicubic(columns, SLOTS)
    return np.einsum("ri,cj,ijd->rcd", down, across, table).reshape(rows * columns, -1)


def dinov2(w, pixels: np.ndarray, kept, eps: float = 1e-6) -> np.ndarray:
    """Patch tokens [F, L, N, C] of the layers ``kept``, each after the final LayerNorm."""
    frames, _, height, width = pixels.shape
    rows, columns = height // 14, width // 14
    normalized = (pixels - MEAN[:, None, None]) / STD[:, None, None]
    blocks = normalized.reshape(frames, 3, rows, 14, columns, 14)
    kernel = w["embeddings.patch_embeddings.projection.weight"]
    patches = np.einsum("fcrinj,dcij->frnd", blocks, kernel)
    patches = patches.reshape(frames, rows * columns, -1) + w["embeddings.patch_embeddings.projection.bias"]
    patches = patches + position_table(w, rows, columns)
    first = w["embeddings.cls_token"][0] + w["embeddings.position_embeddings"][0, :1]
    # Registers join after the positions are added: they have none.
    special = np.concatenate([first, w["embeddings.register_tokens"][0]])
    x = np.concatenate([np.broadcast_to(special, (frames, *special.shape)), patches], axis=1)
    features = []
    for layer in range(LAYERS):
        b = inside(w, f"encoder.layer.{layer}")
        normed = layer_norm(b, "norm1", x, eps)
        q, k, v = (heads_of(linear(b, f"attention.{name}_proj", normed), HEADS) for name in "qkv")
        x = x + b["layer_scale1.lambda1"] * linear(b, "attention.o_proj", attend(q, k, v))
        hidden = gelu(linear(b, "mlp.fc1", layer_norm(b, "norm2", x, eps)))
        x = x + b["layer_scale2.lambda1"] * linear(b, "mlp.fc2", hidden)
        if layer in kept:
            features.append(layer_norm(w, "layernorm", x, eps)[:, 1 + REGISTERS :])
    return np.stack(features, axis=1)


@pytest.mark.parametrize("size", [(28, 42), (56, 56), (70, 28), (14, 98), (84, 112)])
def test_features_are_final_normed_patch_tokens(size):
    model = encoder().double()
    pixels = images(2, *size)
    expected = dinov2(weights(model.dinov2), pixels.double().numpy(), (0, 2))
    np.testing.assert_allclose(model(pixels.double()).detach().numpy(), expected, atol=1e-5)


def test_layer_norm_epsilon_is_one_millionth():
    # Tokens so small that their variance is about the epsilon tell 1e-6 from 1e-5.
    model = encoder().double()
    with torch.no_grad():
        for parameter in model.dinov2.embeddings.parameters():
            parameter.mul_(2e-3)
    pixels = images().double()
    features = model(pixels).detach().numpy()
    arrays = weights(model.dinov2), pixels.numpy(), (0, 2)
    np.testing.assert_allclose(features, dinov2(*arrays, eps=1e-6), atol=1e-5)
    assert np.abs(features - dinov2(*arrays, eps=1e-5)).max() > 1e-2


@pytest.mark.parametrize("grid", [(4, 4), (2, 3), (3, 2), (4, 5), (6, 4), (37, 28), (37, 49), (1, 1), (16, 1)])
def test_positions_are_interpolated_bicubically_against_aliasing_without_offset(grid):
    model = encoder()
    tokens = torch.zeros(1, 1 + grid[0] * grid[1], DIM)
    embeddings = model.dinov2.embeddings
    table = embeddings.interpolate_pos_encoding(tokens, 14 * grid[0], 14 * grid[1])[0].detach().numpy()
    np.testing.assert_allclose(table[1:], position_table(weights(model.dinov2), *grid), atol=1e-6)
    np.testing.assert_array_equal(table[0], embeddings.position_embeddings[0, 0].detach().numpy())


def test_the_learned_grid_itself_is_used_unchanged():
    embeddings = encoder().dinov2.embeddings
    table = embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + SLOTS**2, DIM), 14 * SLOTS, 14 * SLOTS)
    assert torch.equal(table, embeddings.position_embeddings)


def test_queries_and_keys_are_not_normalised():
    assert not [name for name, _ in encoder().named_parameters() if "q_norm" in name or "k_norm" in name]


@torch.no_grad()
def test_a_frame_alone_gives_what_it_gives_among_others():
    model, pixels = encoder(), images(5)
    together = model(pixels)
    alone = torch.cat([model(frame[None]) for frame in pixels])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_kept_layers_do_not_change_each_other():
    every, last = encoder((0, 1, 2)), encoder((2,))
    assert every(images()).shape == (2, 3, 6, DIM)
    torch.testing.assert_close(every(images())[:, 2:], last(images()), rtol=0, atol=0)


def test_colours_are_normalised_with_constants_that_are_no_weights():
    model = encoder()
    assert not [name for name in model.state_dict() if "mean" in name or "std" in name]
    np.testing.assert_allclose(model.mean.flatten().numpy(), MEAN, rtol=1e-6)
    np.testing.assert_allclose(model.std.flatten().numpy(), STD, rtol=1e-6)


@pytest.mark.parametrize("size", [(28, 43), (30, 42)])
def test_sides_that_cut_a_patch_are_refused(size):
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]}.*patch size 14"):
        encoder()(images(1, *size))


def test_every_trainable_weight_gets_a_finite_gradient():
    model = encoder()
    (model(images()) * torch.randn(2, 2, 6, DIM)).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["dinov2.embeddings.mask_token"]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_take_float32_images(dtype):
    model = encoder()
    expected = model(images())
    model.dinov2.to(dtype)
    features = model(images())
    assert features.dtype == dtype
    assert (features - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_checkpoints_have_the_same_names_whatever_version_of_transformers_wrote_them():
    model = encoder()
    names = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert "dinov2.encoder.layer.0.attention.q_proj.weight" in names
    # Attention as transformers 5.0 nests it.
    for layer in model.dinov2.encoder.layer:
        installed, older = layer.attention, torch.nn.Module()
        older.attention, older.output = torch.nn.Module(), torch.nn.Module()
        older.attention.query, older.attention.key = installed.q_proj, installed.k_proj
        older.attention.value, older.output.dense = installed.v_proj, installed.o_proj
        layer.attention = older
    assert "dinov2.encoder.layer.0.attention.attention.query.weight" in model.state_dict()
    keep_checkpoint_names(model.dinov2)
    assert model.state_dict().keys() == names.keys()
    changed = {name: tensor + 1 for name, tensor in names.items()}
    assert not any(model.load_state_dict(changed, strict=True))
    assert all(torch.equal(tensor, changed[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(older.attention.key.weight, changed["dinov2.encoder.layer.2.attention.k_proj.weight"])
