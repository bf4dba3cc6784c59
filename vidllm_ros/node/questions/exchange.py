"""A question on its way from a client to the worker and back, without the middleware."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from vidllm_ros.perception.types import Answer


class ErrorCode(IntEnum):
    """Why a question has no answer; the numbers are those of srv/Query."""

    NONE = 0
    UNKNOWN = 900
    NOT_ACTIVE = 901
    INVALID_REQUEST = 902
    NO_WINDOW = 903
    STAMP_NOT_HELD = 904
    QUEUE_FULL = 905
    TIMEOUT = 906
    TF_ERROR = 907
    OUT_OF_MEMORY = 908
    INFERENCE_FAILED = 909


class Task(IntEnum):
    """What kind of reply is wanted; the numbers are those of srv/Query."""

    AUTO = 0
    ANSWER = 1
    DESCRIBE = 2
    LOCATE = 3


class Scope(IntEnum):
    """What a question is about; the numbers are those of srv/Query."""

    WINDOW = 0
    ALL = 1


class RequestError(ValueError):
    """A request that cannot be served as it is; the text names the value and what would be right."""


@dataclass(frozen=True)
class Request:
    """A checked request.

    Attributes:
        text: the question.
        task: what kind of reply is wanted.
        scope: one window, or everything seen.
        stamp_ns: a time in the window that is asked about; 0 for the newest window.
        frame_id: frame of the boxes; "" for the map frame.
        max_new_tokens: longest answer; None for the configured one.
        timeout: seconds, waiting included.
    """

    text: str
    task: Task = Task.AUTO
    scope: Scope = Scope.WINDOW
    stamp_ns: int = 0
    frame_id: str = ""
    max_new_tokens: int | None = None
    timeout: float = 30.0


@dataclass(frozen=True)
class Reply:
    """The end of a question.

    Attributes:
        code: NONE when it was answered.
        message: one sentence when it was not.
        answer: what was said, as far as it got; boxes in ``frame_id``.
        frame_id: frame of the boxes.
        stamp_ns: time of the boxes.
        inference_time: seconds the network took.
        cancelled: the client did not want it any more.
    """

    code: ErrorCode
    message: str = ""
    answer: Answer | None = None
    frame_id: str = ""
    stamp_ns: int = 0
    inference_time: float = 0.0
    cancelled: bool = False


def check_request(
    text: str,
    task: int,
    scope: int,
    stamp_ns: int,
    frame_id: str,
    max_new_tokens: int,
    timeout: float,
    *,
    max_characters: int,
    default_timeout: float,
) -> Request:
    """A request from what a client sent.

    Raises:
        RequestError: a value cannot be used.
    """
    if not text.strip():
        raise RequestError("the question is empty; ask something, such as 'How many chairs are in the room?'")
    if len(text) > max_characters:
        raise RequestError(
            f"the question has {len(text)} characters; at most {max_characters} are read (query.max_characters)"
        )
    if task not in list(Task):
        raise RequestError(f"task is {task}; it must be one of {_choices(Task)}")
    if scope not in list(Scope):
        raise RequestError(f"scope is {scope}; it must be one of {_choices(Scope)}")
    if stamp_ns < 0:
        raise RequestError(f"stamp is {stamp_ns} ns; it must not be negative, and zero is the newest window")
    if scope == Scope.ALL and stamp_ns:
        raise RequestError("stamp names one window but scope is SCOPE_ALL; leave one of them at zero")
    if not math.isfinite(timeout) or timeout < 0:
        raise RequestError(f"timeout is {timeout} s; it must be positive, and zero takes the node's parameter")
    return Request(
        text=text.strip(),
        task=Task(task),
        scope=Scope(scope),
        stamp_ns=stamp_ns,
        frame_id=frame_id.lstrip("/"),
        max_new_tokens=max_new_tokens or None,
        timeout=timeout or default_timeout,
    )


class Question:
    """One request and its single reply, whichever of answer, deadline and client comes first.

    Args:
        request: what is asked.
        on_text: called on the worker's thread with each new piece of text and the number of tokens so far.
    """

    def __init__(self, request: Request, on_text: Callable[[str, int], None] | None = None) -> None:
        self.request = request
        self._on_text = on_text
        self._lock = threading.Lock()
        self._pieces: list[str] = []
        self._reply: Reply | None = None
        self._listener: Callable[[Reply], None] | None = None
        self._started = time.monotonic()
        self._timer = threading.Timer(request.timeout, self._expire)
        self._timer.daemon = True
        self._timer.start()

    @property
    def open(self) -> bool:
        """Whether somebody still waits for the reply."""
        with self._lock:
            return self._reply is None

    @property
    def has_text(self) -> bool:
        """Whether some of the answer has been heard."""
        with self._lock:
            return any(self._pieces)

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self._started + self.request.timeout - time.monotonic()

    def heard(self, piece: str) -> bool:
        """What one token of the answer completed, "" when nothing; whether the model should go on."""
        with self._lock:
            if self._reply is not None:
                return False
            self._pieces.append(piece)
            count = len(self._pieces)
        if piece and self._on_text is not None:
            self._on_text(piece, count)
        return self.open

    def finish(self, reply: Reply) -> bool:
        """Ends the question; False when it has ended before."""
        with self._lock:
            if self._reply is not None:
                return False
            self._reply, listener = reply, self._listener
        self._timer.cancel()
        if listener is not None:
            listener(reply)
        return True

    def fail(self, code: ErrorCode, message: str, cancelled: bool = False) -> bool:
        """Ends the question without an answer, but with the text so far."""
        with self._lock:
            text = "".join(self._pieces)
        answer = Answer(text=text, finished=False) if text else None
        return self.finish(Reply(code, message, answer, cancelled=cancelled))

    def cancel(self) -> bool:
        """The client does not want it any more."""
        return self.fail(ErrorCode.UNKNOWN, "the question was cancelled by its client", cancelled=True)

    def on_reply(self, listener: Callable[[Reply], None]) -> None:
        """Calls ``listener`` once with the reply, at once when there is one."""
        with self._lock:
            reply = self._reply
            if reply is None:
                self._listener = listener
        if reply is not None:
            listener(reply)

    def _expire(self) -> None:
        limit = self.request.timeout
        self.fail(
            ErrorCode.TIMEOUT,
            f"no complete answer within {limit:g} s, waiting included; allow a longer timeout or fewer max_new_tokens",
        )


def _choices(kind: type[IntEnum]) -> str:
    return ", ".join(f"{member.value} ({member.name})" for member in kind)
