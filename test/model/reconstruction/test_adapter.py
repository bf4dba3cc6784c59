"""The Cross-Task Adapter: Eq. 1 and Eq. 2 in float64, its start as the identity, its ablations."""

import numpy as np
import pytest
import torch
from float64_layers import attend, heads_of, inside, layer_norm, linear, mlp, randomize, weights

from vidllm_ros.model.config import AdapterConfig
from vidllm_ros.model.reconstruction.adapter import CrossTaskAdapter

DIM, HEADS, EPS = 16, 2, 1e-5
VARIANTS = ("bridge", "cross", "concat", "none")


def fresh(variant: str = "bridge", tokens: int = 4, expansion: int = 4) -> CrossTaskAdapter:
    torch.manual_seed(0)
    config = AdapterConfig(variant=variant, bridge_tokens=tokens, heads=HEADS, expansion=expansion)
    return CrossTaskAdapter(config, DIM).double().eval()


def trained(variant: str = "bridge", **sizes) -> CrossTaskAdapter:
    return randomize(fresh(variant, **sizes))


def base_tokens(batch: int = 2, frames: int = 3, patches: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, patches, DIM, dtype=torch.float64, generator=generator)


def attention(w, name: str, queries: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Attn(Q, K, V) with K = V = context, a standard multi-head attention."""
    w = inside(w, name)
    k, v = np.split(linear(w, "kv", context), 2, axis=-1)
    return linear(w, "proj", attend(heads_of(linear(w, "q", queries), HEADS), heads_of(k, HEADS), heads_of(v, HEADS)))


def equation_1(w, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return base + mlp(w, "phi_geom.mlp", base), base + mlp(w, "phi_lang.mlp", base)


def equation_2(w, geometry: np.ndarray, language: np.ndarray) -> np.ndarray:
    """T'_bridge = Attn(T_bridge, T_geom, T_geom) + Attn(T_bridge, T_lang, T_lang), [B, K, C]."""
    tokens = layer_norm(w, "norm_tokens", w["tokens"], EPS)[None]
    return attention(w, "attend_geometry", tokens, geometry) + attention(w, "attend_language", tokens, language)


def bridge_adapter(w, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 1, Eq. 2, then each stream reads the bridge tokens back."""
    geometry, language = equation_1(w, base)
    w, (b, s, n, c) = inside(w, "exchange"), base.shape
    # The bridge tokens see every patch of the window at once.
    g = layer_norm(w, "norm_geometry", geometry, EPS).reshape(b, s * n, c)
    t = layer_norm(w, "norm_language", language, EPS).reshape(b, s * n, c)
    bridge = layer_norm(w, "norm_bridge", equation_2(w, g, t), EPS)
    geometry = geometry + attention(w, "read_geometry", g, bridge).reshape(b, s, n, c)
    return geometry, language + attention(w, "read_language", t, bridge).reshape(b, s, n, c)


def cross_adapter(w, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    geometry, language = equation_1(w, base)
    w = inside(w, "exchange")
    g, t = layer_norm(w, "norm_geometry", geometry, EPS), layer_norm(w, "norm_language", language, EPS)
    return geometry + attention(w, "read_geometry", g, t), language + attention(w, "read_language", t, g)


def concat_adapter(w, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.concatenate(equation_1(w, base), axis=2)
    w = inside(w, "exchange")
    q, k, v = np.split(linear(w, "attention.qkv", layer_norm(w, "norm", both, EPS)), 3, axis=-1)
    both = both + linear(w, "attention.proj", attend(heads_of(q, HEADS), heads_of(k, HEADS), heads_of(v, HEADS)))
    geometry, language = np.split(both, 2, axis=2)
    return geometry, language


REFERENCES = {
    "bridge": bridge_adapter,
    "cross": cross_adapter,
    "concat": concat_adapter,
    "none": lambda w, base: (base, base),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_streams_are_the_papers(variant):
    model, base = trained(variant), base_tokens()
    for got, expected in zip(model(base), REFERENCES[variant](weights(model), base.numpy()), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("expansion", [2, 4])
def test_projections_are_equation_1(expansion):
    model, base = trained(expansion=expansion), base_tokens()
    assert model.phi_geom.mlp.fc1.weight.shape == (expansion * DIM, DIM)
    geometry, language = equation_1(weights(model), base.numpy())
    np.testing.assert_allclose(model.phi_geom(base).detach().numpy(), geometry, atol=1e-12)
    np.testing.assert_allclose(model.phi_lang(base).detach().numpy(), language, atol=1e-12)
    assert np.abs(geometry - language).max() > 0.1


@pytest.mark.parametrize("tokens", [4, 8, 16, 32])
def test_bridge_update_is_equation_2(tokens):
    model = trained(tokens=tokens)
    geometry, language = base_tokens(seed=1).flatten(1, 2), base_tokens(seed=2).flatten(1, 2)
    bridge = model.exchange.update(geometry, language).detach().numpy()
    assert bridge.shape == (2, tokens, DIM)
    expected = equation_2(inside(weights(model), "exchange"), geometry.numpy(), language.numpy())
    np.testing.assert_allclose(bridge, expected, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_untrained_adapter_is_the_identity(variant):
    base = base_tokens()
    for stream in fresh(variant)(base):
        assert torch.equal(stream, base)


@pytest.mark.parametrize("variant", ["bridge", "cross", "concat"])
def test_the_zero_start_can_be_left(variant):
    model = fresh(variant)
    sum((stream * base_tokens(seed=3)).sum() for stream in model(base_tokens())).backward()
    for name in ("phi_geom.mlp.fc2", "phi_lang.mlp.fc2"):
        assert model.get_parameter(f"{name}.weight").grad.any(), name
    starts = {"bridge": ("read_geometry", "read_language"), "cross": ("read_geometry", "read_language")}
    for name in starts.get(variant, ("attention",)):
        assert model.get_parameter(f"exchange.{name}.proj.weight").grad.any(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_finite_and_reach_every_weight(variant):
    model, base = trained(variant), base_tokens().requires_grad_()
    sum((stream * base_tokens(seed=seed)).sum() for seed, stream in enumerate(model(base), 3)).backward()
    assert base.grad.isfinite().all() and base.grad.any()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@torch.no_grad()
@pytest.mark.parametrize(("variant", "connected"), [("bridge", True), ("cross", False), ("concat", False)])
def test_only_bridge_tokens_connect_frames(variant, connected):
    model, base = trained(variant), base_tokens()
    other = base.clone()
    other[:, 1] += 1
    changed = (model(base)[0][:, 0] - model(other)[0][:, 0]).abs().max() > 1e-6
    assert bool(changed) == connected


@torch.no_grad()
@pytest.mark.parametrize("variant", ["bridge", "cross", "concat"])
def test_each_stream_learns_from_the_other(variant):
    model, base = trained(variant), base_tokens()
    geometry, language = model(base)
    model.phi_lang.mlp.fc2.bias.add_(torch.linspace(-1, 1, DIM, dtype=torch.float64))
    assert not torch.allclose(model(base)[0], geometry)
    model.phi_lang.mlp.fc2.bias.sub_(torch.linspace(-1, 1, DIM, dtype=torch.float64))
    model.phi_geom.mlp.fc2.bias.add_(torch.linspace(-1, 1, DIM, dtype=torch.float64))
    assert not torch.allclose(model(base)[1], language)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_frames_does_not_matter(variant):
    model, base, order = trained(variant), base_tokens(frames=4), [2, 0, 3, 1]
    for stream, shuffled in zip(model(base), model(base[:, order]), strict=True):
        torch.testing.assert_close(shuffled, stream[:, order], rtol=0, atol=1e-12)


@torch.no_grad()
def test_windows_of_a_batch_do_not_mix():
    model, base = trained(), base_tokens()
    for both, alone in zip(model(base), model(base[1:]), strict=True):
        torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-12)
