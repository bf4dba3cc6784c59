"""Losses of the reasoning branch on placed scenes: answers, boxes, and what helps a small network to both."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.language_types import locate_pair
from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.training.losses.grounding import GroundingLoss, GroundingWeights, grounding_loss
from vidllm_ros.training.losses.query_classes import QueryClassifier
from vidllm_ros.training.losses.reasoning_scene import COLOR_NAMES, Question, ReconstructedScene
from vidllm_ros.training.losses.word_alignment import alignment_loss, word_embeddings
from vidllm_ros.training.rooms import LABELS


@dataclass(frozen=True)
class ReasoningWeights:
    """Weights beside the language loss, which has 1.

    Args:
        grounding: of the grounding losses.
        terms: within the grounding losses.
        category: of the class of what each query shows.
        words: of the alignment of scene tokens with the words for what they show.
    """

    grounding: float = 0.5
    terms: GroundingWeights = field(default_factory=GroundingWeights)
    category: float = 0.5
    words: float = 0.25


class ReasoningModel(nn.Module):
    """The parts of the network that answer and locate, and a head that only training needs."""

    def __init__(self, model: VidLLM) -> None:
        super().__init__()
        self.patches, self.language, self.grounding = model.patches, model.language, model.grounding
        self.categories = QueryClassifier(model.grounding, len(LABELS))

    def losses(
        self,
        rooms: list[ReconstructedScene],
        asked: list[list[Question]],
        weights: ReasoningWeights,
        blind: bool = False,
    ) -> tuple[Tensor, dict[str, float]]:
        """L_VL of Eq. 8 with the auxiliary terms, and values to log.

        Args:
            rooms: placed scenes.
            asked: (question, answer, indices of the boxes it names) for each of them.
            weights: of the terms.
            blind: show the language model nothing, and train it alone.
        """
        scenes = [self.patches.pool(self.patches.embed(room.placed)) for room in rooms]
        read = [self.patches.pool(scene, self.patches.config.language_tokens) for scene in scenes]
        spoken = [[(question, answer) for question, answer, _ in row] for row in asked]
        language = self.language.loss(read, spoken, blind=blind, balanced=True)
        if blind:
            return language.loss, {"blind": language.loss.item()}
        words = self._words(rooms, read)
        total = language.loss + weights.words * words
        values = {"language": language.loss.item(), "correct": language.correct, "words": words.item()}
        located: list[GroundingLoss] = []
        categories: list[Tensor] = []
        for room, scene, row, states in zip(rooms, scenes, asked, language.loc_states, strict=True):
            phrases = [(state, named) for state, (*_, named) in zip(states, row, strict=True) if state is not None]
            if phrases and len(scene.positions):
                loss, category = self._locate(room, scene, phrases, weights.terms)
                located.append(loss)
                categories.append(category)
        if located:
            grounding, category = torch.stack([loss.loss for loss in located]).mean(), torch.stack(categories).mean()
            total = total + weights.grounding * grounding + weights.category * category
            values |= {"grounding": grounding.item(), "category": category.item()}
            values |= {name: float(np.mean([loss.terms[name] for loss in located])) for name in located[0].terms}
        return total, values

    def _locate(
        self,
        room: ReconstructedScene,
        scene: SceneTokens,
        phrases: list[tuple[Tensor, list[int]]],
        terms: GroundingWeights,
    ) -> tuple[GroundingLoss, Tensor]:
        """The grounding losses of one room, and how well its queries know what they stand on."""
        output = self.grounding(scene, torch.stack([state for state, _ in phrases]))
        named = [indices for _, indices in phrases]
        around = room.surroundings(output.query_positions, named)
        loss = grounding_loss(output, [room.boxes[indices] for indices in named], terms, around)
        return loss, self.categories(room.looked_up(room.classes, around.shown))

    def _words(self, rooms: list[ReconstructedScene], scenes: list[SceneTokens]) -> Tensor:
        """How far scene tokens are from the names of their objects' classes and colours."""
        tokens = torch.cat([self.language.projector(scene.features) for scene in scenes])
        shown = [room.shown_at(scene.positions.float()) for room, scene in zip(rooms, scenes, strict=True)]
        classes = [room.looked_up(room.classes, of) for room, of in zip(rooms, shown, strict=True)]
        colors = [room.looked_up(room.colors, of) for room, of in zip(rooms, shown, strict=True)]
        losses = [
            alignment_loss(tokens, word_embeddings(self.language, names), torch.cat(wanted))
            for names, wanted in ((LABELS, classes), (COLOR_NAMES, colors))
        ]
        return torch.stack(losses).sum()


def draw_questions(scene: ReconstructedScene, tasks: int, labels: int, rng: np.random.Generator) -> list[Question]:
    """Some of a scene's text tasks, and names of classes to locate, about a third of them absent from it."""
    order = rng.permutation(len(scene.pairs))[:tasks]
    pairs = [scene.pairs[i] for i in order]
    present = list(scene.by_label)
    absent = [label for label in LABELS if label not in scene.by_label]
    for _ in range(labels):
        names = absent if (absent and rng.random() < 0.34) or not present else present
        label = names[rng.integers(len(names))]
        pairs.append((*locate_pair(label), scene.by_label.get(label, [])))
    return pairs
