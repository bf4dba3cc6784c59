"""Optimiser, schedule and weight averaging against their formulas in NumPy."""

import math

import numpy as np
import pytest
import torch
from float64_layers import randomize
from miniature import reconstruction_model, vidllm
from torch import nn

from vidllm_ros.training.optimizer import (
    Muon,
    MuonAdamW,
    WeightAverage,
    is_block_matrix,
    lr_scale,
    orthogonalize,
    warmup_cosine,
)


def gradients(shape, steps: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randn(steps, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (3, 6, 20)])
def test_orthogonalized_matrices_keep_their_directions_and_lose_their_lengths(shape):
    matrix = gradients(shape, 1)[0]
    u, _, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    got = orthogonalize(matrix).numpy()
    inner = np.swapaxes(u, -1, -2) @ got @ np.swapaxes(vt, -1, -2)
    # In the basis of its singular vectors the result is diagonal with entries around one.
    diagonal = np.diagonal(inner, axis1=-2, axis2=-1)
    np.testing.assert_allclose(inner - np.eye(inner.shape[-1]) * diagonal[..., None], 0, atol=1e-9)
    assert (diagonal > 0.3).all() and (diagonal < 1.3).all()


def test_orthogonalizing_nothing_gives_nothing():
    assert not orthogonalize(torch.zeros(4, 6)).any()


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Five steps of the quintic a s + b s^3 + c s^5 on the singular values."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return (u * s) @ vt


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_muon(shape):
    weights = [nn.Parameter(start) for start in gradients(shape, 2, seed=1)]
    optimizer = Muon(weights, lr=0.02, weight_decay=0.1)
    expected = [w.detach().numpy().copy() for w in weights]
    momenta = [np.zeros(shape), np.zeros(shape)]
    for step in gradients((2, *shape), 3):
        for i, (weight, gradient) in enumerate(zip(weights, step, strict=True)):
            weight.grad = gradient.clone()
            momenta[i] = 0.95 * momenta[i] + 0.05 * gradient.numpy()
            update = newton_schulz(0.05 * gradient.numpy() + 0.95 * momenta[i])
            expected[i] = (1 - 0.02 * 0.1) * expected[i] - 0.02 * 0.2 * math.sqrt(max(shape)) * update
        optimizer.step()
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.detach().numpy(), value, atol=1e-10)


def test_a_parameter_without_gradient_stays():
    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))]
    weights[0].grad = torch.randn(3, 4)
    Muon(weights, lr=0.1, weight_decay=0.1).step()
    assert not torch.equal(weights[0], torch.ones(3, 4)) and torch.equal(weights[1], torch.ones(3, 4))


def groups_by_name(model: nn.Module, **options) -> dict[str, dict]:
    """Each trainable parameter's optimizer and group settings."""
    optimizer, found = MuonAdamW(model, lr=1e-3, weight_decay=0.05, **options), {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for part in optimizer.optimizers:
        for group in part.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in found
                found[names[id(parameter)]] = group | {"kind": type(part).__name__}
    return found


def test_each_weight_has_its_optimizer():
    model = reconstruction_model()
    found = groups_by_name(model)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, group in found.items():
        parameter = model.get_parameter(name)
        assert group["weight_decay"] == (0.05 if parameter.ndim >= 2 else 0.0), name
        inside_blocks = any(part in name for part in ("encoder.layer", "_blocks.", "phi_", "adapter.exchange."))
        hidden = parameter.ndim == 2 and inside_blocks
        assert (group["kind"] == "Muon") == hidden, name
        if not hidden:
            assert group["betas"] == (0.9, 0.999)
    kinds = {group["kind"] for group in found.values()}
    assert kinds == {"Muon", "AdamW"}


def test_transformer_matrices_of_the_language_model_count_as_hidden():
    names = [name for name, p in vidllm().named_parameters() if p.ndim == 2 and ".llm." in name]
    assert {is_block_matrix(name) for name in names if "embed_tokens" not in name} == {True}
    assert not is_block_matrix("_language.llm.model.embed_tokens.weight")


def test_without_muon_everything_is_adamw():
    assert {group["kind"] for group in groups_by_name(reconstruction_model(), use_muon=False).values()} == {"AdamW"}


def test_adamw_part_is_torchs():
    def model() -> nn.Module:
        return randomize(nn.Linear(4, 3))

    a, b = model(), model()
    ours = MuonAdamW(a, lr=1.0, weight_decay=0.05)
    theirs = torch.optim.AdamW([{"params": [b.weight]}, {"params": [b.bias], "weight_decay": 0.0}], weight_decay=0.05)
    for lr in (1e-3, 5e-3, 1e-4):
        for net in (a, b):
            net(torch.ones(2, 4)).square().sum().backward()
        for group in theirs.param_groups:
            group["lr"] = lr
        theirs.step()
        theirs.zero_grad()
        ours.step(lr)
        assert a.weight.grad is None
    torch.testing.assert_close(a.weight, b.weight)
    torch.testing.assert_close(a.bias, b.bias)


def test_each_group_keeps_its_own_pace():
    model = nn.ModuleDict({"camera_head": nn.Linear(3, 3), "depth_head": nn.Linear(3, 3)})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = MuonAdamW(model, lr=1.0, weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.01)
    # The first step of Adam moves every weight by its learning rate.
    for name, parameter in model.named_parameters():
        step = torch.full_like(parameter, 0.01 * lr_scale(name))
        torch.testing.assert_close(before[name] - parameter, step, rtol=1e-4, atol=1e-7)


def test_a_restored_optimizer_continues_alike():
    def trained(steps, optimizer, model):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step(1e-3)

    whole, first, second = (reconstruction_model() for _ in range(3))
    trained(range(4), MuonAdamW(whole, 1e-3, 0.05), whole)
    optimizer = MuonAdamW(first, 1e-3, 0.05)
    trained(range(2), optimizer, first)
    second.load_state_dict(first.state_dict())
    restored = MuonAdamW(second, 1e-3, 0.05)
    restored.load_state_dict(optimizer.state_dict())
    trained(range(2, 4), restored, second)
    for (name, a), b in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_schedule_rises_and_falls():
    peak = 3e-3
    rates = np.array([warmup_cosine(p, peak) for p in np.linspace(0, 1, 1001)])
    assert (rates > 0).all() and rates.max() <= peak
    np.testing.assert_allclose(rates[30], peak, rtol=1e-2)
    np.testing.assert_allclose(rates[15], peak / 2, rtol=1e-2)
    np.testing.assert_allclose(rates[-1], 0.02 * peak, rtol=1e-9)
    assert (np.diff(rates[:30]) > 0).all() and (np.diff(rates[31:]) < 0).all()
    middle = 0.03 + 0.97 / 2
    np.testing.assert_allclose(warmup_cosine(middle, peak), peak * (0.02 + 0.98 / 2), rtol=1e-9)
    assert warmup_cosine(1.5, peak) == warmup_cosine(1.0, peak)


def test_the_average_forgets_its_start():
    model = nn.Linear(2, 2).double()
    average = WeightAverage(model, decay=0.9)
    expected = model.weight.detach().numpy().copy()
    for n, value in enumerate(gradients((2, 2), 200), 1):
        with torch.no_grad():
            model.weight.copy_(value)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value.numpy()
        average.update(model)
    np.testing.assert_allclose(average.values["weight"].numpy(), expected, atol=1e-12)
    other = nn.Linear(2, 2).double()
    average.copy_to(other)
    np.testing.assert_allclose(other.weight.detach().numpy(), expected, atol=1e-12)
    assert other.weight.requires_grad


def test_the_average_does_not_follow_the_model_by_itself():
    model = nn.Linear(2, 2)
    average = WeightAverage(model)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(average.values["weight"], start)


def test_what_is_shipped_averages_hundreds_of_steps():
    """Of the weights 500 steps ago e^-1 is left: 1 - 1 / 500 a step, once the first values have faded."""
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model)
    average.updates = 10_000
    average.values["weight"].fill_(1.0)
    torch.nn.init.zeros_(model.weight)
    for _ in range(500):
        average.update(model)
    assert average.values["weight"].item() == pytest.approx(math.exp(-1), rel=0.01)


def test_the_camera_head_learns_at_a_fifth_of_the_pace():
    assert lr_scale("reconstruction.camera_head.trunk.norm.weight") == 0.2
    assert lr_scale("reconstruction.depth_head.norm.weight") == 1.0
