"""Second phase of the bundled model's training: language and grounding on the frozen, predicted geometry of rooms.

The reconstruction branch and the adapter stay as the first phase left them, so a scene is reconstructed once and then
asked many times; the 3D patches' position embedding, the language model and the grounding decoder learn on what the
robot will really see: cameras after bundle adjustment, remaining errors included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.training.data.room_stream import BatchPlan, batches
from vidllm_ros.training.loop import TrainingLoop
from vidllm_ros.training.losses.reasoning import ReasoningModel, ReasoningWeights, draw_questions
from vidllm_ros.training.losses.reasoning_scene import ReconstructedScene, reconstructed_scene
from vidllm_ros.training.losses.targets import stacked_images
from vidllm_ros.training.processes import process_index, world_size
from vidllm_ros.training.sample import Sample
from vidllm_ros.training.stages.adjusted_cameras import adjust_cameras


@dataclass(frozen=True)
class ReasoningPhaseConfig:
    """What a batch holds.

    Args:
        plan: rooms per batch, of which ``fresh`` are newly rendered and reconstructed.
        tasks: text tasks drawn per scene and step.
        labels: class names located per scene and step, about a third of them absent from the room.
        blind: share of the steps without visual tokens, so that the blind baseline is a trained one.
        capacity: reconstructed scenes kept for later batches.
        weights: of the losses.
    """

    plan: BatchPlan = field(default_factory=lambda: BatchPlan(windows=8, frames=32, stride=(1, 1), fresh=1, tasks=24))
    tasks: int = 12
    labels: int = 3
    blind: float = 0.1
    capacity: int = 1500
    weights: ReasoningWeights = field(default_factory=ReasoningWeights)


class ReasoningPhase:
    """Turns batches of rooms into language and grounding losses."""

    def __init__(
        self,
        model: VidLLM,
        trained: ReasoningModel,
        config: ReasoningPhaseConfig,
        loop: TrainingLoop,
        workers: int = 1,
    ) -> None:
        self.model = model
        self.trained = trained
        self.config = config
        self.rng = np.random.default_rng(process_index())
        self.kept: list[ReconstructedScene] = []
        plan = config.plan
        self.windows = plan.windows // world_size()
        fresh = BatchPlan(plan.rendered // world_size(), plan.frames, plan.stride, 0, plan.tasks)
        # Far from the first phase's rooms, and different after every resume.
        first = (1 + process_index()) * 10**8 + loop.step_index
        self.samples: list[Sample] = []
        self.stream: Iterator[list[Sample]] = batches(fresh, model.config.image_size, first, workers)

    def _prepare(self, samples: list[Sample]) -> list[ReconstructedScene]:
        images = stacked_images(samples)
        output = adjust_cameras(self.model.reconstruct(images), [sample.rgb for sample in samples])
        return [reconstructed_scene(self.model, output, b, sample) for b, sample in enumerate(samples)]

    def step(self, index: int) -> tuple[Tensor, dict[str, float], int]:
        """One batch's loss, logged values and frame count."""
        self.samples = samples = next(self.stream)
        self.kept += self._prepare(samples)
        del self.kept[: max(0, len(self.kept) - self.config.capacity)]
        count = min(self.windows, len(self.kept))
        rooms = [self.kept[i] for i in self.rng.choice(len(self.kept), count, replace=False)]
        asked = [draw_questions(room, self.config.tasks, self.config.labels, self.rng) for room in rooms]
        blind = bool(self.rng.random() < self.config.blind)
        total, values = self.trained.losses(rooms, asked, self.config.weights, blind)
        return total, values, len(samples) * self.config.plan.frames
