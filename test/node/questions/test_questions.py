import threading

import pytest

from vidllm_ros.node.questions.exchange import (
    ErrorCode,
    Question,
    Reply,
    Request,
    RequestError,
    Scope,
    Task,
    check_request,
)
from vidllm_ros.node.questions.wording import describe_boxes, object_phrase
from vidllm_ros.srv import Query

LIMITS = {"max_characters": 100, "default_timeout": 30.0}
DEFAULTS = {
    "text": "Where?", "task": 0, "scope": 0, "stamp_ns": 0, "frame_id": "", "max_new_tokens": 0, "timeout": 0.0
}  # fmt: skip


def check(**changes) -> Request:
    return check_request(**{**DEFAULTS, **changes}, **LIMITS)


def test_the_numbers_are_those_of_the_interface():
    assert {code.name: code.value for code in ErrorCode} == {
        name: getattr(Query.Response, name) for name in ErrorCode.__members__
    }
    assert {f"TASK_{t.name}": t.value for t in Task} == {
        f"TASK_{t.name}": getattr(Query.Request, f"TASK_{t.name}") for t in Task
    }
    assert {s.name: s.value for s in Scope} == {s.name: getattr(Query.Request, f"SCOPE_{s.name}") for s in Scope}


def test_a_question_alone_is_a_full_request():
    assert check() == Request("Where?", Task.AUTO, Scope.WINDOW, 0, "", None, 30.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": ""}, "empty"),
        ({"text": " \n\t"}, "empty"),
        ({"text": "x" * 101}, "101 characters.*100"),
        ({"task": 9}, "task is 9.*0 .AUTO.*3 .LOCATE"),
        ({"scope": 2}, "scope is 2"),
        ({"stamp_ns": -1}, "negative"),
        ({"stamp_ns": 5, "scope": 1}, "SCOPE_ALL"),
        ({"timeout": -1.0}, "timeout is -1.0"),
        ({"timeout": float("nan")}, "timeout is nan"),
    ],
)
def test_what_cannot_be_asked_is_named(changes, words):
    with pytest.raises(RequestError, match=words):
        check(**changes)


def test_the_first_reply_counts():
    question, replies = Question(Request("?")), []
    question.on_reply(replies.append)
    assert question.heard("a ") and question.heard("b")
    assert question.cancel()
    assert not question.finish(Reply(ErrorCode.NONE))
    assert [(r.cancelled, r.answer.text, r.answer.finished) for r in replies] == [(True, "a b", False)]
    assert not question.open and not question.heard("c")


def test_a_listener_that_comes_late_hears_it_too():
    question, replies = Question(Request("?")), []
    question.finish(Reply(ErrorCode.NONE))
    question.on_reply(replies.append)
    assert [reply.code for reply in replies] == [ErrorCode.NONE]


def test_the_deadline_ends_a_question_with_the_text_so_far():
    question, done = Question(Request("?", timeout=0.05)), threading.Event()
    question.heard("so far")
    replies = []
    question.on_reply(lambda reply: (replies.append(reply), done.set()))
    assert done.wait(20)
    assert replies[0].code is ErrorCode.TIMEOUT and replies[0].answer.text == "so far"
    assert "0.05 s" in replies[0].message


def test_pieces_are_counted_for_feedback():
    heard = []
    question = Question(Request("?"), lambda piece, count: heard.append((piece, count)))
    question.heard("a")
    question.heard("b")
    question.cancel()
    assert heard == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ("Where is the red chair?", "red chair"),
        ("where are the two lamps near the door?", "two lamps near the door"),
        ("Locate: the table", "table"),
        ("Find a chair.", "chair"),
        ("Show me all windows!", "windows"),
        ("the sofa left of the bed", "sofa left of the bed"),
        ("chair", "chair"),
        ("the?", "the"),
    ],
)
def test_the_object_of_a_question(question, phrase):
    assert object_phrase(question) == phrase


def test_boxes_in_words():
    import numpy as np

    from vidllm_ros.model.outputs import Box3D

    box = Box3D(np.array([1.0, -2.0, 0.456]), np.ones(3), label="chair", score=0.5)
    assert describe_boxes("chair", [box], "map") == "chair at (1.00, -2.00, 0.46) m in map, score 0.50"
    assert describe_boxes("red chair", [], "map") == "nothing found for 'red chair'"
