"""Global-Frame attention against its float64 definition."""

import numpy as np
import pytest
import torch
from float64_layers import attend, heads_of, inside, layer_norm, linear, mlp, randomize, weights
from test_rope import turned

from vidllm_ros.model.config import BackboneConfig
from vidllm_ros.model.reconstruction.backbone import GlobalFrameBackbone

DIM, HEADS, REGISTERS, PAIRS, GRID = 16, 2, 2, 5, (2, 3)
SPECIAL = 1 + REGISTERS


def backbone(head_layers=(0, 1, 3, 4), seed: int = 0) -> GlobalFrameBackbone:
    config = BackboneConfig(pairs=PAIRS, heads=HEADS, registers=REGISTERS, mlp_ratio=3.0, head_layers=head_layers)
    return randomize(GlobalFrameBackbone(config, DIM), seed).double().eval()


def geometry(frames: int = 3, batch: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, GRID[0] * GRID[1], DIM, dtype=torch.float64, generator=generator)


def block(w, x: np.ndarray, positions: np.ndarray, eps: float) -> np.ndarray:
    normed = layer_norm(w, "norm1", x, eps)
    q, k, v = (heads_of(part, HEADS) for part in np.split(linear(w, "attn.qkv", normed), 3, axis=-1))
    # Normalised per head first, turned by the positions afterwards.
    q = turned(layer_norm(w, "attn.q_norm", q, eps), positions, 100.0)
    k = turned(layer_norm(w, "attn.k_norm", k, eps), positions, 100.0)
    x = x + w["ls1.gamma"] * linear(w, "attn.proj", attend(q, k, v))
    return x + w["ls2.gamma"] * mlp(w, "mlp", layer_norm(w, "norm2", x, eps))


def global_frame(w, tokens: np.ndarray, eps: float = 1e-5) -> list[np.ndarray]:
    """Every pair's [frame, global] output, [B, S, P, 2C]."""
    b, s, _, c = tokens.shape
    slot = np.minimum(np.arange(s), 1)
    camera, registers = w["camera_token"][0, slot], w["register_token"][0, slot]
    special = np.broadcast_to(np.concatenate([camera, registers], axis=1), (b, s, SPECIAL, c))
    x = np.concatenate([special, tokens], axis=2)
    grid = [(row + 1, column + 1) for row in range(GRID[0]) for column in range(GRID[1])]
    positions = np.array([(0, 0)] * SPECIAL + grid)
    pairs = []
    for i in range(PAIRS):
        in_frame = block(inside(w, f"frame_blocks.{i}"), x, positions, eps)
        everywhere = in_frame.reshape(b, -1, c)
        # Every frame repeats the same grid: no position says which frame a patch is of.
        x = block(inside(w, f"global_blocks.{i}"), everywhere, np.tile(positions, (s, 1)), eps).reshape(x.shape)
        pairs.append(np.concatenate([in_frame, x], axis=-1))
    return pairs


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("head_layers", [(0, 1, 3, 4), (1, 1, 2, 4)])
def test_kept_layers_are_the_definition(frames, head_layers):
    model, tokens = backbone(head_layers), geometry(frames)
    expected = global_frame(weights(model), tokens.numpy())
    layers = model(tokens, GRID)
    assert len(layers) == 4
    for layer, index in zip(layers, head_layers, strict=True):
        np.testing.assert_allclose(layer.numpy(), expected[index], atol=1e-5)


@torch.no_grad()
def test_layer_norm_epsilon_is_one_hundred_thousandth():
    model, tokens = backbone(), 1e-3 * geometry()
    model.camera_token.mul_(1e-3)
    model.register_token.mul_(1e-3)
    layer = model(tokens, GRID)[0].numpy()
    np.testing.assert_allclose(layer, global_frame(weights(model), tokens.numpy(), 1e-5)[0], atol=1e-5)
    assert np.abs(layer - global_frame(weights(model), tokens.numpy(), 1e-6)[0]).max() > 1e-3


def test_queries_and_keys_are_normalised_per_head_in_both_kinds_of_blocks():
    model = backbone()
    for blocks in (model.frame_blocks, model.global_blocks):
        for part in blocks:
            assert part.attn.q_norm.weight.shape == part.attn.k_norm.weight.shape == (DIM // HEADS,)


@torch.no_grad()
def test_first_frame_alone_gets_slot_zero():
    tokens = geometry(frames=3, batch=1)
    for parameter in ("camera_token", "register_token"):
        for slot, frames in ((0, [0]), (1, [1, 2])):
            model = backbone(head_layers=(0, 0, 0, 4))
            before = model(tokens, GRID)[0][..., :DIM]
            model.get_parameter(parameter)[:, slot] += 1
            after = model(tokens, GRID)[0][..., :DIM]
            changed = (after - before).abs().amax(dim=(0, 2, 3)) > 1e-6
            assert changed.nonzero().flatten().tolist() == frames, (parameter, slot)


@torch.no_grad()
def test_frame_blocks_stay_inside_a_frame_and_global_blocks_do_not():
    model, tokens = backbone(), geometry(frames=3)
    other = tokens.clone()
    other[:, 2] = geometry(frames=3, seed=1)[:, 2]
    change = (model(tokens, GRID)[0] - model(other, GRID)[0])[:, :2].abs()
    assert change[..., :DIM].max() == 0
    assert change[..., DIM:].max() > 1e-4


@torch.no_grad()
def test_all_frames_but_the_first_are_treated_alike():
    model, tokens, order = backbone(), geometry(frames=5), [0, 3, 1, 4, 2]
    for layer, shuffled in zip(model(tokens, GRID), model(tokens[:, order], GRID), strict=True):
        torch.testing.assert_close(shuffled, layer[:, order], rtol=0, atol=1e-9)


@torch.no_grad()
def test_another_first_frame_is_another_world():
    model, tokens, order = backbone(), geometry(frames=3), [1, 0, 2]
    assert not torch.allclose(model(tokens[:, order], GRID)[-1], model(tokens, GRID)[-1][:, order], atol=1e-3)


@torch.no_grad()
def test_windows_of_a_batch_do_not_mix():
    model, tokens = backbone(), geometry()
    torch.testing.assert_close(model(tokens, GRID)[-1][1:], model(tokens[1:], GRID)[-1], rtol=0, atol=1e-10)


def test_gradients_are_finite_and_reach_every_weight():
    model, tokens = backbone(), geometry().requires_grad_()
    out = torch.stack(model(tokens, GRID))
    (out * torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(5))).sum().backward()
    assert tokens.grad.isfinite().all() and tokens.grad.any()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@torch.no_grad()
def test_bfloat16_autocast_stays_close():
    model, tokens = backbone().float(), geometry().float()
    exact = model(tokens, GRID)[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(tokens, GRID)[-1]
    assert rough.isfinite().all()
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 16 is not divisible by 3 heads"):
        GlobalFrameBackbone(BackboneConfig(pairs=4, heads=3, head_layers=(0, 1, 2, 3)), DIM)


def test_heads_too_narrow_for_two_axes_are_refused():
    with pytest.raises(ValueError, match="multiple of 4 channels, not 16 / 8"):
        GlobalFrameBackbone(BackboneConfig(pairs=4, heads=8, head_layers=(0, 1, 2, 3)), DIM)
