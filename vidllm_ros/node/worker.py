"""The one thread that owns the model."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from vidllm_ros.node.questions.exchange import ErrorCode, Question

_LOGGER = logging.getLogger(__name__)


class QueueFullError(RuntimeError):
    """Too many questions wait already."""


class NotActiveError(RuntimeError):
    """The node answers no questions in its present state."""


class Worker:
    """Runs everything that touches the network, one thing at a time: questions first, then windows, then what can wait.

    Windows are not queued here: the pipeline keeps the newest one and ``run_window`` takes it.

    Args:
        answer: answers one question; what it raises ends the question as UNKNOWN.
        run_window: processes the window that waits, if any; whether there was one.
        idle: work for when nothing else is to be done; whether there was any.
        queue_size: says how many questions may wait.
    """

    def __init__(
        self,
        answer: Callable[[Question], None],
        run_window: Callable[[], bool],
        idle: Callable[[], bool],
        queue_size: Callable[[], int],
    ) -> None:
        self._answer = answer
        self._run_window = run_window
        self._idle = idle
        self._queue_size = queue_size
        self._changed = threading.Condition()
        self._questions: deque[Question] = deque()
        self._current: Question | None = None
        self._awake = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._doing = ""

    def start(self) -> bool:
        """Starts the thread; False when the one before has not ended yet."""
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return not self._stopping
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="vidllm_worker", daemon=True)
            self._thread.start()
            return True

    def stop(self, timeout: float) -> bool:
        """Ends every question as NOT_ACTIVE and the thread after what it is doing; False when that takes too long."""
        with self._changed:
            thread = self._thread
            self._stopping = True
            waiting = [*self._questions, *([self._current] if self._current else [])]
            self._questions.clear()
            self._changed.notify_all()
        for question in waiting:
            question.fail(ErrorCode.NOT_ACTIVE, "the node was deactivated before the answer was complete")
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                return False
        with self._changed:
            self._thread = None
        return True

    def submit(self, question: Question) -> None:
        """Queues a question.

        Raises:
            QueueFullError: as many wait as may.
            NotActiveError: the thread does not run.
        """
        with self._changed:
            if self._thread is None or self._stopping:
                raise NotActiveError("the node is not active; activate it first")
            self._questions = deque(waiting for waiting in self._questions if waiting.open)
            limit = self._queue_size()
            busy = self._current is not None
            if len(self._questions) >= limit + (0 if busy else 1):
                raise QueueFullError(
                    f"{len(self._questions)} questions wait already; ask again later, or raise query.queue_size "
                    f"({limit})"
                )
            self._questions.append(question)
            self._changed.notify_all()

    def revive(self) -> bool:
        """Starts the thread again when something ended it that is no error (SystemExit); whether it had to.

        The question it was at ends as UNKNOWN.
        """
        with self._changed:
            if self._thread is None or self._stopping or self._thread.is_alive():
                return False
            question, self._current = self._current, None
            self._awake = True
            self._thread = threading.Thread(target=self._run, name="vidllm_worker", daemon=True)
            self._thread.start()
        if question is not None:
            question.fail(ErrorCode.UNKNOWN, "the thread that answers ended while it was at this question; ask again")
        return True

    def wake(self) -> None:
        """Something may be there for ``run_window`` or ``idle``."""
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Questions that wait."""
        with self._changed:
            return sum(question.open for question in self._questions)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        with self._changed:
            return self._thread is not None and self._thread.is_alive()

    @property
    def busy(self) -> tuple[str, float]:
        """What it is doing ("" when nothing) and for how many seconds."""
        with self._changed:
            since = self._busy_since
            return ("", 0.0) if since is None else (self._doing, time.monotonic() - since)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._questions or self._awake)
                if self._stopping:
                    return
                question = self._questions.popleft() if self._questions else None
                self._current = question
                if question is None:
                    self._awake = False
            if question is not None:
                self._do("answering a question", lambda question=question: self._reply(question))
                with self._changed:
                    self._current = None
            elif self._do("processing a window", self._run_window) or self._do("encoding frames", self._idle):
                self.wake()

    def _do(self, what: str, job: Callable[[], bool | None]) -> bool:
        with self._changed:
            self._doing, self._busy_since = what, time.monotonic()
        try:
            return bool(job())
        except Exception:
            _LOGGER.exception("%s failed", what)
            return False
        finally:
            with self._changed:
                self._busy_since = None

    def _reply(self, question: Question) -> None:
        if question.open:
            try:
                self._answer(question)
            except Exception as error:
                _LOGGER.exception("answering a question failed")
                question.fail(ErrorCode.UNKNOWN, f"the node failed while answering: {error!r}")
            question.fail(ErrorCode.UNKNOWN, "the node gave no reply")
