import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import qa


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  The   Chair. ", "chair"),
        ("none", "zero"),
        ("0", "zero"),
        ("20 chairs", "twenty chairs"),
        ("21", "21"),
        ("23", "twenty-three"),
        ("0.5", "05"),
        ("café", "caf"),
        ("tv", "TV"),
        ("mat2", "mat"),
        ("mat22", "mat22"),
        ("letf", "left"),
        ("3 oclock", "three o'clock"),
        ("3 o'  clock", "three o'clock"),
        ("backwards", "backward"),
        ("the the door", "the door"),
        ("a the door", "door"),
        ("an apple on the table", "apple on table"),
        ("a", "a"),
        ("left/right", "leftright"),
        ("", ""),
        ("...", ""),
    ],
)
def test_clean_answer(raw, clean):
    assert qa.clean_answer(raw) == clean


@given(st.text())
def test_any_text_can_be_cleaned(text):
    assert isinstance(qa.clean_answer(text), str)
    assert qa.matches(text, [text])[0]


def test_strict_and_refined_match():
    assert qa.matches("The chair.", ["chair"]) == (True, True)
    assert qa.matches("brown chair", ["sofa", "chair"]) == (False, True)
    assert qa.matches("chair", ["brown chair"]) == (False, True)
    assert qa.matches("", ["chair"]) == (False, False)
    assert qa.matches("chair", ["."]) == (False, False)


def test_scores_count_questions_without_an_answer():
    scores = qa.exact_match({"a": "Two", "b": "red one"}, {"a": ["2"], "b": ["red"], "c": ["yes"], "d": ["no"]})
    assert (scores.exact, scores.refined) == (0.25, 0.5)
    assert scores.matched == {"a": True, "b": False, "c": False, "d": False}


def test_unusable_input_says_so():
    with pytest.raises(EvaluationError, match="no reference"):
        qa.exact_match({}, {})
    with pytest.raises(EvaluationError, match="'z'"):
        qa.exact_match({"z": "1"}, {"a": ["1"]})
