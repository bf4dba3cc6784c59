"""Boxes written as six numbers, and read back from whatever a model wrote."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.model.reasoning.box_text import format_box, format_boxes, parse_boxes
from vidllm_ros.model.reasoning.boxes import box_from_vector


def numbers(text: str) -> list[list[float]]:
    return [[*box.center, *box.size] for box in parse_boxes(text)]


def test_written_as_the_paper_prints_it():
    box = Box3D(center=np.array([1.128, 1.64, -0.001]), size=np.array([0.92, 0.03, 1.16]))
    assert format_box(box) == "[1.13, 1.64, 0.00, 0.92, 0.03, 1.16]"
    assert format_boxes([box, box]) == f"{format_box(box)}, {format_box(box)}"


def test_a_turned_box_is_written_as_its_enclosing_box():
    assert (
        format_box(box_from_vector(np.array([1, 2, 3, 4, 2, 1, np.pi / 2]))) == "[1.00, 2.00, 3.00, 2.00, 4.00, 1.00]"
    )
    diagonal = format_box(box_from_vector(np.array([0, 0, 0, 1, 1, 1, np.pi / 4])))
    assert diagonal == "[0.00, 0.00, 0.00, 1.41, 1.41, 1.00]"


@pytest.mark.parametrize(
    "text",
    [
        "[1, -2, .5, 1e0, 2., 3]",
        "The chair is at [1.0,-2.0,0.5,1,2,3].",
        "(1 -2 0.5 1 2 3)",
        "{1; -2; 0.5; 1; 2; 3;}",
        "it is 1, -2, 0.5, 1, 2, 3",
        "[ 1 , \u22122 , +0.5 , 1 , 2 , 3 , ]",
        "chair: <1, -2, 0.5, 1, 2, 3> in room [7]",
    ],
)
def test_six_numbers_are_a_box(text):
    assert numbers(text) == [[1, -2, 0.5, 1, 2, 3]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[1, 2, 3, 4, 5]",
        "[1, 2, 3, 4, 5, 6, 7]",
        "1, 2, 3, 4, 5, 6, 7",
        "seats 1 2 3 4 5 6",
        "[1, 2, 3, 4, 5, -6]",
        "[1, 2, 3, 0, 5, 6]",
        "[1, 2, 3, 4, 5, 1e999]",
        "[1, 2, 3, 4, 5, x]",
        "[1, 2, 3], [4, 5, 6]",
        "1, 2, 3, 4, 5, 6m",
        "1.2.3, 2, 3, 4, 5",
    ],
)
def test_anything_else_is_no_box(text):
    assert parse_boxes(text) == []


def test_boxes_come_in_the_order_of_the_text():
    text = "one 1, 1, 1, 1, 1, 1 then [[2, 2, 2, 2, 2, 2], [3, 3, 3, 3, 3, 3]] and [1, 2] 4, 4, 4, 4, 4, 4"
    assert [row[0] for row in numbers(text)] == [1, 2, 3, 4]
    assert {box.label for box in parse_boxes(text, "chair")} == {"chair"}


@given(st.text(alphabet="0123456789.,;-+eE[]() x", max_size=200))
def test_no_text_is_an_error(text):
    for box in parse_boxes(text):
        assert np.isfinite(box.center).all() and (box.size > 0).all()


def test_a_long_reply_is_read_quickly_enough_to_finish():
    for filler in ("1" * 50_000, "1," * 30_000, "1 " * 30_000, "[" * 50_000, " " * 50_000 + "1"):
        assert parse_boxes(filler) == []


@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 20), min_size=3, max_size=3),
)
def test_what_is_written_is_read_back_to_the_centimetre(center, size):
    box = Box3D(center=np.array(center), size=np.array(size))
    assert np.abs(np.array(numbers(f"here: {format_box(box)}!")[0]) - [*center, *size]).max() < 0.0051
