"""Every answer recomputed from boxes, colours and pixels, by other means than those that made it."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from vidllm_ros.training.rooms import COLOURS, KINDS, LABELS, RoomError, room, room_sample, room_tasks
from vidllm_ros.training.rooms.phrases import DIRECTIONS, NUMBERS, PLURALS
from vidllm_ros.training.rooms.tasks import bearing_words, rounded

SINGULAR = {plural: label for label, plural in PLURALS.items()}
NAME = re.compile(rf"(?:({'|'.join(COLOURS)}) )?({'|'.join([*SINGULAR, *LABELS])})\b")


class Truth:
    """What a person with a tape measure would know of a sample."""

    def __init__(self, seed: int, frames: int) -> None:
        self.sample = room_sample(seed, "val", frames, tasks=40)
        self.colours = [thing.colour for thing in room(seed, "val").objects]
        ids, least = self.sample.instances, round(0.004 * 84 * 112)
        counts = [[(frame == i).sum() for frame in ids] for i in range(len(self.sample.boxes))]
        self.any = [i for i, c in enumerate(counts) if sum(c)]
        self.seen = [i for i, c in enumerate(counts) if max(c) >= least]
        pose = self.sample.T_world_camera[0]
        ahead = np.array([*pose[:2, 2], 0]) / np.linalg.norm(pose[:2, 2])
        left = np.array([-ahead[1], ahead[0], 0])
        self.axes, self.eye = np.stack([ahead, left, [0, 0, 1]]), pose[:3, 3]

    def place(self, index: int) -> np.ndarray:
        """Metres ahead, to the left and above the first camera."""
        return self.axes @ (self.sample.boxes[index].center - self.eye)

    def fit(self, text: str, among) -> list[list[int]]:
        """For each name in a text, the objects it fits."""
        found = []
        for colour, noun in NAME.findall(text.replace("bounding box of", "")):
            label = SINGULAR.get(noun, noun)
            fits = [i for i in among if self.sample.boxes[i].label == label]
            found.append([i for i in fits if not colour or self.colours[i] == colour])
        return found

    def one(self, text: str) -> int:
        """The only object that a name fits, among all of which a single pixel is seen."""
        (fits,) = self.fit(text, self.any)
        assert len(fits) == 1, text
        return fits[0]

    def two(self, text: str) -> tuple[int, int]:
        """The only objects that two names fit."""
        first, second = self.fit(text, self.any)
        assert len(first) == len(second) == 1, text
        return first[0], second[0]


def length(answer: str) -> float:
    """Metres of ``about 2.5 meters``."""
    return float(re.fullmatch(r"about (\d+\.\d+) meters", answer)[1])


def check_count(t, task):
    (fits,) = t.fit(task.question, t.any)
    assert task.answer == NUMBERS[len(fits)] and set(fits) <= set(t.seen) and set(task.box_ids) == set(fits)


def check_existence(t, task):
    (fits,) = t.fit(task.question, t.any)
    assert task.answer == ("yes" if fits else "no")
    assert (not fits) or set(fits) & set(t.seen)


def check_colour(t, task):
    assert task.answer == t.colours[t.one(task.question)]


def check_size(t, task):
    if task.answer.startswith("about"):
        height = t.sample.boxes[t.one(task.question)].size[2]
        assert length(task.answer) % 0.25 == 0
        assert abs(height - length(task.answer)) < 0.125
    else:
        a, b = t.two(task.question)
        taller = max(a, b, key=lambda i: np.ptp(t.sample.boxes[i].corners()[:, 2]))
        assert t.one(task.answer) == taller


def check_distance(t, task):
    if len(NAME.findall(task.question)) == 1:
        metres = np.linalg.norm(t.sample.boxes[t.one(task.question)].center - t.eye)
    else:
        a, b = t.two(task.question)
        metres = np.linalg.norm(t.sample.boxes[a].center - t.sample.boxes[b].center)
    assert length(task.answer) % 0.5 == 0
    assert abs(metres - length(task.answer)) < 0.25


def check_relation(t, task):
    if re.search("nearest|closest", task.question):
        index = t.one(task.question)
        others = [i for i in t.any if i != index]
        center = t.sample.boxes[index].center
        nearest = min(others, key=lambda i: np.linalg.norm(t.sample.boxes[i].center - center))
        assert t.one(task.answer) == nearest
    elif re.search("closer|nearer", task.question):
        nearer = min(t.two(task.question), key=lambda i: np.linalg.norm(t.place(i)))
        assert t.one(task.answer) == nearer
    elif len(NAME.findall(task.question)) == 2:
        a, b = t.two(task.question)
        assert task.answer == ("left" if t.place(a)[1] > t.place(b)[1] else "right")
    else:
        assert task.answer == ("left" if t.place(t.one(task.question))[1] > 0 else "right")


def in_direction(place, words: str) -> bool:
    """Whether words tell the direction of a place."""
    angle = np.degrees(np.arctan2(place[1], place[0]))
    low, high = {
        "straight ahead": (0, 10),
        "ahead": (10, 40),
        "on": (40, 110),
        "behind": (160, 180) if words == "behind" else (110, 160),
    }["straight ahead" if words == "straight ahead" else words.split()[0]]
    side = "left" if angle > 0 else "right"
    return low <= abs(angle) <= high and (words in ("straight ahead", "behind") or words.endswith(side))


def check_location(t, task):
    assert task.answer in DIRECTIONS and in_direction(t.place(t.one(task.question)), task.answer)


def check_describe_object(t, task):
    point = np.array([float(x) for x in re.findall(r"-?\d+\.\d+", task.question)])
    index = min(t.any, key=lambda i: np.linalg.norm(t.place(i) - point))
    assert np.linalg.norm(t.place(index) - point) < 0.01
    what, words = task.answer.split(", ")
    assert index in t.fit(what, t.any)[0] and in_direction(t.place(index), words)


def check_describe_room(t, task):
    said = Counter()
    for word, noun in re.findall(rf"({'|'.join(NUMBERS)}) (\w+)", task.answer):
        said[SINGULAR.get(noun, noun)] += NUMBERS.index(word)
    assert said == Counter(t.sample.boxes[i].label for i in t.seen)
    assert list(said) == sorted(said)


def check_coordinates(t, task):
    numbers = np.array([float(x) for x in task.answer.strip("[]").split(", ")])
    corners = (t.sample.boxes[t.one(task.question)].corners() - t.eye) @ t.axes.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    np.testing.assert_allclose(numbers, [*((low + high) / 2), *(high - low)], atol=0.0051)


def check_locate(t, task):
    (fits,) = t.fit(task.question, t.any)
    assert task.answer == "<LOC>" and task.box_ids and set(task.box_ids) == set(fits)
    plural = any(noun in SINGULAR for _, noun in NAME.findall(task.question))
    assert plural == (len(fits) > 1)


CHECKS = {kind: globals()[f"check_{kind}"] for kind in KINDS}
SAMPLES = [(seed, frames) for seed in range(24) for frames in (1, 4)]


@cache
def truth(seed: int, frames: int) -> Truth:
    return Truth(seed, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_true(kind):
    checked = 0
    for seed, frames in SAMPLES:
        t = truth(seed, frames)
        for task in t.sample.tasks:
            if task.kind == kind:
                CHECKS[kind](t, task)
                assert set(task.box_ids) <= set(t.seen), task
                checked += 1
    assert checked >= 20


def test_no_question_is_asked_twice():
    for seed, frames in SAMPLES:
        questions = [task.question for task in truth(seed, frames).sample.tasks]
        assert len(set(questions)) == len(questions)


def test_questions_alone_say_little():
    answers = {kind: Counter() for kind in KINDS}
    for seed in range(120):
        for task in room_sample(seed, "train", 4, (42, 56), tasks=12).tasks:
            answers[task.kind][task.answer] += 1

    def share(kind, *wanted):
        return answers[kind][wanted[0]] / sum(answers[kind][answer] for answer in wanted)

    assert 0.4 < share("existence", "yes", "no") < 0.6
    assert 0.38 < share("relation", "left", "right") < 0.62
    for kind, limit in {"colour": 0.3, "count": 0.6, "distance": 0.4, "size": 0.4, "location": 0.5}.items():
        assert max(answers[kind].values()) < limit * sum(answers[kind].values()), kind


def test_kinds_can_be_chosen_and_unknown_ones_are_refused():
    sample, made = room_sample(1, "val", 4, tasks=0), room(1, "val")
    chosen = room_tasks(sample, made.objects, np.random.default_rng(0), 6, kinds=("count", "locate"))
    assert {task.kind for task in chosen} == {"count", "locate"}
    with pytest.raises(RoomError, match="riddle"):
        room_tasks(sample, made.objects, np.random.default_rng(0), 6, kinds=("riddle",))


def test_rounding_keeps_away_from_its_edges():
    assert rounded(2.4, 0.5, 0.06) == 2.5 and rounded(2.6, 0.5, 0.06) == 2.5
    assert rounded(2.72, 0.5, 0.06) is None and rounded(2.25, 0.5, 0.06) is None
    assert rounded(0.05, 0.5, 0.06) is None


def test_bearings_keep_away_from_their_borders():
    for degrees, words in ((0, "straight ahead"), (25, "ahead on the left"), (-25, "ahead on the right"), (9, None)):
        assert bearing_words(*np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])) == words
    assert bearing_words(0, 2) == "on the left" and bearing_words(-1, -1) == "behind on the right"
    assert bearing_words(-2, 0.1) == "behind"
