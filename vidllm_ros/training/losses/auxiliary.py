"""Dense auxiliary supervision that exact ground truth allows; used while training, absent from checkpoints.

A pose loss alone gives nine numbers per frame to learn from. These heads ask every patch where its point lies, which
patch of another frame sees the same point, what it shows and in which colour, and so teach matching and meaning long
before the sparse losses could.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidllm_ros.model.reconstruction.backbone import GlobalFrameBackbone
from vidllm_ros.model.reconstruction.layers import SelfAttention
from vidllm_ros.training.losses.targets import GeometryTargets
from vidllm_ros.training.sample import Sample

IGNORED = -100
STRUCTURE_CLASSES = 3  # wall, floor, ceiling: instance ids -1, -2, -3


def at_patch_centres(values: Tensor, patch: int) -> Tensor:
    """[B, S, H, W, ...] sampled at the patch centres, row-major, [B, S, N, ...]."""
    return values[:, :, patch // 2 :: patch, patch // 2 :: patch].flatten(2, 3)


def patch_correspondences(
    targets: GeometryTargets, pairs: Sequence[tuple[int, int]], patch: int, tolerance: float
) -> Tensor:
    """For each patch centre of a pair's first frame, the patch of its second frame that sees the same point.

    Args:
        targets: ground truth of windows of S frames.
        pairs: K pairs of frame indices.
        patch: pixels along one side of a patch.
        tolerance: by how much of its distance a point may be off the surface that the second frame shows.

    Returns:
        int64 [B, K, N], ``IGNORED`` where the point is outside the second image, hidden or without depth.
    """
    height, width = targets.depth.shape[-2:]
    first, second = torch.tensor(pairs, device=targets.depth.device).T
    points = at_patch_centres(targets.points, patch)[:, first] * targets.scale[:, None, None, None]
    pose, k = targets.camera_from_world[:, second], targets.intrinsics[:, second]
    camera = points @ pose[..., :3].mT + pose[..., None, :, 3]
    z = camera[..., 2]
    pixel = camera @ k.mT
    uv = (pixel[..., :2] / z.clamp_min(1e-6)[..., None]).round().long()
    inside = (z > 0.05) & (uv >= 0).all(-1) & (uv[..., 0] < width) & (uv[..., 1] < height)
    u, v = uv[..., 0].clamp(0, width - 1), uv[..., 1].clamp(0, height - 1)
    batch = torch.arange(len(z), device=z.device)[:, None, None]
    seen = targets.depth[batch, second[:, None], v, u]
    known = at_patch_centres(targets.depth, patch)[:, first] > 0
    visible = inside & known & ((seen - z).abs() < tolerance * z)
    return torch.where(visible, v // patch * (width // patch) + u // patch, IGNORED)


class AttentionProbe:
    """Looks at what one global block attends to, so that two of its heads can be taught to match.

    Without it, attention across frames finds matching patches only after tens of thousands of frames, and until then
    every pose is "no motion".
    """

    def __init__(self, backbone: GlobalFrameBackbone, block: int) -> None:
        self.special_tokens = backbone.special_tokens
        self.attention: SelfAttention = backbone.global_blocks[block].attn
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.attention.register_forward_pre_hook(self._remember)

    def _remember(self, module: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        self.inputs = args

    def queries_and_keys(self, frames: int, heads: int) -> tuple[Tensor, Tensor]:
        """What the first ``heads`` heads compare, each [B, heads, S, P, C], the special tokens in front of a frame.

        Their inner products are the attention logits.
        """
        assert self.inputs is not None
        x, positions = self.inputs
        a = self.attention
        b, n, c = x.shape
        q, k, _ = a.qkv(x).reshape(b, n, 3, a.heads, c // a.heads)[:, :, :, :heads].permute(2, 0, 3, 1, 4)
        q, k = a.q_norm(q), a.k_norm(k)
        if a.rope is not None:
            q, k = a.rope(q, positions), a.rope(k, positions)
        q = q / (c // a.heads) ** 0.5
        return q.unflatten(2, (frames, n // frames)), k.unflatten(2, (frames, n // frames))

    def tokens(self, frames: int) -> Tensor:
        """The patch tokens that enter the block, [B, S, N, C]."""
        assert self.inputs is not None
        x = self.inputs[0]
        return x.unflatten(1, (frames, x.shape[1] // frames))[:, :, self.special_tokens :]

    def loss(self, targets: GeometryTargets, patch: int) -> Tensor:
        """Head 0 finds each point's patch in the first frame among everything, head 1 in a neighbour frame."""
        frames = targets.depth.shape[1]
        if frames < 2:
            return targets.depth.new_zeros(())
        special = self.special_tokens
        (q_first, q_neighbour), (k_first, k_neighbour) = (x.unbind(1) for x in self.queries_and_keys(frames, heads=2))
        later = range(1, frames)
        to_first = patch_correspondences(targets, [(frame, 0) for frame in later], patch, tolerance=0.05)
        # The first frame's patches stand right behind its special tokens.
        wanted = torch.where(to_first == IGNORED, IGNORED, to_first + special)
        among_all = q_first[:, 1:, special:] @ k_first.flatten(1, 2).mT[:, None]
        to_neighbour = patch_correspondences(targets, [(frame, frame - 1) for frame in later], patch, tolerance=0.05)
        in_neighbour = q_neighbour[:, 1:, special:] @ k_neighbour[:, :-1, special:].mT
        return (masked_cross_entropy(among_all, wanted) + masked_cross_entropy(in_neighbour, to_neighbour)) / 2


def masked_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of [..., K] logits over the targets that are not ``IGNORED``; 0 without any."""
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED).nan_to_num()


class AuxiliaryHeads(nn.Module):
    """Linear heads on patch tokens: point map, place in the first image, correspondence, class and colour."""

    def __init__(self, dim: int, classes: list[str], colors: list[str], match_dim: int = 64) -> None:
        super().__init__()
        self.classes = {name: STRUCTURE_CLASSES + i for i, name in enumerate(classes)}
        self.colors = {name: i for i, name in enumerate(colors)}
        self.point = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 3))
        self.place = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 2))
        self.own_place = nn.Linear(dim, 2)
        self.match = nn.Linear(dim, match_dim)
        self.match_deep = nn.Linear(2 * dim, match_dim)
        self.label = nn.Linear(dim, STRUCTURE_CLASSES + len(classes))
        self.color = nn.Linear(dim, len(colors))

    def labels(self, samples: list[Sample], patch: int) -> tuple[Tensor, Tensor]:
        """Class and colour index of each patch centre, each int64 [B, S, N], ``IGNORED`` where there is none."""
        both = []
        for sample in samples:
            ids = torch.from_numpy(sample.instances).long()
            # Negative ids index the table from its end: unknown, ceiling, floor, wall.
            structure = [IGNORED, 2, 1, 0]
            label_table = [self.classes.get(b.label, IGNORED) for b in sample.boxes] + structure
            color_table = [self.colors.get(c, IGNORED) for c in sample.colors] + [IGNORED] * 4
            both.append((torch.tensor(label_table)[ids], torch.tensor(color_table)[ids]))
        stacked = (torch.stack([b[i] for b in both]) for i in range(2))
        label, color = (at_patch_centres(x, patch) for x in stacked)
        return label, color

    def match_loss(self, tokens: Tensor, projection: nn.Linear, targets: GeometryTargets, patch: int) -> Tensor:
        """InfoNCE between patches of each frame, the next one and the last one; chance level is log N."""
        frames = tokens.shape[1]
        if frames < 2:
            return tokens.new_zeros(())
        embedded = F.normalize(projection(tokens), dim=-1) / 0.1**0.5
        pairs = sorted({(i, j) for i in range(frames - 1) for j in (i + 1, frames - 1)})
        first, second = torch.tensor(pairs, device=tokens.device).T
        logits = embedded[:, first] @ embedded[:, second].mT
        return masked_cross_entropy(logits, patch_correspondences(targets, pairs, patch, tolerance=0.05))

    def place_loss(self, geometry_tokens: Tensor, targets: GeometryTargets, patch: int) -> Tensor:
        """Where the first image shows each patch's point, in units of the image's sides; L1 over visible points."""
        pixel = at_patch_centres(targets.points, patch) @ targets.intrinsics[:, :1].mT
        z = pixel[..., 2:]
        uv = pixel[..., :2] / z.clamp_min(1e-3)
        height, width = targets.depth.shape[-2:]
        uv = uv / uv.new_tensor([width, height])
        known = at_patch_centres(targets.depth, patch) > 0
        visible = known & (z[..., 0] > 0.02) & (uv > -0.5).all(-1) & (uv < 1.5).all(-1)
        visible[:, 0] = False
        error = (self.place(geometry_tokens) - uv).abs().sum(-1)
        return (error * visible).sum() / visible.sum().clamp_min(1)

    def own_place_loss(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Each patch [B, S, N, C] must know its own place: what matching copies from another frame is a place."""
        rows, columns = grid
        v = (torch.arange(rows, device=tokens.device) + 0.5) / rows
        u = (torch.arange(columns, device=tokens.device) + 0.5) / columns
        uv = torch.stack([u.repeat(rows), v.repeat_interleave(columns)], dim=-1)
        return (self.own_place(tokens) - uv).abs().sum(-1).mean()

    def forward(
        self,
        features: Tensor,
        semantic: Tensor,
        geometry: Tensor,
        targets: GeometryTargets,
        samples: list[Sample],
        patch: int,
    ) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            features: the encoder's, [B, S, L, N, C].
            semantic: semantic tokens [B, S, N, C].
            geometry: patch tokens of the backbone's last layer, [B, S, N, 2C].
            targets: ground truth of the same windows.
            samples: the windows themselves, for classes and colours.
            patch: pixels along one side of a patch.
        """
        label, color = (ids.to(features.device) for ids in self.labels(samples, patch))
        truth = at_patch_centres(targets.points, patch)
        known = at_patch_centres(targets.depth, patch) > 0
        points = self.point(geometry)
        return {
            "patch_point": ((points - truth).norm(dim=-1) * known).sum() / known.sum().clamp_min(1),
            "match": self.match_loss(features[:, :, -1], self.match, targets, patch),
            "match_deep": self.match_loss(geometry, self.match_deep, targets, patch),
            "place": self.place_loss(geometry, targets, patch),
            "label": masked_cross_entropy(self.label(semantic), label),
            "color": masked_cross_entropy(self.color(semantic), color),
        }
