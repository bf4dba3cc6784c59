"""Talks to a running node from a script: ask, stream, reset, enable, save the map, change the lifecycle state."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from vidllm_ros.action import Query as QueryAction
from vidllm_ros.node.conversions import ns_to_stamp
from vidllm_ros.node.qos import REQUESTS, TEXT
from vidllm_ros.srv import Query, SaveMap

_PATIENCE = 20.0  # seconds a request may take beyond its own timeout


class ClientError(RuntimeError):
    """The node does not answer, or says that it cannot.

    Attributes:
        code: the error code of srv/Query; 0 when the node itself did not answer.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class VidllmClient:
    """A client with its own ROS context and thread, so that it works in any program.

    Use it in a ``with`` statement, or call ``close``::

        with VidllmClient() as client:
            print(client.ask("How many chairs are in the room?").answer)

    Args:
        target: name of the node, with its namespace.
        name: of the client's own node.
        args: ROS arguments of the client.
    """

    def __init__(self, target: str = "/vidllm", name: str = "vidllm_client", args: list[str] | None = None) -> None:
        self.target = target if target.startswith("/") else f"/{target}"
        self.context = rclpy.Context()
        rclpy.init(args=args, context=self.context)
        self.node = Node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._query = self.node.create_client(Query, f"{self.target}/query", qos_profile=REQUESTS)
        self._reset = self.node.create_client(Trigger, f"{self.target}/reset")
        self._enable = self.node.create_client(SetBool, f"{self.target}/enable")
        self._save_map = self.node.create_client(SaveMap, f"{self.target}/save_map")
        self._get_state = self.node.create_client(GetState, f"{self.target}/get_state")
        self._change_state = self.node.create_client(ChangeState, f"{self.target}/change_state")
        self._stream = ActionClient(
            self.node,
            QueryAction,
            f"{self.target}/query_stream",
            goal_service_qos_profile=REQUESTS,
            result_service_qos_profile=REQUESTS,
            cancel_service_qos_profile=REQUESTS,
            feedback_sub_qos_profile=TEXT,
        )
        self._thread = threading.Thread(target=self._spin, name="vidllm_client", daemon=True)
        self._thread.start()

    def __enter__(self) -> VidllmClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the ROS graph."""
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self._stream.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait_until_active(self, timeout: float) -> None:
        """Waits until the node has loaded its model.

        Raises:
            ClientError: it is not active within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        state = "not there"
        while time.monotonic() < deadline:
            if self._get_state.wait_for_service(timeout_sec=0.5):
                state = self.state()
                if state == "active":
                    return
            time.sleep(0.1)
        raise ClientError(f"{self.target} is {state} after {timeout:g} s; its log says why")

    def state(self) -> str:
        """The lifecycle state."""
        return self._call(self._get_state, GetState.Request(), _PATIENCE).current_state.label

    def change_state(self, transition: str, timeout: float = 120.0) -> bool:
        """Runs a lifecycle transition (configure, activate, deactivate, cleanup, shutdown); whether it succeeded."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self._call(self._change_state, request, timeout).success

    def ask(
        self,
        question: str,
        *,
        task: int = Query.Request.TASK_AUTO,
        scope: int = Query.Request.SCOPE_WINDOW,
        stamp_ns: int = 0,
        frame_id: str = "",
        max_new_tokens: int = 0,
        timeout: float = 30.0,
    ) -> Query.Response:
        """Asks and waits for the answer; the fields are those of srv/Query.

        Raises:
            ClientError: there is no answer; ``code`` says why.
        """
        fields = _fields(question, task, scope, stamp_ns, frame_id, max_new_tokens)
        request = Query.Request(**fields, timeout=float(timeout))
        response = self._call(self._query, request, timeout + _PATIENCE)
        if not response.success:
            raise ClientError(response.message, response.error_code)
        return response

    def stream(
        self,
        question: str,
        on_text: Callable[[str], bool | None],
        *,
        task: int = Query.Request.TASK_AUTO,
        scope: int = Query.Request.SCOPE_WINDOW,
        stamp_ns: int = 0,
        frame_id: str = "",
        max_new_tokens: int = 0,
        timeout: float = 60.0,
    ) -> QueryAction.Result:
        """Asks and hands each new piece of text to ``on_text``, which returns False to cancel; the result in the end.

        A cancelled question returns what was said so far.

        Raises:
            ClientError: there is no answer; ``code`` says why.
        """
        if not self._stream.wait_for_server(timeout_sec=_PATIENCE):
            raise ClientError(f"no node serves {self.target}/query_stream")
        goal = QueryAction.Goal(**_fields(question, task, scope, stamp_ns, frame_id, max_new_tokens))
        cancel = threading.Event()
        handle: Any = None

        def on_feedback(message: Any) -> None:
            if on_text(message.feedback.text) is False and not cancel.is_set():
                cancel.set()
                if handle is not None:
                    handle.cancel_goal_async()

        handle = self._wait(self._stream.send_goal_async(goal, feedback_callback=on_feedback), _PATIENCE)
        if cancel.is_set():  # the first text came before the handle did
            handle.cancel_goal_async()
        outcome = self._wait(handle.get_result_async(), timeout)
        if outcome.status not in (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED):
            raise ClientError(outcome.result.message, outcome.result.error_code)
        return outcome.result

    def reset(self) -> str:
        """Makes the node forget what it has seen; its message."""
        return self._checked(self._call(self._reset, Trigger.Request(), _PATIENCE))

    def enable(self, on: bool) -> str:
        """Starts or stops taking frames; the node's message."""
        return self._checked(self._call(self._enable, SetBool.Request(data=bool(on)), _PATIENCE))

    def save_map(self, path: str, overwrite: bool = False, timeout: float = 60.0) -> int:
        """Writes the map on the node's machine; the number of points."""
        response = self._call(self._save_map, SaveMap.Request(path=str(path), overwrite=bool(overwrite)), timeout)
        self._checked(response)
        return response.point_count

    def _checked(self, response: Any) -> str:
        if not response.success:
            raise ClientError(response.message)
        return response.message

    def _call(self, client: Any, request: Any, timeout: float) -> Any:
        if not client.wait_for_service(timeout_sec=_PATIENCE):
            raise ClientError(f"no node serves {client.srv_name}; is {self.target} running in this ROS domain?")
        return self._wait(client.call_async(request), timeout)

    def _wait(self, future: Any, timeout: float) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout):
            raise ClientError(f"{self.target} did not answer within {timeout:g} s")
        return future.result()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def _fields(question: str, task: int, scope: int, stamp_ns: int, frame_id: str, max_new_tokens: int) -> dict[str, Any]:
    """What service and action share, each of its field's own type: the generated code ends the process otherwise."""
    return {
        "question": str(question),
        "task": int(task),
        "scope": int(scope),
        "stamp": ns_to_stamp(int(stamp_ns)),
        "frame_id": str(frame_id),
        "max_new_tokens": int(max_new_tokens),
    }
