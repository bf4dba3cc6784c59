"""2-D rotary positions against turning complex numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.model.reconstruction.rope import RotaryEmbedding2D, patch_positions


def turned(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Channel i and the one a quarter head on are a complex number, turned by position / base^(i / quarter)."""
    quarter = x.shape[-1] // 4
    speed = base ** (-np.arange(quarter) / quarter)
    out = np.empty_like(x)
    # The first half of the channels knows the row (y), the second the column (x).
    for half, axis in ((0, 0), (2 * quarter, 1)):
        real, imaginary = slice(half, half + quarter), slice(half + quarter, half + 2 * quarter)
        z = (x[..., real] + 1j * x[..., imaginary]) * np.exp(1j * positions[:, axis, None] * speed)
        out[..., real], out[..., imaginary] = z.real, z.imag
    return out


def test_patches_start_at_one_and_special_tokens_stand_at_zero():
    positions = patch_positions((2, 3), 3, torch.device("cpu")).numpy()
    expected = [[0, 0]] * 3 + [[row + 1, column + 1] for row in range(2) for column in range(3)]
    np.testing.assert_array_equal(positions, expected)


@pytest.mark.parametrize("base", [100.0, 37.0])
@pytest.mark.parametrize("width", [8, 32, 64])
def test_rotation_is_complex_multiplication(width, base):
    x = np.random.default_rng(0).normal(size=(2, 3, 19, width))
    positions = patch_positions((4, 4), 3, torch.device("cpu"))
    rotated = RotaryEmbedding2D(base)(torch.tensor(x), positions).numpy()
    np.testing.assert_allclose(rotated, turned(x, positions.numpy(), base), atol=1e-6)


def test_rows_turn_the_first_half_only():
    x = torch.randn(1, 1, 1, 16)
    rotated = RotaryEmbedding2D()(x, torch.tensor([[3, 0]]))
    assert not torch.allclose(rotated[..., :8], x[..., :8])
    torch.testing.assert_close(rotated[..., 8:], x[..., 8:], rtol=0, atol=0)


def test_position_zero_stays():
    x = torch.randn(1, 2, 5, 16)
    torch.testing.assert_close(RotaryEmbedding2D()(x, torch.zeros(5, 2, dtype=torch.long)), x, rtol=0, atol=0)


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(0, 48)] * 4), st.integers(0, 2**31))
def test_attention_sees_only_relative_positions(corner, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64, generator=generator)
    rope, shift = RotaryEmbedding2D(), torch.tensor([[5, 2]])
    at, to = torch.tensor([corner[:2]]), torch.tensor([corner[2:]])
    near = (rope(q, at) * rope(k, to)).sum()
    moved = (rope(q, at + shift) * rope(k, to + shift)).sum()
    torch.testing.assert_close(near, moved, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision_is_kept(dtype):
    x = torch.randn(1, 1, 6, 16).to(dtype)
    assert RotaryEmbedding2D()(x, patch_positions((2, 3), 0, torch.device("cpu"))).dtype == dtype


def test_it_has_no_weights():
    assert not RotaryEmbedding2D().state_dict()
