"""Cross-Task Adapter: one shared feature stream becomes a geometric and a semantic one (paper section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidllm_ros.model.config import AdapterConfig
from vidllm_ros.model.reconstruction.layers import CrossAttention, Mlp, SelfAttention


class Projection(nn.Module):
    """phi_geom or phi_lang of Eq. 1: a residual two-layer MLP that starts as the identity.

    The residual and its zero-initialised last layer keep a pretrained backbone working from the first step.
    """

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.mlp = Mlp(dim, dim * expansion)
        nn.init.zeros_(self.mlp.fc2.weight)
        nn.init.zeros_(self.mlp.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        return x + self.mlp(x)


class BridgeExchange(nn.Module):
    """Eq. 2: K learned bridge tokens attend to both streams; the streams read the updated tokens back.

    The paper leaves the way back open; here each stream attends to the bridge tokens and adds the zero-initialised
    result. The tokens see every patch of the window at once, so they also carry information between frames.
    """

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.norm_tokens = nn.LayerNorm(dim)
        self.norm_geometry = nn.LayerNorm(dim)
        self.norm_language = nn.LayerNorm(dim)
        self.norm_bridge = nn.LayerNorm(dim)
        self.attend_geometry = CrossAttention(dim, heads)
        self.attend_language = CrossAttention(dim, heads)
        self.read_geometry = CrossAttention(dim, heads, zero_output=True)
        self.read_language = CrossAttention(dim, heads, zero_output=True)

    def update(self, geometry: Tensor, language: Tensor) -> Tensor:
        """T'_bridge [B, K, C] from the window's streams [B, S*N, C]."""
        tokens = self.norm_tokens(self.tokens).expand(len(geometry), -1, -1)
        return self.attend_geometry(tokens, geometry) + self.attend_language(tokens, language)

    def forward(self, geometry: Tensor, language: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams [B, S, N, C], each enriched by the bridge tokens of the whole window."""
        b, s, n, c = geometry.shape
        normed_geometry = self.norm_geometry(geometry).reshape(b, s * n, c)
        normed_language = self.norm_language(language).reshape(b, s * n, c)
        bridge = self.norm_bridge(self.update(normed_geometry, normed_language))
        geometry = geometry + self.read_geometry(normed_geometry, bridge).view(b, s, n, c)
        language = language + self.read_language(normed_language, bridge).view(b, s, n, c)
        return geometry, language


class CrossExchange(nn.Module):
    """Table 6 "w/o Bridge (CA)": the two streams of a frame attend to each other directly."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_geometry = nn.LayerNorm(dim)
        self.norm_language = nn.LayerNorm(dim)
        self.read_geometry = CrossAttention(dim, heads, zero_output=True)
        self.read_language = CrossAttention(dim, heads, zero_output=True)

    def forward(self, geometry: Tensor, language: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams [B, S, N, C], each enriched by the other within its frame."""
        shape = geometry.shape
        g = self.norm_geometry(geometry).flatten(0, 1)
        t = self.norm_language(language).flatten(0, 1)
        return geometry + self.read_geometry(g, t).view(shape), language + self.read_language(t, g).view(shape)


class ConcatExchange(nn.Module):
    """Table 6 "Concat-SA": self-attention over the concatenated streams of a frame."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        nn.init.zeros_(self.attention.proj.weight)
        nn.init.zeros_(self.attention.proj.bias)

    def forward(self, geometry: Tensor, language: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams [B, S, N, C] after attending to both within their frame."""
        both = torch.cat([geometry, language], dim=2)
        both = both + self.attention(self.norm(both.flatten(0, 1))).view(both.shape)
        first, second = both.split(geometry.shape[2], dim=2)
        return first, second


class CrossTaskAdapter(nn.Module):
    """Shared tokens in, the geometric and the semantic stream out."""

    def __init__(self, config: AdapterConfig, dim: int) -> None:
        super().__init__()
        self.exchange: nn.Module | None = None
        self.phi_geom: nn.Module = nn.Identity()
        self.phi_lang: nn.Module = nn.Identity()
        if config.variant != "none":
            self.phi_geom = Projection(dim, config.expansion)
            self.phi_lang = Projection(dim, config.expansion)
        if config.variant == "bridge":
            self.exchange = BridgeExchange(dim, config.heads, config.bridge_tokens)
        elif config.variant == "cross":
            self.exchange = CrossExchange(dim, config.heads)
        elif config.variant == "concat":
            self.exchange = ConcatExchange(dim, config.heads)

    def forward(self, base: Tensor) -> tuple[Tensor, Tensor]:
        """T_base [B, S, N, C] to (T'_geom, T'_lang), each [B, S, N, C]."""
        geometry, language = self.phi_geom(base), self.phi_lang(base)
        if self.exchange is not None:
            geometry, language = self.exchange(geometry, language)
        return geometry, language
