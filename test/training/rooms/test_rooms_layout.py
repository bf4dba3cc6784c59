"""Furniture: standard sizes, tight boxes, nothing inside anything else."""

import itertools

import numpy as np
import pytest

from vidllm_ros.training.rooms import COLOURS, LABELS, STYLES, RoomError, room
from vidllm_ros.training.rooms.furniture import build_object, draw_colour
from vidllm_ros.training.rooms.solids import build_mesh

ROOMS = [(seed, style) for seed in range(30) for style in STYLES]


def separated(a, b) -> bool:
    """Whether two boxes turned about z do not overlap (separating axes)."""
    if abs(a.center[2] - b.center[2]) >= (a.size[2] + b.size[2]) / 2:
        return True
    for axis in (*a.rotation[:2, :2].T, *b.rotation[:2, :2].T):
        reach = sum(np.abs(axis @ box.rotation[:2, :2]) @ box.size[:2] / 2 for box in (a, b))
        if abs(axis @ (a.center - b.center)[:2]) >= reach:
            return True
    return False


@pytest.mark.parametrize(("seed", "style"), ROOMS)
def test_nothing_overlaps_and_all_stays_inside(seed, style):
    made = room(seed, "train", style)
    assert made.objects
    for a, b in itertools.combinations([thing.box for thing in made.objects], 2):
        assert separated(a, b), (a.label, b.label)
    for thing in made.objects:
        corners = thing.box.corners()
        assert (corners > -1e-6).all() and (corners < np.array(made.size) + 1e-6).all(), thing.label
        bottom = corners[:, 2].min()
        if thing.on >= 0:
            host = made.objects[thing.on].box
            assert 0 <= bottom - (host.center[2] + host.size[2] / 2) < 0.01
        elif thing.label != "television":
            assert bottom == pytest.approx(0, abs=1e-9)


def test_boxes_are_tight():
    for seed in range(12):
        made = room(seed, "val", "varied")
        mesh = build_mesh(made.batch)
        for index, thing in enumerate(made.objects):
            vertices = mesh.vertices[mesh.triangles[mesh.instance == index].ravel()]
            local = (vertices - thing.box.center) @ thing.box.rotation
            np.testing.assert_allclose(local.max(axis=0), thing.box.size / 2, atol=2e-5)
            np.testing.assert_allclose(local.min(axis=0), -thing.box.size / 2, atol=2e-5)


def test_rooms_have_variety():
    rooms = [room(seed) for seed in range(80)]
    labels = {thing.label for made in rooms for thing in made.objects}
    assert labels == set(LABELS) and len(LABELS) >= 12
    counts = [len(made.objects) for made in rooms]
    assert np.mean(counts) > 7 and max(counts) <= 30
    areas = [made.size[0] * made.size[1] for made in rooms]
    assert min(areas) < 16 and max(areas) > 30


def test_colours_cannot_be_guessed_from_the_class():
    rng = np.random.default_rng(0)
    for label in set(LABELS) - {"plant"}:
        names, counts = np.unique([draw_colour(label, rng) for _ in range(600)], return_counts=True)
        assert set(names) == set(COLOURS) and counts.max() < 0.35 * 600


@pytest.mark.parametrize("label", LABELS)
def test_sizes_are_those_of_real_furniture(label):
    limits = {  # depth, width, height in metres, with the variation of the wildest style
        "bed": ((1.7, 0.8, 0.7), (2.4, 1.7, 1.1)),
        "sofa": ((0.7, 1.2, 0.7), (1.1, 2.3, 1.0)),
        "table": ((0.5, 0.8, 0.39), (1.2, 1.7, 0.85)),
        "desk": ((0.5, 1.1, 0.6), (0.8, 1.5, 0.85)),
        "chair": ((0.38, 0.38, 0.75), (0.6, 0.6, 1.0)),
        "stool": ((0.25, 0.25, 0.38), (0.42, 0.42, 0.75)),
        "cabinet": ((0.38, 0.68, 0.5), (0.58, 1.4, 2.15)),
        "bookshelf": ((0.25, 0.7, 1.0), (0.35, 1.0, 2.1)),
        "television": ((0.08, 0.9, 0.5), (0.25, 1.3, 0.85)),
        "lamp": ((0.3, 0.3, 1.3), (0.5, 0.5, 1.8)),
        "plant": ((0.28, 0.28, 0.6), (0.8, 0.8, 1.4)),
        "refrigerator": ((0.55, 0.55, 1.5), (0.85, 0.8, 2.0)),
        "box": ((0.35, 0.4, 0.25), (0.46, 0.57, 0.52)),
        "bin": ((0.27, 0.27, 0.34), (0.37, 0.37, 0.7)),
    }
    rng = np.random.default_rng(1)
    for _ in range(20):
        solids = build_object(label, "red", rng, [], 0.12)
        low = np.min([np.subtract(s.center, np.divide(s.size, 2)) for s in solids if not s.tilt], axis=0)
        high = np.max([np.add(s.center, np.divide(s.size, 2)) for s in solids if not s.tilt], axis=0)
        assert low[2] == pytest.approx(0, abs=1e-9)
        assert (high - low >= limits[label][0]).all() and (high - low <= limits[label][1]).all(), high - low


def test_unknown_furniture_is_refused():
    with pytest.raises(RoomError, match="throne"):
        build_object("throne", "red", np.random.default_rng(0), [], 0.1)
    with pytest.raises(RoomError, match="mauve"):
        build_object("chair", "mauve", np.random.default_rng(0), [], 0.1)


def test_no_television_hangs_before_a_window():
    hung = 0
    for seed in range(120):
        made = room(seed, "test")
        day = np.array(made.lights[1].position)
        for thing in made.objects:
            if thing.label == "television" and thing.on < 0:
                hung += 1
                corners = thing.box.corners()
                gap = np.maximum(np.maximum(corners.min(axis=0) - day, day - corners.max(axis=0)), 0)
                assert np.linalg.norm(gap[:2]) > 0.3
    assert hung > 10
