"""Second phase of the bundled model's training: language and grounding on the frozen, predicted geometry of rooms.

The reconstruction branch and the adapter stay as the first phase left them, so a scene is reconstructed once and then
asked many times; the 3D patches' position embedding, the language model and the grounding decoder learn on what the
robot will really see, errors included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from vidllm_ros.model.language_types import locate_pair
from vidllm_ros.model.outputs import GeometryOutput, SceneTokens
from vidllm_ros.model.vidllm import VidLLM, scene_poses
from vidllm_ros.training.auxiliary import at_patch_centres
from vidllm_ros.training.grounding_loss import GroundingWeights, Surroundings, grounding_loss
from vidllm_ros.training.loop import TrainingLoop, process_index, world_size
from vidllm_ros.training.query_classes import QueryClassifier
from vidllm_ros.training.room_stream import BatchPlan, batches
from vidllm_ros.training.rooms import LABELS, box_in_scene, scene_from_world, visible_boxes
from vidllm_ros.training.rooms.materials import COLOURS
from vidllm_ros.training.sample import Sample
from vidllm_ros.training.word_alignment import alignment_loss, word_embeddings

COLOR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class ReasoningPhaseConfig:
    """What a batch holds.

    Args:
        plan: rooms per batch, of which ``fresh`` are newly rendered and reconstructed.
        tasks: text tasks drawn per scene and step.
        labels: class names located per scene and step, about a third of them absent from the room.
        blind: share of the steps without visual tokens, so that the blind baseline is a trained one.
        capacity: reconstructed scenes kept for later batches.
        grounding: weight of the grounding losses.
        category: weight of the class of what each query shows.
        words: weight of the alignment of scene tokens with the words for what they show.
        terms: weights within the grounding losses.
    """

    plan: BatchPlan = field(default_factory=lambda: BatchPlan(windows=8, frames=12, stride=(2, 3), fresh=1, tasks=24))
    tasks: int = 12
    labels: int = 3
    blind: float = 0.1
    capacity: int = 1500
    grounding: float = 0.5
    category: float = 0.5
    words: float = 0.25
    terms: GroundingWeights = field(default_factory=GroundingWeights)


@dataclass(frozen=True, eq=False)
class ReconstructedScene:
    """A room as the frozen network sees it.

    Attributes:
        placed: T semantic tokens at their points, before the position embedding.
        shown: int64 [T] index of the box that each token shows, -1 for walls, floor and ceiling.
        boxes: [A, 7] all boxes of the room in the scene frame: centre, size, yaw.
        classes: int64 [A] their classes, as indices into ``LABELS``.
        colors: int64 [A] their colours, as indices into ``COLOR_NAMES``, -1 for none.
        pairs: (question, answer, indices of the boxes it names) for each text task.
        by_label: indices of the visible boxes of each class.
    """

    placed: SceneTokens
    shown: Tensor
    boxes: Tensor
    classes: Tensor
    colors: Tensor
    pairs: list[tuple[str, str, list[int]]]
    by_label: dict[str, list[int]]

    def shown_at(self, positions: Tensor) -> Tensor:
        """int64 [Q] index of the box that the token nearest to each of [Q, 3] shows, -1 for none."""
        return self.shown[torch.cdist(positions, self.placed.positions.float()).argmin(dim=1)]

    def surroundings(self, seeds: Tensor, named: list[list[int]]) -> Surroundings:
        """What seeds [Q, 3] show, beside the boxes that each phrase names."""
        return Surroundings(self.boxes, self.shown_at(seeds), named)


def box_vectors(sample: Sample) -> Tensor:
    """All boxes of a sample in the scene frame, float32 [A, 7]: centre, size, yaw."""
    T_scene_world = scene_from_world(sample.T_world_camera)
    rows = []
    for world_box in sample.boxes:
        box = box_in_scene(world_box, T_scene_world)
        yaw = float(np.arctan2(box.rotation[1, 0], box.rotation[0, 0]))
        rows.append([*box.center, *box.size, yaw])
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)


class ReasoningModel(nn.Module):
    """The parts of the network that this phase trains, and a head that only training needs."""

    def __init__(self, model: VidLLM) -> None:
        super().__init__()
        self.patches, self.language, self.grounding = model.patches, model.language, model.grounding
        self.categories = QueryClassifier(model.grounding, len(LABELS))


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
        self.categories = trained.categories
        self.config = config
        self.loop = loop
        self.rng = np.random.default_rng(process_index())
        self.kept: list[ReconstructedScene] = []
        plan = config.plan
        self.windows = plan.windows // world_size()
        fresh = BatchPlan(plan.rendered // world_size(), plan.frames, plan.stride, 0, plan.tasks)
        # Far from the first phase's rooms, and different after every resume.
        first = (1 + process_index()) * 10**8 + loop.step_index
        self.stream: Iterator[list[Sample]] = batches(fresh, model.config.image_size, first, workers)

    def _prepare(self, samples: list[Sample]) -> list[ReconstructedScene]:
        images = torch.from_numpy(np.stack([s.rgb for s in samples])).permute(0, 1, 4, 2, 3).float() / 255
        output = self.model.reconstruct(images)
        return [reconstructed_scene(self.model, output, b, sample) for b, sample in enumerate(samples)]

    def step(self, index: int) -> tuple[Tensor, dict[str, float], int]:
        """One batch's loss, logged values and frame count."""
        samples = next(self.stream)
        self.kept += self._prepare(samples)
        del self.kept[: max(0, len(self.kept) - self.config.capacity)]
        count = min(self.windows, len(self.kept))
        chosen = [self.kept[i] for i in self.rng.choice(len(self.kept), count, replace=False)]
        patches = self.model.patches
        scenes = [patches.pool(patches.embed(scene.placed)) for scene in chosen]
        read = [patches.pool(scene, patches.config.language_tokens) for scene in scenes]
        drawn = [self._draw(scene) for scene in chosen]
        blind = bool(self.rng.random() < self.config.blind)
        spoken = [[(q, a) for q, a, _ in pairs] for pairs in drawn]
        language = self.model.language.loss(read, spoken, blind=blind, balanced=True)
        total = language.loss
        values = {"blind" if blind else "language": float(language.loss.detach())}
        if not blind:
            values["correct"] = language.correct
            losses, categories = [], []
            for room, scene, pairs, states in zip(chosen, scenes, drawn, language.loc_states, strict=True):
                located = [
                    (state, named) for state, (*_, named) in zip(states, pairs, strict=True) if state is not None
                ]
                if located and len(scene.positions):
                    output = self.model.grounding(scene, torch.stack([state for state, _ in located]))
                    named = [indices for _, indices in located]
                    around = room.surroundings(output.query_positions, named)
                    targets = [room.boxes[indices] for indices in named]
                    losses.append(grounding_loss(output, targets, self.config.terms, around))
                    shown = torch.where(around.shown >= 0, room.classes[around.shown], -1)
                    categories.append(self.categories(shown))
            if self.config.words:
                words = self._words(chosen, read)
                total = total + self.config.words * words
                values["words"] = float(words.detach())
            if losses:
                grounding = torch.stack([loss.loss for loss in losses]).mean()
                category = torch.stack(categories).mean()
                total = total + self.config.grounding * grounding + self.config.category * category
                values["grounding"], values["category"] = float(grounding.detach()), float(category.detach())
                for name in losses[0].terms:
                    values[name] = float(np.mean([loss.terms.get(name, 0.0) for loss in losses]))
        return total, values, len(samples) * self.config.plan.frames

    def _words(self, rooms: list[ReconstructedScene], scenes: list[SceneTokens]) -> Tensor:
        """How far scene tokens are from the names of their objects' classes and colours."""
        tokens = torch.cat([self.model.language.projector(scene.features) for scene in scenes])
        classes, colors = [], []
        for room, scene in zip(rooms, scenes, strict=True):
            shown = room.shown_at(scene.positions.float())
            classes.append(torch.where(shown >= 0, room.classes[shown], -1))
            colors.append(torch.where(shown >= 0, room.colors[shown], -1))
        losses = [
            alignment_loss(tokens, word_embeddings(self.model.language, names), torch.cat(wanted))
            for names, wanted in ((LABELS, classes), (COLOR_NAMES, colors))
        ]
        return torch.stack(losses).sum()

    def _draw(self, scene: ReconstructedScene) -> list[tuple[str, str, list[int]]]:
        order = self.rng.permutation(len(scene.pairs))[: self.config.tasks]
        pairs = [scene.pairs[i] for i in order]
        present = list(scene.by_label)
        absent = [label for label in LABELS if label not in scene.by_label]
        for _ in range(self.config.labels):
            names = absent if (absent and self.rng.random() < 0.34) or not present else present
            label = names[self.rng.integers(len(names))]
            pairs.append((*locate_pair(label), scene.by_label.get(label, [])))
        return pairs


def reconstructed_scene(model: VidLLM, output: GeometryOutput, batch: int, sample: Sample) -> ReconstructedScene:
    """Place the tokens of window ``batch`` in the sample's scene frame, beside what may be asked about it."""
    T_scene_window = scene_from_world(sample.T_world_camera) @ sample.T_world_camera[0]

    def place(values: Tensor) -> SceneTokens:
        return model.patches.place(
            values,
            output.depth[batch],
            output.intrinsics[batch],
            scene_poses(output.camera_from_world[batch], T_scene_window),
            output.patch_size,
        )

    tokens = output.semantic_tokens[batch]
    placed = place(tokens)
    # The instance at each patch's centre takes the same way as its token, so that both leave out the same patches.
    instances = at_patch_centres(torch.from_numpy(sample.instances)[None], output.patch_size)[0]
    shown = place(instances.float()[..., None].expand_as(tokens))
    by_label: dict[str, list[int]] = {}
    for index in visible_boxes(sample):
        by_label.setdefault(sample.boxes[index].label, []).append(index)
    # Clones leave inference mode, so that gradients of what follows can be recorded.
    return ReconstructedScene(
        placed=SceneTokens(placed.features.clone(), placed.positions.clone()),
        shown=shown.features[:, 0].long().clamp_min(-1),
        boxes=box_vectors(sample),
        classes=torch.tensor([LABELS.index(box.label) for box in sample.boxes], dtype=torch.long),
        colors=torch.tensor([COLOR_NAMES.index(c) if c in COLOR_NAMES else -1 for c in sample.colors]),
        pairs=[(task.question, task.answer, list(task.box_ids)) for task in sample.tasks],
        by_label=by_label,
    )
