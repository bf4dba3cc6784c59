"""The closed language of the room tasks: templates, number words, and everything a tokenizer needs to see."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from vidllm_ros.training.rooms.furniture import LABELS
from vidllm_ros.training.rooms.materials import COLOURS

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

PLURALS = {
    "bed": "beds",
    "sofa": "sofas",
    "table": "tables",
    "desk": "desks",
    "chair": "chairs",
    "stool": "stools",
    "cabinet": "cabinets",
    "bookshelf": "bookshelves",
    "television": "televisions",
    "lamp": "lamps",
    "plant": "plants",
    "refrigerator": "refrigerators",
    "box": "boxes",
    "bin": "bins",
}

#: Never named by colour: all leaves are green, and a television's rim is hardly seen.
COLOURLESS = ("plant", "television")

#: Upper edges of the bearing, in degrees from straight ahead, and the words up to them.
BEARINGS = ((10.0, "straight ahead"), (40.0, "ahead"), (110.0, ""), (160.0, "behind"), (180.0, "behind"))
DIRECTIONS = (
    "straight ahead",
    "ahead on the left",
    "ahead on the right",
    "on the left",
    "on the right",
    "behind on the left",
    "behind on the right",
    "behind",
)

#: What ``locate`` answers: the token whose state the grounding module matches to boxes.
LOCATION_TOKEN = "<LOC>"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "count": (
        "How many {things} are in the room?",
        "How many {things} are there?",
        "How many {things} can you see?",
        "Count the {things}.",
        "What is the number of {things}?",
    ),
    "existence": (
        "Is there {a_thing} in the room?",
        "Is there {a_thing}?",
        "Can you see {a_thing}?",
        "Does the room have {a_thing}?",
    ),
    "colour": (
        "What color is the {thing}?",
        "What is the color of the {thing}?",
        "Which color does the {thing} have?",
        "What colour is the {thing}?",
    ),
    "size_height": ("How tall is {it}?", "How high is {it}?", "What is the height of {it}?"),
    "size_taller": ("Which is taller, {one} or {two}?", "Which one is taller: {one} or {two}?"),
    "distance_camera": (
        "How far away is {it}?",
        "How far is {it}?",
        "How far is {it} from the camera?",
        "What is the distance to {it}?",
    ),
    "distance_between": (
        "How far apart are {one} and {two}?",
        "How far is {one} from {two}?",
        "What is the distance between {one} and {two}?",
    ),
    "relation_side": ("Is {it} on the left or on the right?", "On which side is {it}, left or right?"),
    "relation_left_right": (
        "Is {one} to the left or to the right of {two}?",
        "Is {one} left or right of {two}?",
    ),
    "relation_nearest": (
        "What is nearest to {it}?",
        "Which object is nearest to {it}?",
        "What is the object closest to {it}?",
    ),
    "relation_closer": (
        "Which is closer, {one} or {two}?",
        "Which is closer to the camera, {one} or {two}?",
        "Which one is nearer: {one} or {two}?",
    ),
    "location": ("Where is {it}?", "In which direction is {it}?", "Where can I find {it}?"),
    "describe_object": ("What is at {point}?", "Describe the object at {point}.", "Which object is at {point}?"),
    "describe_room": (
        "Describe the room.",
        "What is in the room?",
        "What can you see?",
        "List the objects in the room.",
    ),
    "coordinates": (
        "What are the coordinates of {it}?",
        "What are the position and size of {it}?",
        "Give the position and size of {it}.",
        "What is the bounding box of {it}?",
    ),
    "locate": ("Locate {it}.", "Find {it}.", "Show me {it}.", "Mark {it}."),
}


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def metres(value: float) -> str:
    """A rounded length in words: ``about 2.5 meters``; two digits after the point only where they are needed."""
    text = f"{value:.2f}"
    return f"about {text[:-1] if text.endswith('0') else text} meters"


def point_text(values: np.ndarray) -> str:
    """Coordinates in metres, ``[1.20, -0.35, 0.40]``."""
    # Adding zero turns the -0.00 of small negative numbers into 0.00.
    return "[" + ", ".join(f"{round(float(value), 2) + 0.0:.2f}" for value in values) + "]"


def listing(parts: list[str]) -> str:
    """``one bed, two chairs and one table``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def counted(label: str, count: int) -> str:
    """``one chair``, ``two chairs``."""
    return f"{NUMBERS[count]} {label if count == 1 else PLURALS[label]}"


def split_words(text: str) -> list[str]:
    """Words, single digits and punctuation marks, in order; ``<LOC>`` is one word."""
    return re.findall(r"<LOC>|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]", text)


def vocabulary() -> tuple[str, ...]:
    """Every word, digit and mark that a room task can contain, sorted."""
    words: set[str] = set(NUMBERS) | set(LABELS) | set(PLURALS.values()) | set(COLOURS) | set("0123456789-.,[]?:")
    for templates in QUESTIONS.values():
        for template in templates:
            words |= set(split_words(re.sub(r"\{\w+\}", "", template)))
    for direction in DIRECTIONS:
        words |= set(split_words(direction))
    answers = "yes no left right about meters a an and the room with nothing"
    return tuple(sorted(words | set(answers.split()) | {LOCATION_TOKEN}))


def _fill(rng: np.random.Generator, template: str) -> str:
    label, colour = str(rng.choice(LABELS)), str(rng.choice(list(COLOURS)))
    other = str(rng.choice(LABELS))
    named = label if rng.random() < 0.5 else f"{colour} {label}"
    return template.format(
        things=PLURALS[label],
        a_thing=article(named),
        thing=named,
        it=f"the {named}",
        one=f"the {named}",
        two=f"the {other}",
        point=point_text(rng.uniform(-4, 4, 3)),
    )


def vocabulary_texts(count: int, seed: int = 0) -> Iterator[str]:
    """``count`` questions and answers from the templates, without any room; the first cover the whole vocabulary."""
    rng = np.random.default_rng(seed)
    words = list(vocabulary())
    kinds = list(QUESTIONS)
    for index in range(count):
        if index * 8 < len(words):
            yield " ".join(words[index * 8 : index * 8 + 8])
            continue
        choice = index % 4
        if choice < 2:
            templates = QUESTIONS[kinds[rng.integers(len(kinds))]]
            yield _fill(rng, templates[rng.integers(len(templates))])
        elif choice == 2:
            yield point_text(np.concatenate([rng.uniform(-4, 4, 3), rng.uniform(0.1, 2.2, 3)]))
        else:
            labels = sorted(rng.choice(LABELS, rng.integers(1, 5), replace=False))
            options = (
                "a room with " + listing([counted(str(label), int(rng.integers(1, 6))) for label in labels]),
                metres(float(rng.integers(1, 16)) / 2),
                str(rng.choice(DIRECTIONS)),
                _fill(rng, "{a_thing}, ") + str(rng.choice(DIRECTIONS)),
                str(rng.choice(["yes", "no", "left", "right", LOCATION_TOKEN, *COLOURS, *NUMBERS])),
            )
            yield options[rng.integers(len(options))]
