"""``~/query`` and ``~/query_stream``: questions from ROS to the worker, replies back.

Neither blocks a thread of the executor while the worker thinks: both await a future that the worker completes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from vidllm_ros.action import Query as QueryAction
from vidllm_ros.node import conversions
from vidllm_ros.node.qos import REQUESTS, TEXT
from vidllm_ros.node.questions.exchange import ErrorCode, Question, Reply, RequestError, check_request
from vidllm_ros.node.worker import NotActiveError, QueueFullError
from vidllm_ros.srv import Query as QueryService

_CANCEL_PATIENCE = 2.0  # seconds


class QueryServer:
    """Serves the service and the action.

    Args:
        node: serves.
        limits: gives the longest question in characters and the default timeout in seconds.
        submit: hands a question to the worker; QueueFullError refuses it, NotActiveError says there is no worker.
    """

    def __init__(self, node: Node, limits: Callable[[], tuple[int, float]], submit: Callable[[Question], None]) -> None:
        self._node = node
        self._limits = limits
        self._submit = submit
        self._goals: dict[bytes, Question] = {}
        # Questions wait inside their callbacks, so these may overlap.
        group = ReentrantCallbackGroup()
        self._service = node.create_service(
            QueryService, "~/query", self._on_query, qos_profile=REQUESTS, callback_group=group
        )
        self._action = ActionServer(
            node,
            QueryAction,
            "~/query_stream",
            execute_callback=self._on_goal,
            goal_callback=lambda _: GoalResponse.ACCEPT,  # a refusal could not say why, an aborted goal can
            cancel_callback=self._on_cancel,
            callback_group=group,
            goal_service_qos_profile=REQUESTS,
            result_service_qos_profile=REQUESTS,
            cancel_service_qos_profile=REQUESTS,
            feedback_pub_qos_profile=TEXT,
        )

    def destroy(self) -> None:
        """Ends both."""
        self._node.destroy_service(self._service)
        self._action.destroy()

    async def _on_query(self, request: QueryService.Request, response: QueryService.Response) -> QueryService.Response:
        question, reply = self._open(request, request.timeout, None)
        if question is not None:
            reply = await self._reply_of(question)
        _fill(response, reply)
        response.success = reply.code is ErrorCode.NONE
        return response

    async def _on_goal(self, goal: ServerGoalHandle) -> QueryAction.Result:
        def on_text(piece: str, count: int) -> None:
            feedback = QueryAction.Feedback(text=piece, token_count=min(count, 65535))
            goal.publish_feedback(feedback)

        key = bytes(goal.goal_id.uuid)
        question, reply = self._open(goal.request, 0.0, on_text)
        if question is not None:
            self._goals[key] = question
            if goal.is_cancel_requested:
                question.cancel()
            reply = await self._reply_of(question)
            del self._goals[key]
        result = QueryAction.Result()
        _fill(result, reply)
        if reply.code is ErrorCode.NONE:
            goal.succeed()
        elif reply.cancelled and _becomes_canceling(goal):
            goal.canceled()
        else:
            goal.abort()
        return result

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        question = self._goals.get(bytes(goal.goal_id.uuid))
        if question is not None:
            question.cancel()
        return CancelResponse.ACCEPT

    def _open(
        self,
        request: QueryService.Request | QueryAction.Goal,
        timeout: float,
        on_text: Callable[[str, int], None] | None,
    ) -> tuple[Question | None, Reply]:
        """A question under way, or the reply that refuses it."""
        try:
            max_characters, default_timeout = self._limits()
            checked = check_request(
                request.question,
                request.task,
                request.scope,
                conversions.stamp_to_ns(request.stamp),
                request.frame_id,
                request.max_new_tokens,
                timeout,
                max_characters=max_characters,
                default_timeout=default_timeout,
            )
            question = Question(checked, on_text)
            try:
                self._submit(question)
            except Exception:
                question.cancel()
                raise
            return question, Reply(ErrorCode.UNKNOWN)
        except RequestError as error:
            reply = Reply(ErrorCode.INVALID_REQUEST, str(error))
        except NotActiveError as error:
            reply = Reply(ErrorCode.NOT_ACTIVE, str(error))
        except QueueFullError as error:
            reply = Reply(ErrorCode.QUEUE_FULL, str(error))
        except Exception as error:
            self._node.get_logger().error(f"a question could not be taken: {error!r}")
            reply = Reply(ErrorCode.UNKNOWN, f"the node failed to take the question: {error!r}")
        return None, reply

    async def _reply_of(self, question: Question) -> Reply:
        executor = self._node.executor
        future: Future = Future(executor=executor)

        def done(reply: Reply) -> None:
            future.set_result(reply)
            if executor is not None:
                executor.wake()  # a waiting executor does not notice a future that another thread completes

        question.on_reply(done)
        return await future


def _becomes_canceling(goal: ServerGoalHandle) -> bool:
    """Waits for the cancel callback, in another thread, to return: only then the goal turns to canceling."""
    deadline = time.monotonic() + _CANCEL_PATIENCE
    while not goal.is_cancel_requested and goal.is_active and time.monotonic() < deadline:
        time.sleep(0.005)
    return goal.is_cancel_requested


def _fill(message: QueryService.Response | QueryAction.Result, reply: Reply) -> None:
    message.error_code = int(reply.code)
    message.message = reply.message
    message.inference_time = reply.inference_time
    answer = reply.answer
    if answer is None:
        return
    message.answer = answer.text
    message.confidence = float(answer.confidence)
    message.window_id = answer.window_id or 0
    if reply.code is ErrorCode.NONE:
        head = conversions.header(reply.stamp_ns, reply.frame_id)
        message.detections = conversions.detections_message(head, answer.boxes)
