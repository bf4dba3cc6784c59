"""Questions that the frames of one room sample can answer, with their answers.

A question is asked only when its answer is beyond doubt: what it is about is seen clearly, what is merely glimpsed
cannot change the answer, comparisons have a margin, and rounded lengths keep away from the edges of their rounding
steps. Answers are balanced (yes and no, left and right, colours, counts) so that the question alone says little.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.furniture import LABELS, draw_colour
from vidllm_ros.training.rooms.layout import PlacedObject
from vidllm_ros.training.rooms.phrases import (
    BEARINGS,
    COLOURLESS,
    LOCATION_TOKEN,
    NUMBERS,
    PLURALS,
    article,
    counted,
    listing,
    metres,
    point_text,
)
from vidllm_ros.training.rooms.referring import View
from vidllm_ros.training.rooms.visibility import axis_aligned
from vidllm_ros.training.sample import Sample, TextTask

DISTANCE_STEP = 0.5
SIZE_STEP = 0.25
_COMPARE_MARGIN = 0.4
_BEARING_MARGIN = 4.0

#: How often short windows show each class (measured on 300 windows of 4 frames). "Yes" questions prefer rare classes
#: and "no" questions common ones, so that the class alone does not tell the answer.
_SEEN_RATE = {
    "bed": 0.16,
    "sofa": 0.18,
    "table": 0.28,
    "desk": 0.13,
    "chair": 0.42,
    "stool": 0.23,
    "cabinet": 0.34,
    "bookshelf": 0.31,
    "television": 0.21,
    "lamp": 0.28,
    "plant": 0.25,
    "refrigerator": 0.13,
    "box": 0.28,
    "bin": 0.26,
}


def bearing_words(x: float, y: float) -> str | None:
    """The direction of a place in the scene frame, in words; None within 4 degrees of the border of two directions."""
    angle = float(np.degrees(np.arctan2(y, x)))
    size = abs(angle)
    if any(abs(size - edge) < _BEARING_MARGIN for edge, _ in BEARINGS[:-1]):
        return None
    index = next(i for i, (edge, _) in enumerate(BEARINGS) if size <= edge)
    words = BEARINGS[index][1]
    if index in (0, len(BEARINGS) - 1):
        return words
    side = "on the left" if angle > 0 else "on the right"
    return f"{words} {side}".strip()


def rounded(value: float, step: float, margin: float) -> float | None:
    """``value`` to the nearest multiple of ``step``; None when it lies within ``margin`` of the edge between two."""
    nearest = round(value / step) * step
    return None if step / 2 - abs(value - nearest) < margin or nearest <= 0 else nearest


class Asker(View):
    """Draws questions about one sample, one kind per method; None when the frames do not allow one."""

    def count(self) -> TextTask | None:
        """How many of a class are seen; classes with several are preferred, and one is not always worth asking."""
        seen = [self.labels[i] for i in self.seen]
        present = sorted(set(seen) - self.doubtful)
        absent = sorted(set(LABELS) - set(seen) - self.doubtful)
        if absent and (self.rng.random() < 0.12 or not present):
            label = absent[self.rng.integers(len(absent))]
        elif present:
            weights = [(0.4, 2.0, 5.0, 8.0)[min(seen.count(name), 4) - 1] for name in present]
            choice = self.pick(list(range(len(present))), weights)
            assert choice is not None
            label = present[choice]
        else:
            return None
        owners = tuple(i for i in self.seen if self.labels[i] == label)
        if len(owners) == 1 and self.rng.random() < 0.6:
            return None
        return self.ask("count", "count", NUMBERS[len(owners)], owners, things=PLURALS[label])

    def existence(self) -> TextTask | None:
        """Yes or no with equal chance, about a class or about a class and a colour."""
        yes = self.rng.random() < 0.5
        if self.rng.random() < 0.5:
            return self._existence_of_colour(yes)
        seen = {self.labels[i] for i in self.seen}
        options = sorted(seen) if yes else sorted(set(LABELS) - seen - self.doubtful)
        if not options:
            return None
        weights = [1 / _SEEN_RATE[name] if yes else 1 / (1 - _SEEN_RATE[name]) for name in options]
        choice = self.pick(list(range(len(options))), weights)
        assert choice is not None
        label = options[choice]
        owners = tuple(i for i in self.seen if yes and self.labels[i] == label)
        return self.ask("existence", "existence", "yes" if yes else "no", owners, a_thing=article(label))

    def _existence_of_colour(self, yes: bool) -> TextTask | None:
        """The class is there in both cases; only the colour decides."""
        index = self.pick([i for i in self.seen if self.labels[i] not in COLOURLESS])
        if index is None:
            return None
        label, colour = self.labels[index], self.colours[index]
        if not yes:
            taken = {self.colours[i] for i in self.noticed if self.labels[i] == label}
            colour = draw_colour(label, self.rng)
            if colour in taken:
                return None
        owners = tuple(i for i in self.seen if yes and (self.labels[i], self.colours[i]) == (label, colour))
        return self.ask("existence", "existence", "yes" if yes else "no", owners, a_thing=article(f"{colour} {label}"))

    def colour(self) -> TextTask | None:
        """The colour of the only object of its class."""
        noticed = [self.labels[i] for i in self.noticed]
        options = [i for i in self.seen if noticed.count(self.labels[i]) == 1 and self.labels[i] not in COLOURLESS]
        index = self.pick(options)
        if index is None:
            return None
        return self.ask("colour", "colour", self.colours[index], (index,), thing=self.labels[index])

    def size(self) -> TextTask | None:
        """A height to a quarter of a metre, or which of two things is taller."""
        if self.rng.random() < 0.5:
            index = self.named()
            if index is None:
                return None
            height = rounded(float(self.boxes[index].size[2]), SIZE_STEP, 0.04)
            return (
                None
                if height is None
                else self.ask("size", "size_height", metres(height), (index,), it=self.names[index])
            )
        pair = self.pair()
        if pair is None:
            return None
        one, two = (float(self.boxes[i].size[2]) for i in pair)
        if abs(one - two) < 0.15:
            return None
        answer = self.names[pair[0] if one > two else pair[1]]
        return self.ask("size", "size_taller", answer, pair, one=self.names[pair[0]], two=self.names[pair[1]])

    def distance(self) -> TextTask | None:
        """From the first camera to an object's centre, or between two centres, to half a metre."""
        if self.rng.random() < 0.6:
            index = self.named()
            if index is None:
                return None
            away = rounded(float(np.linalg.norm(self.centers[index])), DISTANCE_STEP, 0.06)
            return (
                None
                if away is None
                else self.ask("distance", "distance_camera", metres(away), (index,), it=self.names[index])
            )
        pair = self.pair()
        if pair is None:
            return None
        apart = rounded(float(np.linalg.norm(self.centers[pair[0]] - self.centers[pair[1]])), DISTANCE_STEP, 0.06)
        if apart is None:
            return None
        names = {"one": self.names[pair[0]], "two": self.names[pair[1]]}
        return self.ask("distance", "distance_between", metres(apart), pair, **names)

    def relation(self) -> TextTask | None:
        """Left or right, nearest, closer."""
        draw = self.rng.integers(4)
        if draw == 0:
            index = self.named()
            if index is None or abs(self.centers[index][1]) < 0.3:
                return None
            side = "left" if self.centers[index][1] > 0 else "right"
            return self.ask("relation", "relation_side", side, (index,), it=self.names[index])
        if draw == 1:
            return self._nearest()
        pair = self.pair()
        if pair is None:
            return None
        one, two = self.centers[pair[0]], self.centers[pair[1]]
        names = {"one": self.names[pair[0]], "two": self.names[pair[1]]}
        if draw == 2:
            # Both in front of the first camera, and left in metres is left in its picture as well.
            apart, turn = one[1] - two[1], np.arctan2(one[1], one[0]) - np.arctan2(two[1], two[0])
            if min(one[0], two[0]) < 0.3 or abs(apart) < _COMPARE_MARGIN or apart * turn <= 0:
                return None
            return self.ask("relation", "relation_left_right", "left" if apart > 0 else "right", pair, **names)
        near, far = float(np.linalg.norm(one)), float(np.linalg.norm(two))
        if abs(near - far) < _COMPARE_MARGIN:
            return None
        return self.ask("relation", "relation_closer", names["one" if near < far else "two"], pair, **names)

    def _nearest(self) -> TextTask | None:
        index = self.named()
        others = [i for i in self.noticed if i != index]
        if index is None or len(others) < 2:
            return None
        away = np.linalg.norm(self.centers[others] - self.centers[index], axis=1)
        order = np.argsort(away)
        nearest = others[int(order[0])]
        if away[order[1]] - away[order[0]] < 0.25 or nearest not in self.names or nearest not in self.clear:
            return None
        return self.ask("relation", "relation_nearest", self.names[nearest], (index, nearest), it=self.names[index])

    def location(self) -> TextTask | None:
        """The direction from the first camera, in words."""
        index = self.named()
        words = None if index is None else bearing_words(self.centers[index][0], self.centers[index][1])
        return (
            None
            if index is None or words is None
            else self.ask("location", "location", words, (index,), it=self.names[index])
        )

    def describe_object(self) -> TextTask | None:
        """What is at a point: its colour, class and direction."""
        index = self.pick(self.clear)
        if index is None:
            return None
        center = self.centers[index]
        words = bearing_words(center[0], center[1])
        gaps = [np.linalg.norm(self.centers[i] - center) for i in self.noticed if i != index]
        if words is None or min(gaps, default=9.0) < 0.3:
            return None
        label = self.labels[index]
        what = article(label if label in COLOURLESS else f"{self.colours[index]} {label}")
        return self.ask("describe_object", "describe_object", f"{what}, {words}", (index,), point=point_text(center))

    def describe_room(self) -> TextTask | None:
        """All that is seen, counted, in alphabetical order."""
        if not self.seen:
            return None
        seen = [self.labels[i] for i in self.seen]
        parts = [counted(label, seen.count(label)) for label in sorted(set(seen))]
        return self.ask("describe_room", "describe_room", "a room with " + listing(parts), tuple(self.seen))

    def coordinates(self) -> TextTask | None:
        """Centre and edge lengths, along the scene frame's axes, of a named object."""
        index = self.named()
        if index is None:
            return None
        answer = point_text(axis_aligned(self.boxes[index]))
        return self.ask("coordinates", "coordinates", answer, (index,), it=self.names[index])

    def locate(self) -> TextTask | None:
        """Boxes of all seen objects that the words fit."""
        index = self.pick([i for i in self.clear if self.labels[i] not in self.doubtful])
        if index is None:
            return None
        label, colour = self.labels[index], self.colours[index]
        by_colour = label not in COLOURLESS and self.rng.random() < 0.5
        fits = [i for i in self.seen if self.labels[i] == label and (not by_colour or self.colours[i] == colour)]
        noun = f"{colour} " * by_colour + (label if len(fits) == 1 else PLURALS[label])
        return self.ask("locate", "locate", LOCATION_TOKEN, tuple(fits), it=f"the {noun}")


KINDS = (
    "count",
    "existence",
    "colour",
    "size",
    "distance",
    "relation",
    "location",
    "describe_object",
    "describe_room",
    "coordinates",
    "locate",
)


def room_tasks(
    sample: Sample, objects: list[PlacedObject], rng: np.random.Generator, count: int, kinds: tuple[str, ...] = KINDS
) -> tuple[TextTask, ...]:
    """Up to ``count`` different questions about a room sample, the kinds in turn.

    Args:
        sample: the frames and boxes; its own tasks are not looked at.
        objects: the owners of ``sample.boxes``, in the same order.
        rng: source of randomness.
        count: how many are wanted; fewer come back when the frames show too little.
        kinds: which kinds to ask.

    Raises:
        RoomError: for a kind that does not exist.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise RoomError(f"task kinds {unknown} are unknown; choose from {', '.join(KINDS)}")
    asker = Asker(sample, objects, rng)
    draw: dict[str, Callable[[], TextTask | None]] = {kind: getattr(asker, kind) for kind in kinds}
    found: list[TextTask] = []
    for _ in range(4 + 3 * count // max(1, len(kinds))):
        for kind in rng.permutation(list(kinds)):
            if len(found) >= count:
                return tuple(found)
            task = draw[str(kind)]()
            if task is not None:
                found.append(task)
    return tuple(found)
