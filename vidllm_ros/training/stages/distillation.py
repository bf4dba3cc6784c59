"""Stage 1: encoder and adapter learn from two teachers before any task is trained (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.training.losses.distillation import DistillationLoss, DistillationWeights
from vidllm_ros.training.losses.targets import stacked_images
from vidllm_ros.training.sample import Sample
from vidllm_ros.training.stages.teachers import Teacher


class DistillationModel(nn.Module):
    """What stage 1 trains: encoder, adapter and the layers that lead to the teachers' widths."""

    def __init__(
        self, reconstruction: ReconstructionModel, teachers: tuple[Teacher, Teacher], weights: DistillationWeights
    ) -> None:
        super().__init__()
        self.encoder, self.adapter = reconstruction.encoder, reconstruction.adapter
        self.loss = DistillationLoss(reconstruction.config.encoder.dim, teachers[0].dim, teachers[1].dim, weights)


class DistillationPhase:
    """Turns batches of frames into the loss of Eq. 5.

    Args:
        model: the student.
        teachers: geometry and semantics.
        stream: batches of windows of equal frame count and size.
        patch_size: pixels along one side of a patch.
    """

    def __init__(
        self,
        model: DistillationModel,
        teachers: tuple[Teacher, Teacher],
        stream: Iterator[list[Sample]],
        patch_size: int,
    ) -> None:
        self.model = model
        self.teachers = teachers
        self.stream = stream
        self.samples: list[Sample] = []
        self.patch_size = patch_size

    def step(self, index: int) -> tuple[Tensor, dict[str, float], int]:
        """One batch's loss, logged values and frame count."""
        self.samples = samples = next(self.stream)
        images = stacked_images(samples)
        b, s = images.shape[:2]
        frames = images.flatten(0, 1)
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        device = self.model.encoder.mean.device
        base = self.model.encoder(frames.to(device))[:, -1].unflatten(0, (b, s))
        geometry, language = (stream.flatten(0, 1) for stream in self.model.adapter(base))
        taught = [torch.cat([t.features(window, grid) for window in images]).to(device) for t in self.teachers]
        total, parts = self.model.loss((geometry, language), (taught[0], taught[1]))
        return total, {name: float(value.detach()) for name, value in parts.items()}, b * s
