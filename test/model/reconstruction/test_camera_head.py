"""The camera head's refinement against its float64 definition."""

import numpy as np
import pytest
import torch
from float64_layers import (
    attend,
    heads_of,
    inside,
    layer_norm,
    linear,
    mlp,
    randomize,
    sigmoid,
    standardize,
    weights,
)

from vidllm_ros.model.config import CameraHeadConfig
from vidllm_ros.model.reconstruction.camera_head import CameraHead

DIM, HEADS, ITERATIONS = 16, 2, 4


def head(seed: int = 0) -> CameraHead:
    config = CameraHeadConfig(blocks=2, heads=HEADS, mlp_ratio=3.0, iterations=ITERATIONS)
    return randomize(CameraHead(config, DIM), seed).double().eval()


def camera_tokens(batch: int = 2, frames: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, DIM, dtype=torch.float64, generator=generator)


def block(w, x: np.ndarray, eps: float) -> np.ndarray:
    """Pre-norm block across the camera tokens of a window: no positions, no query or key norm."""
    qkv = linear(w, "attn.qkv", layer_norm(w, "norm1", x, eps))
    q, k, v = (heads_of(part, HEADS) for part in np.split(qkv, 3, axis=-1))
    x = x + w["ls1.gamma"] * linear(w, "attn.proj", attend(q, k, v))
    return x + w["ls2.gamma"] * mlp(w, "mlp", layer_norm(w, "norm2", x, eps))


def refined(w, tokens: np.ndarray, eps: float = 1e-5, adaptive_eps: float = 1e-6) -> list[np.ndarray]:
    """Encodings of all iterations before the activation."""
    tokens = layer_norm(w, "token_norm", tokens, eps)
    encodings: list[np.ndarray] = []
    for _ in range(ITERATIONS):
        # The raw sum, not the activated encoding, is what the next iteration starts from.
        previous = encodings[-1] if encodings else np.broadcast_to(w["empty_pose"], (*tokens.shape[:2], 9))
        embedded = linear(w, "embed_pose", previous)
        modulation = linear(w, "modulation", embedded * sigmoid(embedded))
        shift, scale, gate = np.split(modulation, 3, axis=-1)
        x = gate * (standardize(tokens, adaptive_eps) * (1 + scale) + shift) + tokens
        for i in range(2):
            x = block(inside(w, f"trunk.{i}"), x, eps)
        correction = mlp(w, "pose_branch", layer_norm(w, "trunk_norm", x, eps))
        encodings.append(encodings[-1] + correction if encodings else correction)
    return encodings


def activated(encoding: np.ndarray) -> np.ndarray:
    """Translation and quaternion as they are, field of view through a ReLU."""
    return np.concatenate([encoding[..., :7], np.maximum(encoding[..., 7:], 0)], axis=-1)


@torch.no_grad()
def test_every_iteration_is_the_definition():
    model, tokens = head(), camera_tokens()
    expected = refined(weights(model), tokens.numpy())
    assert any((encoding[..., 7:] < 0).any() for encoding in expected)  # the activation has work to do
    encodings = model(tokens)
    assert len(encodings) == ITERATIONS
    for encoding, raw in zip(encodings, expected, strict=True):
        np.testing.assert_allclose(encoding.numpy(), activated(raw), atol=1e-10)


@torch.no_grad()
def test_epsilons():
    model = head()
    model.token_norm.weight.mul_(1e-3)
    model.token_norm.bias.zero_()
    tokens = 1e-2 * camera_tokens()
    encodings = model(tokens)[-1].numpy()
    w = weights(model)
    np.testing.assert_allclose(encodings, activated(refined(w, tokens.numpy())[-1]), atol=1e-9)
    assert np.abs(encodings - activated(refined(w, tokens.numpy(), eps=1e-6)[-1])).max() > 1e-3
    assert np.abs(encodings - activated(refined(w, tokens.numpy(), adaptive_eps=1e-5)[-1])).max() > 1e-3


def test_neither_query_nor_key_norm_and_an_adaptive_norm_without_weights():
    names = [name for name, _ in head().named_parameters()]
    assert not [name for name in names if ".q_norm" in name or ".k_norm" in name or "adaptive_norm" in name]


def test_each_iteration_answers_for_its_own_correction_only():
    model, tokens = head(), camera_tokens()
    weight = torch.linspace(-1, 1, 7, dtype=torch.float64)
    sums = [(encoding[..., :7] * weight).sum() for encoding in model(tokens)]
    # The learned empty pose makes the first correction; no later estimate may be trained through it.
    reached = [torch.autograd.grad(s, model.empty_pose, retain_graph=True, allow_unused=True)[0] for s in sums]
    assert reached[0].any()
    assert reached[1:] == [None] * (ITERATIONS - 1)


@torch.no_grad()
def test_an_untrained_head_starts_near_the_identity_with_a_radian_of_view():
    torch.manual_seed(0)
    model = CameraHead(CameraHeadConfig(blocks=1, heads=HEADS, iterations=ITERATIONS), DIM)
    encodings = model(camera_tokens().float())
    start = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert (encodings[-1] - start).abs().max() < 0.5
    assert all((encoding[..., 7:] > 0).all() for encoding in encodings)


@torch.no_grad()
def test_cameras_see_each_other_whatever_their_order():
    model, tokens, order = head(), camera_tokens(), [3, 1, 4, 0, 2]
    encoding = model(tokens)[-1]
    torch.testing.assert_close(model(tokens[:, order])[-1], encoding[:, order], rtol=0, atol=1e-10)
    other = tokens.clone()
    other[:, 4] = camera_tokens(seed=1)[:, 4]
    assert (model(other)[-1][:, :4] - encoding[:, :4]).abs().max() > 1e-4
    torch.testing.assert_close(model(tokens[1:])[-1], encoding[1:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("frames", [1, 4])
def test_gradients_are_finite_and_reach_every_weight(frames):
    model, tokens = head(), camera_tokens(frames=frames).requires_grad_()
    noise = torch.Generator().manual_seed(1)
    sum((e * torch.randn(e.shape, dtype=e.dtype, generator=noise)).sum() for e in model(tokens)).backward()
    assert tokens.grad.isfinite().all() and tokens.grad.any()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
