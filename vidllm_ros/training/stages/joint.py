"""Stage 2: all modules together (Eq. 8), with gradients that flow one way only (paper section 3.4).

The reconstruction losses train encoder, adapter, backbone and heads. The vision-language losses train the adapter, the
position embedding, the language model and the grounding decoder: they see the scene through the adapter's semantic
stream, whose input is detached from the encoder, at points that carry no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.training.losses.geometry import GeometryLossConfig, geometry_losses
from vidllm_ros.training.losses.reasoning import ReasoningModel, ReasoningWeights, draw_questions
from vidllm_ros.training.losses.reasoning_scene import reconstructed_scene
from vidllm_ros.training.losses.targets import geometry_targets
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class JointPhaseConfig:
    """Weights and draws of stage 2.

    Args:
        geometry: weights of L_recon and L_MD.
        reasoning: weights within L_VL.
        language: weight of L_VL against the others; the paper gives 1 to all.
        tasks: text tasks drawn per scene and step.
        labels: class names located per scene and step.
    """

    geometry: GeometryLossConfig = field(default_factory=GeometryLossConfig)
    reasoning: ReasoningWeights = field(default_factory=ReasoningWeights)
    language: float = 1.0
    tasks: int = 12
    labels: int = 3


class JointModel(nn.Module):
    """Everything that stage 2 trains."""

    def __init__(self, model: VidLLM) -> None:
        super().__init__()
        self.reconstruction = model.reconstruction
        self.reasoning = ReasoningModel(model)


class JointPhase:
    """Turns batches of windows into the loss of Eq. 8.

    Args:
        model: the network.
        trained: its trainable parts.
        config: weights and draws.
        stream: batches of windows of equal frame count and size.
        seed: of the drawn questions.
    """

    def __init__(
        self,
        model: VidLLM,
        trained: JointModel,
        config: JointPhaseConfig,
        stream: Iterator[list[Sample]],
        seed: int = 0,
    ) -> None:
        self.model = model
        self.trained = trained
        self.config = config
        self.stream = stream
        self.samples: list[Sample] = []
        self.seed = seed

    def step(self, index: int) -> tuple[Tensor, dict[str, float], int]:
        """One batch's loss, logged values and frame count."""
        self.samples = samples = next(self.stream)
        geometry, language, values = self.losses(samples, np.random.default_rng((self.seed, index)))
        return geometry + self.config.language * language, values, len(samples) * samples[0].rgb.shape[0]

    def losses(self, samples: list[Sample], rng: np.random.Generator) -> tuple[Tensor, Tensor, dict[str, float]]:
        """L_recon + L_MD, L_VL, and values to log; their gradients meet in the adapter and nowhere else."""
        network = self.trained.reconstruction
        targets = geometry_targets(samples).to(network.encoder.mean.device)
        size = (targets.images.shape[-2], targets.images.shape[-1])
        b, s = targets.images.shape[:2]
        features = network.encode(targets.images.flatten(0, 1)).unflatten(0, (b, s))
        output = network(features, size)
        # Without a metric depth model the output names the relative depth in its place, which no metre may pull at.
        weights = self.config.geometry if network.metric_depth else replace(self.config.geometry, metric=0.0)
        geometry, parts = geometry_losses(
            output.pose_encodings, output, targets, torch.arange(s, device=targets.depth.device), weights
        )
        # The adapter once more, on a base that does not lead back to the encoder.
        semantic = network.adapter(features[:, :, -1].detach())[1]
        seen = replace(
            output,
            semantic_tokens=semantic,
            depth=output.depth.detach(),
            intrinsics=output.intrinsics.detach(),
            camera_from_world=output.camera_from_world.detach(),
        )
        rooms = [reconstructed_scene(self.model, seen, index, sample) for index, sample in enumerate(samples)]
        asked = [draw_questions(room, self.config.tasks, self.config.labels, rng) for room in rooms]
        language, values = self.trained.reasoning.losses(rooms, asked, self.config.reasoning)
        return geometry, language, {name: float(part.detach()) for name, part in parts.items()} | values
