"""First phase of the bundled model's training: all of the reconstruction branch, with dense auxiliaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.training.data.room_stream import BatchPlan, batches
from vidllm_ros.training.loop import TrainingLoop
from vidllm_ros.training.losses.auxiliary import AttentionProbe, AuxiliaryHeads
from vidllm_ros.training.losses.geometry import GeometryLossConfig, geometry_losses
from vidllm_ros.training.losses.targets import geometry_targets
from vidllm_ros.training.processes import process_index, world_size
from vidllm_ros.training.rooms.furniture import LABELS
from vidllm_ros.training.rooms.materials import COLOURS
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class GeometryPhaseConfig:
    """Curriculum and weights.

    Args:
        curriculum: (share of the budget at which it ends, batch) pairs: many rooms with few frames first, longer
            windows later.
        dense_frames: frames per batch whose depth is predicted. The dense heads cost as much as everything else, and
            neighbouring frames teach them the same.
        losses: weights of the reconstruction losses.
        auxiliary: weights of the auxiliary losses by name.
    """

    curriculum: tuple[tuple[float, BatchPlan], ...] = (
        (0.30, BatchPlan(windows=24, frames=2, stride=(2, 10), fresh=10)),
        (0.40, BatchPlan(windows=12, frames=4, stride=(2, 8), fresh=6)),
        (0.60, BatchPlan(windows=6, frames=8, stride=(1, 5))),
        (0.85, BatchPlan(windows=4, frames=16, stride=(1, 3))),
        (1.00, BatchPlan(windows=2, frames=32, stride=(1, 1))),
    )
    dense_frames: int = 12
    losses: GeometryLossConfig = field(default_factory=GeometryLossConfig)
    auxiliary: tuple[tuple[str, float], ...] = (
        ("patch_point", 1.0),
        ("place", 1.0),
        ("own_place", 0.5),
        ("attention", 0.3),
        ("match", 0.2),
        ("match_deep", 0.2),
        ("label", 0.3),
        ("color", 0.15),
    )


class GeometryModel(nn.Module):
    """The reconstruction model with the auxiliary heads that only training needs."""

    def __init__(self, reconstruction: ReconstructionModel) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.auxiliary = AuxiliaryHeads(reconstruction.config.encoder.dim, list(LABELS), list(COLOURS))
        # Early enough that the later blocks can turn matches into motion.
        self.probe = AttentionProbe(reconstruction.backbone, block=min(1, reconstruction.config.backbone.pairs - 1))


class GeometryPhase:
    """Turns batches of rooms into losses."""

    def __init__(self, model: GeometryModel, config: GeometryPhaseConfig, loop: TrainingLoop, workers: int = 1) -> None:
        self.model = model
        self.config = config
        self.loop = loop
        self.workers = workers
        self.plan: BatchPlan | None = None
        self.samples: list[Sample] = []
        self.stream: Iterator[list[Sample]] = iter(())

    def _next_batch(self, step: int) -> list[Sample]:
        plan = next(plan for end, plan in self.config.curriculum if self.loop.progress < end or end == 1.0)
        if plan != self.plan:
            self.plan = plan
            # Processes that train together share each batch, and never render the same room.
            share = replace(plan, windows=plan.windows // world_size(), fresh=plan.rendered // world_size())
            first = step + process_index() * 10**7
            self.stream = batches(share, self.model.reconstruction.config.image_size, first, self.workers)
        return next(self.stream)

    def step(self, index: int) -> tuple[Tensor, dict[str, float], int]:
        """One batch's loss, logged values and frame count."""
        self.samples = samples = self._next_batch(index)
        network = self.model.reconstruction
        targets = geometry_targets(samples).to(network.encoder.mean.device)
        b, s = targets.images.shape[:2]
        size = network.config.image_size
        features = network.encode(targets.images.flatten(0, 1)).unflatten(0, (b, s))
        frames, semantic = network.relate(features, size)
        dense = torch.randperm(s)[: max(1, self.config.dense_frames // b)].sort().values.to(targets.depth.device)
        metric = network.measure(features[:, dense], size)
        output = network.predict(frames.of(dense), semantic[:, dense], metric, size)
        total, parts = geometry_losses(frames.encodings, output, targets, dense, self.config.losses)
        patch = network.config.patch_size
        extra = self.model.auxiliary(features, semantic, frames.patches[-1], targets, samples, patch)
        height, width = size
        extra["attention"] = self.model.probe.loss(targets, patch)
        extra["own_place"] = self.model.auxiliary.own_place_loss(
            self.model.probe.tokens(s), (height // patch, width // patch)
        )
        total = total + torch.stack([weight * extra[name] for name, weight in self.config.auxiliary]).sum()
        values = {name: float(value.detach()) for name, value in {**parts, **extra}.items()}
        values["abs_rel"] = metric_error(output.metric_depth.detach(), targets.depth[:, dense])
        return total, values, b * s


def metric_error(prediction: Tensor, truth: Tensor) -> float:
    """Mean of |prediction - truth| / truth over known pixels."""
    known = truth > 0
    return float(((prediction - truth).abs()[known] / truth[known]).mean())
