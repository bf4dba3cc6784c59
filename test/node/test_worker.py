import threading

import pytest
from node_process import wait_for

from vidllm_ros.node.questions.exchange import ErrorCode, Question, Reply, Request
from vidllm_ros.node.worker import NotActiveError, QueueFullError, Worker


class Work:
    """Jobs that are held until they are let go, and a diary."""

    def __init__(self, queue_size: int = 2) -> None:
        self.diary: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.windows = 0
        self.fail = ""
        self.worker = Worker(self.answer, self.run_window, self.idle, lambda: queue_size)

    def answer(self, question: Question) -> None:
        self.diary.append(question.request.text)
        self.go.wait(20)
        if self.fail == "answer":
            raise RuntimeError("broken")
        question.finish(Reply(ErrorCode.NONE))

    def run_window(self) -> bool:
        if not self.windows:
            return False
        self.windows -= 1
        self.diary.append("window")
        self.go.wait(20)
        if self.fail == "window":
            raise RuntimeError("broken")
        return True

    def idle(self) -> bool:
        self.diary.append("idle")
        return False


@pytest.fixture
def work():
    work = Work()
    work.worker.start()
    yield work
    work.go.set()
    assert work.worker.stop(20)


def ask(work: Work, text: str) -> tuple[Question, list[Reply]]:
    question, replies = Question(Request(text)), []
    question.on_reply(replies.append)
    work.worker.submit(question)
    return question, replies


def test_questions_go_before_windows_and_windows_before_the_rest(work):
    work.go.clear()
    work.windows = 1
    work.worker.wake()
    wait_for(lambda: work.diary == ["window"])
    work.windows = 1
    ask(work, "first")
    _, replies = ask(work, "second")
    work.worker.wake()
    work.go.set()
    wait_for(lambda: "idle" in work.diary)
    assert work.diary[:4] == ["window", "first", "second", "window"]
    assert replies[0].code is ErrorCode.NONE


def test_a_wake_while_it_works_is_not_lost(work):
    work.go.clear()
    work.windows = 1
    work.worker.wake()
    wait_for(lambda: work.diary == ["window"])
    work.windows = 1
    work.worker.wake()
    work.go.set()
    wait_for(lambda: work.diary.count("window") == 2)


def test_more_questions_than_may_wait_are_refused(work):
    work.go.clear()
    ask(work, "answered")
    wait_for(lambda: work.diary == ["answered"])
    ask(work, "waits")
    ask(work, "waits too")
    assert work.worker.waiting == 2
    with pytest.raises(QueueFullError, match="2 questions wait.*query.queue_size .2."):
        ask(work, "one too many")


def test_a_cancelled_question_leaves_its_place_and_is_never_answered(work):
    work.go.clear()
    ask(work, "answered")
    wait_for(lambda: work.diary == ["answered"])
    question, _ = ask(work, "cancelled")
    ask(work, "waits")
    question.cancel()
    ask(work, "takes the place")
    work.go.set()
    wait_for(lambda: "takes the place" in work.diary)
    assert "cancelled" not in work.diary


def test_what_raises_ends_its_question_and_nothing_else(work):
    work.fail = "answer"
    _, replies = ask(work, "bad")
    wait_for(lambda: replies)
    assert replies[0].code is ErrorCode.UNKNOWN and "broken" in replies[0].message
    work.fail, work.windows = "window", 1
    work.worker.wake()
    wait_for(lambda: "window" in work.diary)
    work.fail = ""
    _, replies = ask(work, "good")
    wait_for(lambda: replies)
    assert replies[0].code is ErrorCode.NONE


def test_stopping_ends_every_question_at_once(work):
    work.go.clear()
    replies = [ask(work, "answered")[1]]
    wait_for(lambda: work.diary == ["answered"])
    replies.append(ask(work, "waits")[1])
    assert not work.worker.stop(0.01)  # the job itself cannot be torn away
    assert [r[0].code for r in replies] == [ErrorCode.NOT_ACTIVE] * 2
    with pytest.raises(NotActiveError):
        ask(work, "too late")
    assert not work.worker.start()
    work.go.set()
    assert work.worker.stop(20)
    assert not work.worker.alive


def test_it_can_be_started_again():
    work = Work()
    for _ in range(5):
        assert work.worker.start()
        _, replies = ask(work, "again")
        wait_for(lambda replies=replies: replies)
        assert work.worker.stop(20)
    assert threading.active_count() < 20


def test_busy_says_what_it_does(work):
    work.go.clear()
    assert work.worker.busy == ("", 0.0)
    ask(work, "long")
    wait_for(lambda: work.diary == ["long"])
    what, seconds = work.worker.busy
    assert what == "answering a question" and seconds >= 0
