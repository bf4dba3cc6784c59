"""3D patch construction: image patches lifted into the scene and pooled to a token budget (paper section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidllm_ros.model.outputs import SceneTokens

_VOXEL_GROWTH = 1.1


@dataclass(frozen=True)
class PatchConfig:
    """Sizes of the 3D patch construction.

    Args:
        feature_dim: channels C of the semantic tokens.
        position_hidden: hidden width of the position MLP.
        position_frequencies: octaves of sine and cosine features beside the plain metres that the position MLP reads; 0
            reads metres alone.
        position_period: metres, the longest wavelength of those features.
        voxel_size: metres, the edge of a pooling voxel.
        max_tokens: the most tokens of a pooled scene; the grounding decoder sees them all.
        language_tokens: the most tokens that the language model reads; a larger scene is pooled further.
        max_range: metres; patches deeper than this are dropped.
    """

    feature_dim: int
    position_hidden: int
    position_frequencies: int = 0
    position_period: float = 16.0
    voxel_size: float = 0.2
    max_tokens: int = 1024
    language_tokens: int = 256
    max_range: float = 20.0

    def __post_init__(self) -> None:
        lowest = {"position_frequencies": 0}
        for name in ("feature_dim", "position_hidden", "position_frequencies", "max_tokens", "language_tokens"):
            low = lowest.get(name, 1)
            if getattr(self, name) < low:
                raise ValueError(f"patches.{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("position_period", "voxel_size", "max_range"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"patches.{name} is {value}; it must be a positive number of metres")


class PositionEncoding(nn.Module):
    """The position MLP of Eq. 4: metres to a vector of ``dim`` channels.

    Linear, LayerNorm, ReLU, Linear, as in LLaVA-3D; optionally on Fourier features as well, which a small network needs
    to tell positions a few centimetres apart.

    Args:
        dim: channels of the result.
        hidden: hidden width.
        frequencies: octaves of Fourier features; 0 for none.
        period: metres, the longest wavelength.
    """

    wavenumbers: Tensor

    def __init__(self, dim: int, hidden: int, frequencies: int = 0, period: float = 16.0) -> None:
        super().__init__()
        wavenumbers = 2 * math.pi / period * 2.0 ** torch.arange(frequencies)
        self.register_buffer("wavenumbers", wavenumbers, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(3 + 6 * frequencies, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, positions: Tensor) -> Tensor:
        """Embeds positions [..., 3] in metres as [..., dim]."""
        angles = (positions.unsqueeze(-1) * self.wavenumbers).flatten(-2)
        inputs = torch.cat([positions, angles.sin(), angles.cos()], dim=-1)
        return self.mlp(inputs.to(next(self.mlp.parameters()).dtype))


def patch_depth(depth: Tensor, patch_size: int) -> Tensor:
    """One depth for each patch: the (lower) median of its valid pixels.

    The median stays on the surface that fills most of a patch; a mean, or the centre pixel alone, lands between two
    surfaces or on a thin leg in front of them.

    Args:
        depth: [S, H, W] metres; pixels that are not finite and positive are invalid.
        patch_size: pixels along one side of a patch.

    Returns:
        [S, N] metres, patches row-major; NaN where a patch has no valid pixel.
    """
    frames, height, width = depth.shape
    pixels = depth.reshape(frames, height // patch_size, patch_size, width // patch_size, patch_size)
    pixels = pixels.transpose(2, 3).reshape(frames, -1, patch_size * patch_size)
    return pixels.where(pixels.isfinite() & (pixels > 0), math.nan).nanmedian(dim=-1).values


def back_project(
    depth: Tensor, intrinsics: Tensor, T_scene_camera: Tensor, rows: int, columns: int, patch_size: int
) -> Tensor:
    """Patch centres in the scene frame (Eq. 3).

    The equation's pixel is [u, v, 1] with u the column and v the row of the patch's centre. Pixels are whole numbers
    from 0, as in VGGT, so the centre of the first patch of 14 pixels is 6.5. The equation's ``R^-1 K^-1 u D - R^-1 t``
    is the camera-to-scene pose applied to ``K^-1 u D``.

    Args:
        depth: [S, N] metres along the optical axis, patches row-major.
        intrinsics: [S, 3, 3] pixels.
        T_scene_camera: [S, 4, 4] camera-to-scene poses, metres.
        rows: patches in a column.
        columns: patches in a row.
        patch_size: pixels along one side of a patch.

    Returns:
        [S, N, 3] metres.
    """
    centre = (patch_size - 1) / 2
    v = torch.arange(rows, device=depth.device, dtype=depth.dtype) * patch_size + centre
    u = torch.arange(columns, device=depth.device, dtype=depth.dtype) * patch_size + centre
    v, u = torch.meshgrid(v, u, indexing="ij")
    pixels = torch.stack([u.flatten(), v.flatten(), torch.ones_like(u).flatten()], dim=-1)
    rays = pixels @ torch.linalg.inv(intrinsics).transpose(-1, -2)
    rotation, translation = T_scene_camera[:, :3, :3], T_scene_camera[:, :3, 3]
    return (rays * depth.unsqueeze(-1)) @ rotation.transpose(-1, -2) + translation.unsqueeze(1)


def voxel_pool(features: Tensor, positions: Tensor, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Means of features [T, C] and positions [T, 3] within cubic voxels centred on multiples of ``voxel_size`` metres.

    Returns:
        ([V, C], [V, 3]), voxels in the order of their (x, y, z) index: the same for every order of the input.
    """
    slots, count = _voxels(positions, voxel_size)
    sizes = torch.bincount(slots, minlength=count).unsqueeze(-1)
    # Summed in float32: half precision loses the small addends of a full voxel.
    sums = torch.zeros(count, features.shape[1], device=features.device).index_add(0, slots, features.float())
    centres = positions.new_zeros(count, 3).index_add(0, slots, positions) / sizes
    return (sums / sizes).to(features.dtype), centres


def _voxels(positions: Tensor, voxel_size: float) -> tuple[Tensor, int]:
    """The voxel of each point [T] and how many voxels there are."""
    index = torch.round(positions / voxel_size).long()
    # Ranks instead of indices along each axis: their products cannot overflow, however far apart two points are.
    ranks = [torch.unique(index[:, axis], return_inverse=True) for axis in range(3)]
    keys = ranks[0][1]
    for values, rank in ranks[1:]:
        keys = keys * len(values) + rank
    unique, slots = torch.unique(keys, return_inverse=True)
    return slots, len(unique)


class PatchConstructor(nn.Module):
    """Builds the language model's 3D patch tokens (Eq. 3 and 4) and pools them.

    Args:
        config: sizes.
    """

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self.config = config
        self.position = PositionEncoding(
            config.feature_dim, config.position_hidden, config.position_frequencies, config.position_period
        )

    def lift(
        self, semantic_tokens: Tensor, depth: Tensor, intrinsics: Tensor, T_scene_camera: Tensor, patch_size: int
    ) -> SceneTokens:
        """``place`` and ``embed`` in one: a 3D token T_3D (Eq. 4) for each image patch with a usable depth."""
        return self.embed(self.place(semantic_tokens, depth, intrinsics, T_scene_camera, patch_size))

    def embed(self, placed: SceneTokens) -> SceneTokens:
        """Eq. 4: adds the embedding of its position to each semantic token."""
        embedding = self.position(placed.positions).to(placed.features.dtype)
        return SceneTokens(features=placed.features + embedding, positions=placed.positions)

    def place(
        self, semantic_tokens: Tensor, depth: Tensor, intrinsics: Tensor, T_scene_camera: Tensor, patch_size: int
    ) -> SceneTokens:
        """Eq. 3: semantic tokens at their patch's point in the scene.

        Geometry is detached first: the language loss reaches the semantic tokens, never the reconstruction branch.

        Args:
            semantic_tokens: [S, N, C], patches row-major.
            depth: [S, H, W] metres along the optical axis; 0, negative or not finite where unknown.
            intrinsics: [S, 3, 3] pixels.
            T_scene_camera: [S, 4, 4] camera-to-scene poses, metres.
            patch_size: pixels along one side of a patch.

        Returns:
            T <= S * N tokens, frame by frame, row by row. Patches without a valid depth, or deeper than
            ``config.max_range``, are left out.

        Raises:
            ValueError: the shapes do not belong together.
        """
        frames, height, width = depth.shape
        rows, columns = height // patch_size, width // patch_size
        expected = (frames, rows * columns, self.config.feature_dim)
        if (rows * patch_size, columns * patch_size) != (height, width) or semantic_tokens.shape != expected:
            raise ValueError(
                f"semantic tokens {tuple(semantic_tokens.shape)} do not fit depth {tuple(depth.shape)} with patches of "
                f"{patch_size} px; expected {expected} and sides that are multiples of the patch"
            )
        for name, value, shape in (
            ("intrinsics", intrinsics, (frames, 3, 3)),
            ("T_scene_camera", T_scene_camera, (frames, 4, 4)),
        ):
            if value.shape != shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {shape}")
        # Half precision would misplace a point 5 m away by millimetres to centimetres.
        with torch.no_grad(), torch.autocast(depth.device.type, enabled=False):
            distance = patch_depth(depth.float(), patch_size)
            points = back_project(distance, intrinsics.float(), T_scene_camera.float(), rows, columns, patch_size)
            usable = (distance <= self.config.max_range) & points.isfinite().all(dim=-1)
        return SceneTokens(features=semantic_tokens[usable], positions=points[usable])

    def pool(self, scene: SceneTokens, budget: int | None = None) -> SceneTokens:
        """Averages the tokens of each voxel; where that leaves too many, grows the voxel until they fit.

        Growing keeps the whole scene at a coarser grain and is repeatable, where a random subset would leave holes that
        differ from call to call.

        Args:
            scene: tokens to pool.
            budget: the most tokens to return; None for ``config.max_tokens``.

        Raises:
            ValueError: ``budget`` is below 1.
        """
        budget = self.config.max_tokens if budget is None else budget
        if budget < 1:
            raise ValueError(f"the token budget is {budget}; it must be at least 1")
        if len(scene.positions) == 0:
            return scene
        voxel = self.config.voxel_size
        while _voxels(scene.positions, voxel)[1] > budget:
            voxel *= _VOXEL_GROWTH
        features, positions = voxel_pool(scene.features, scene.positions, voxel)
        return SceneTokens(features=features, positions=positions)
