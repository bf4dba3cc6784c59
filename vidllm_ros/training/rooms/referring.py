"""Which objects a sample shows clearly, and words that mean exactly one of them."""

from __future__ import annotations

import numpy as np

from vidllm_ros.training.rooms.layout import PlacedObject
from vidllm_ros.training.rooms.phrases import COLOURLESS, QUESTIONS
from vidllm_ros.training.rooms.visibility import box_in_scene, scene_from_world, visibility
from vidllm_ros.training.sample import Sample, TextTask


class View:
    """What one sample shows, in the scene frame, and unambiguous names for it."""

    def __init__(self, sample: Sample, objects: list[PlacedObject], rng: np.random.Generator) -> None:
        """Look at the sample once; ``objects`` are its boxes' owners, in the same order."""
        self.rng = rng
        self._asked: set[tuple[str, ...]] = set()
        seen = visibility(sample)
        to_scene = scene_from_world(sample.T_world_camera)
        self.boxes = [box_in_scene(box, to_scene) for box in sample.boxes]
        self.centers = np.array([box.center for box in self.boxes]).reshape(-1, 3)
        self.labels = [thing.label for thing in objects]
        self.colours = [thing.colour for thing in objects]
        self.seen = [int(i) for i in np.flatnonzero(seen.seen)]
        self.clear = [int(i) for i in np.flatnonzero(seen.centered)]
        self.noticed = [int(i) for i in np.flatnonzero(seen.seen | seen.glimpsed)]
        self.doubtful = {self.labels[i] for i in np.flatnonzero(seen.glimpsed)}
        self.names = {i: name for i in self.seen if (name := self._name(i)) is not None}

    def _name(self, index: int) -> str | None:
        """Words that mean exactly this object among all that can be noticed, or None."""
        label, colour = self.labels[index], self.colours[index]
        same = [i for i in self.noticed if self.labels[i] == label]
        if label not in COLOURLESS:
            alone = sum(self.colours[i] == colour for i in same) == 1
            if alone and (len(same) > 1 or self.rng.random() < 0.4):
                return f"the {colour} {label}"
        return f"the {label}" if len(same) == 1 else None

    def pick(self, options: list[int], weights: list[float] | None = None) -> int | None:
        """One of the options; None when there is none."""
        if not options:
            return None
        if weights is None:
            return options[self.rng.integers(len(options))]
        chance = np.asarray(weights) / np.sum(weights)
        return options[int(self.rng.choice(len(options), p=chance))]

    def named(self) -> int | None:
        """A clearly seen object that has a name of its own."""
        return self.pick([i for i in self.clear if i in self.names])

    def pair(self) -> tuple[int, int] | None:
        """Two different clearly seen objects with names of their own."""
        options = [i for i in self.clear if i in self.names]
        if len(options) < 2:
            return None
        first, second = self.rng.permutation(options)[:2]
        return int(first), int(second)

    def ask(self, kind: str, template: str, answer: str, boxes: tuple[int, ...], **words: str) -> TextTask | None:
        """The task, or None when the same was asked before, in whatever phrasing."""
        subject = (template, *words.values())
        if subject in self._asked:
            return None
        self._asked.add(subject)
        choices = QUESTIONS[template]
        return TextTask(kind, choices[self.rng.integers(len(choices))].format(**words), answer, boxes)
