"""The network's building blocks in float64 NumPy, written from their definitions; what the tests compare torch with."""

import numpy as np
import torch
from scipy.special import erf
from torch import nn

Weights = dict[str, np.ndarray]


def randomize(module: nn.Module, seed: int = 0, spread: float = 0.3) -> nn.Module:
    """Give every parameter a random value, so that no zero or identity initialisation hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim >= 2:
                noise /= np.sqrt(parameter[0].numel() / 4)
            is_gain = "norm" in name and name.endswith("weight")
            parameter.copy_((1 + noise if is_gain else noise).to(parameter.dtype))
    return module


def weights(module: nn.Module) -> Weights:
    """Parameters and buffers by name."""
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def inside(w: Weights, prefix: str) -> Weights:
    """The weights of one submodule, by their names inside it."""
    prefix += "."
    return {name[len(prefix) :]: value for name, value in w.items() if name.startswith(prefix)}


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def standardize(x: np.ndarray, eps: float) -> np.ndarray:
    """LayerNorm without gain and offset."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def layer_norm(w: Weights, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    return standardize(x, eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def mlp(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return linear(w, f"{name}.fc2", gelu(linear(w, f"{name}.fc1", x)))


def heads_of(x: np.ndarray, heads: int) -> np.ndarray:
    """[..., N, C] to [..., heads, N, C / heads]."""
    return np.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Scaled dot-product attention of [..., heads, N, D], heads joined again: [..., N, heads * D]."""
    scores = softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])) @ v
    joined = np.moveaxis(scores, -3, -2)
    return joined.reshape(*joined.shape[:-2], -1)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5, the one image resizers use when they filter against aliasing."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def antialiased_bicubic(count: int, source: int) -> np.ndarray:
    """Resampling matrix [count, source]: no offset; the kernel widens when shrinking."""
    scale = source / count
    centres = (np.arange(count) + 0.5) * scale
    kernel = cubic((np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1.0))
    return kernel / kernel.sum(axis=1, keepdims=True)


def bilinear(count: int, source: int, align_corners: bool) -> np.ndarray:
    """Linear interpolation matrix [count, source]."""
    if align_corners:
        at = np.arange(count) * ((source - 1) / max(count - 1, 1))
    else:
        at = np.clip((np.arange(count) + 0.5) * source / count - 0.5, 0, None)
    low = np.minimum(at.astype(int), source - 1)
    high = np.minimum(low + 1, source - 1)
    matrix = np.zeros((count, source))
    np.add.at(matrix, (np.arange(count), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(count), high), at - low)
    return matrix


def resize(x: np.ndarray, size: tuple[int, int], align_corners: bool = True) -> np.ndarray:
    """Bilinear resize of [..., h, w]."""
    rows, columns = (bilinear(n, m, align_corners) for n, m in zip(size, x.shape[-2:], strict=True))
    return rows @ x @ columns.T


def convolution(w: Weights, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
    """Zero-padded convolution with an odd kernel, [F, C, h, w]."""
    kernel = w[f"{name}.weight"]
    pad = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[-2:], axis=(2, 3))[:, :, ::stride, ::stride]
    out = np.einsum("fchwij,ocij->fohw", views, kernel)
    bias = w.get(f"{name}.bias")
    return out if bias is None else out + bias[:, None, None]


def enlarge(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """Transposed convolution whose stride equals its kernel: every pixel becomes a block."""
    kernel = w[f"{name}.weight"]
    f, _, h, width = x.shape
    k = kernel.shape[-1]
    blocks = np.einsum("fchw,coij->fohiwj", x, kernel).reshape(f, kernel.shape[1], h * k, width * k)
    return blocks + w[f"{name}.bias"][:, None, None]
