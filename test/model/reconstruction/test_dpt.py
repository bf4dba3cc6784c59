"""The DPT decoder and the relative depth head against their float64 definition."""

import numpy as np
import pytest
import torch
from float64_layers import convolution, enlarge, inside, layer_norm, randomize, resize, weights

from vidllm_ros.model.config import DepthHeadConfig
from vidllm_ros.model.reconstruction.depth_head import DepthHead
from vidllm_ros.model.reconstruction.dpt import DPTDecoder, uv_embedding

DIM, FEATURES, CHANNELS = 12, 8, (8, 12, 16, 4)
GRIDS = [(2, 3), (3, 2), (5, 3), (1, 1), (4, 7)]


def decoder(upsample_last: bool = True, seed: int = 0) -> DPTDecoder:
    return randomize(DPTDecoder(DIM, FEATURES, CHANNELS, upsample_last), seed).double().eval()


def depth_head(frames_chunk: int = 8, seed: int = 0) -> DepthHead:
    config = DepthHeadConfig(features=FEATURES, channels=CHANNELS, head_features=4, frames_chunk=frames_chunk)
    return randomize(DepthHead(config, DIM), seed).double().eval()


def tokens(grid: tuple[int, int], frames: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(4, frames, grid[0] * grid[1], DIM, dtype=torch.float64, generator=generator))


def position_waves(channels: int, height: int, width: int, aspect: float) -> np.ndarray:
    """[channels, height, width]: sines and cosines of x, then of y; coordinates in units of half the image diagonal."""
    diagonal = np.hypot(aspect, 1)
    quarter = channels // 4
    speeds = 100.0 ** (-np.arange(quarter) / quarter)
    out = np.empty((channels, height, width))
    for row in range(height):
        for column in range(width):
            x = (2 * column + 1 - width) / width * aspect / diagonal
            y = (2 * row + 1 - height) / height / diagonal
            out[:, row, column] = np.concatenate(
                [np.sin(x * speeds), np.cos(x * speeds), np.sin(y * speeds), np.cos(y * speeds)]
            )
    return out


def with_positions(x: np.ndarray, aspect: float) -> np.ndarray:
    return x + 0.1 * position_waves(x.shape[1], *x.shape[2:], aspect)


def residual_unit(w, x: np.ndarray) -> np.ndarray:
    x = np.maximum(x, 0)
    hidden = convolution(w, "conv1", x)
    return x + convolution(w, "conv2", np.maximum(hidden, 0))


def fused(w, x: np.ndarray, finer: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    if finer is not None:
        x = x + residual_unit(inside(w, "unit1"), finer)
    return convolution(w, "out_conv", resize(residual_unit(inside(w, "unit2"), x), size))


def dpt(w, layers: list[np.ndarray], grid: tuple[int, int], upsample_last: bool) -> np.ndarray:
    levels = []
    for i, layer in enumerate(layers):
        x = layer_norm(w, "norm", layer, 1e-5)
        x = np.moveaxis(x, 2, 1).reshape(len(x), DIM, *grid)
        x = with_positions(convolution(w, f"projects.{i}", x), grid[1] / grid[0])
        if i < 2:
            x = enlarge(w, f"resize.{i}", x)  # four times, twice
        elif i == 3:
            x = convolution(w, "resize.3", x, stride=2)
        levels.append(convolution(w, f"level_convs.{i}", x))
    x, stages = levels[3], [inside(w, f"fusions.{i}") for i in range(4)]
    x = fused(stages[3], x, None, levels[2].shape[2:])
    x = fused(stages[2], x, levels[2], levels[1].shape[2:])
    x = fused(stages[1], x, levels[1], levels[0].shape[2:])
    factor = 8 if upsample_last else 4
    return fused(stages[0], x, levels[0], (factor * grid[0], factor * grid[1]))


@pytest.mark.parametrize("size", [(4, 6), (3, 3), (1, 5)])
def test_position_embedding_is_centred_and_keeps_the_aspect(size):
    for aspect in (size[1] / size[0], 1.5):
        waves = uv_embedding(12, *size, aspect, torch.device("cpu"))
        np.testing.assert_allclose(waves.numpy(), position_waves(12, *size, aspect), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("upsample_last", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
def test_decoder_is_the_definition(grid, upsample_last):
    model, layers = decoder(upsample_last), tokens(grid)
    expected = dpt(weights(model), [layer.numpy() for layer in layers], grid, upsample_last)
    np.testing.assert_allclose(model(layers, grid).numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_layer_norm_epsilon_is_one_hundred_thousandth():
    model, layers = decoder(), [1e-3 * layer for layer in tokens((2, 3))]
    expected = dpt(weights(model), [layer.numpy() for layer in layers], (2, 3), True)
    np.testing.assert_allclose(model(layers, (2, 3)).numpy(), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(2, 3), (3, 2)])
def test_depth_is_an_exponential_and_confidence_one_more(grid):
    model, layers = depth_head(), tokens(grid)
    size, w = (14 * grid[0], 14 * grid[1]), weights(model)
    x = dpt(inside(w, "decoder"), [layer.numpy() for layer in layers], grid, True)
    x = with_positions(resize(convolution(w, "conv1", x), size), size[1] / size[0])
    raw = convolution(w, "conv3", np.maximum(convolution(w, "conv2", x), 0))
    depth, confidence = model([layer[None] for layer in layers], grid, size)
    assert depth.shape == confidence.shape == (1, 2, *size)
    np.testing.assert_allclose(depth[0].numpy(), np.exp(raw[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(confidence[0].numpy(), 1 + np.exp(raw[:, 1]), rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_do_not_change_the_result(chunk):
    layers = [layer.view(2, 5, 6, DIM) for layer in tokens((2, 3), frames=10)]
    whole, parts = (depth_head(size)(layers, (2, 3), (28, 42)) for size in (10, chunk))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_gradients_are_finite_and_reach_every_weight():
    model = depth_head()
    layers = [layer[None].requires_grad_() for layer in tokens((2, 3))]
    depth, confidence = model(layers, (2, 3), (28, 42))
    noise = torch.randn(2, *depth.shape, dtype=depth.dtype, generator=torch.Generator().manual_seed(0))
    (torch.stack([depth, confidence]) * noise).sum().backward()
    for name, parameter in [*model.named_parameters(), *((f"layer {i}", layer) for i, layer in enumerate(layers))]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
