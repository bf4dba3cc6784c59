"""Questions to replies. Belongs to the worker thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from vidllm_ros.model import QuestionError
from vidllm_ros.node import conversions
from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError
from vidllm_ros.node.output.health import Health, describe
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.questions.exchange import ErrorCode, Question, Reply, Request, Scope, Task
from vidllm_ros.node.questions.wording import describe_boxes, object_phrase
from vidllm_ros.perception.errors import NoWindowError, StampNotHeldError
from vidllm_ros.perception.out_of_memory import is_out_of_memory
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import Answer, Box3D


class Answerer:
    """Puts questions to the pipeline.

    Args:
        pipeline: perception.
        config: gives the node's parameters.
        buffer: what TF knows, to move boxes to another frame.
        health: where failures are kept.
        show: publishes the boxes of an answer, in map, with the time they belong to.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: Callable[[], NodeConfig],
        buffer: TransformBuffer,
        health: Health,
        show: Callable[[int, Sequence[Box3D]], None],
    ) -> None:
        self._pipeline = pipeline
        self._config = config
        self._buffer = buffer
        self._health = health
        self._show = show

    def answer(self, question: Question) -> None:
        """Answers one question, or says why not."""
        started = time.monotonic()
        try:
            answer, stamp_ns = self._ask_twice(question)
            frame_id = question.request.frame_id or self._config().map_frame
            boxes = self._move(answer.boxes, frame_id, stamp_ns)
        except NoWindowError as error:
            question.fail(ErrorCode.NO_WINDOW, str(error))
        except StampNotHeldError as error:
            question.fail(ErrorCode.STAMP_NOT_HELD, str(error))
        except QuestionError as error:
            question.fail(ErrorCode.INVALID_REQUEST, str(error))
        except TransformError as error:
            question.fail(ErrorCode.TF_ERROR, f"the boxes could not be moved to '{question.request.frame_id}': {error}")
        except Exception as error:
            code = ErrorCode.OUT_OF_MEMORY if is_out_of_memory(error) else ErrorCode.INFERENCE_FAILED
            self._health.record(f"a question failed: {describe(error)}")
            question.fail(code, describe(error))
        else:
            seconds = time.monotonic() - started
            reply = Reply(ErrorCode.NONE, "", replace(answer, boxes=boxes), frame_id, stamp_ns, seconds)
            if question.finish(reply) and answer.boxes:
                self._show(stamp_ns, answer.boxes)

    def _ask_twice(self, question: Question) -> tuple[Answer, int]:
        """As ``_ask``; once more with nothing cached when the memory does not suffice and no word has been said yet."""
        try:
            return self._ask(question)
        except Exception as error:
            if not is_out_of_memory(error) or question.has_text:
                raise
        self._pipeline.free_memory()
        return self._ask(question)

    def _ask(self, question: Question) -> tuple[Answer, int]:
        """The answer with boxes in map, and the time it is about."""
        request = question.request
        window_id = self._window(request)
        stamp_ns = self._pipeline.scene(window_id).stamps_ns[1]
        answer = self._pipeline.ask(
            request.text, window_id=window_id, max_new_tokens=request.max_new_tokens, on_text=question.heard
        )
        phrase = object_phrase(request.text)
        if request.task in (Task.ANSWER, Task.DESCRIBE):
            answer = replace(answer, boxes=())
        elif request.task is Task.LOCATE:
            answer = replace(answer, boxes=tuple(self._pipeline.locate([phrase], window_id)))
        boxes = tuple(box if box.label else replace(box, label=phrase) for box in answer.boxes)
        if answer.window_id is None and self._health.last_window is not None:
            answer = replace(answer, window_id=self._health.last_window.window_id)
        text = answer.text
        if not text and request.task in (Task.AUTO, Task.LOCATE):
            text = describe_boxes(phrase, boxes, self._config().map_frame)
        return replace(answer, text=text, boxes=boxes), stamp_ns

    def _window(self, request: Request) -> int | str | None:
        if request.scope is Scope.ALL:
            return "all"
        return self._pipeline.window_at(request.stamp_ns) if request.stamp_ns else None

    def _move(self, boxes: Sequence[Box3D], frame_id: str, stamp_ns: int) -> tuple[Box3D, ...]:
        if frame_id == self._config().map_frame:
            return tuple(boxes)
        T_target_map = self._buffer.lookup(frame_id, self._config().map_frame, stamp_ns, self._config().tf_timeout)
        return tuple(conversions.moved_box(box, T_target_map) for box in boxes)
