"""The node's short services: ``~/reset``, ``~/enable`` and ``~/save_map``."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from vidllm_ros.node.map_files import save_map
from vidllm_ros.node.parameters.declared import Parameters
from vidllm_ros.node.session import Session
from vidllm_ros.perception.errors import SaveError
from vidllm_ros.srv import SaveMap


class Commands:
    """Serves them from the node's creation to its end, and says in which state they have nothing to work on.

    Args:
        node: serves.
        parameters: of the node.
        session: what is configured now, or None.
        state: the lifecycle state.
        how_to_activate: the commands that lead to the active state, in words.
        lock: held while a session is worked on, so that it is not closed meanwhile.
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        session: Callable[[], Session | None],
        state: Callable[[], str],
        how_to_activate: Callable[[], str],
        lock: threading.Lock,
    ) -> None:
        self._logger = node.get_logger()
        self._parameters = parameters
        self._session = session
        self._state = state
        self._how_to_activate = how_to_activate
        self._lock = lock
        group = MutuallyExclusiveCallbackGroup()
        for kind, name, serve in (
            (Trigger, "~/reset", self._on_reset),
            (SetBool, "~/enable", self._on_enable),
            (SaveMap, "~/save_map", self._on_save_map),
        ):
            node.create_service(kind, name, self._alone(serve), callback_group=group)

    def _alone(self, serve: Callable) -> Callable:
        def locked(request: object, response: object) -> object:
            with self._lock:
                return serve(request, response)

        return locked

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        session = self._session()
        response.success = session is not None
        if session is None:
            response.message = f"nothing to reset: the node is {self._state()}"
            return response
        session.inference.reset()
        response.message = "frames, windows, map and path are forgotten"
        self._logger.info(f"reset: {response.message}")
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        session = self._session()
        response.success = session is not None
        if session is None:
            response.message = f"the node is {self._state()}: {self._how_to_activate()}"
            return response
        session.camera.enabled = request.data
        if not request.data:
            session.inference.end_stream()
            session.worker.wake()
        response.message = (
            "frames are taken"
            if request.data
            else "frames are left out until ~/enable is called with true; those that wait become a last window"
        )
        self._logger.info(response.message)
        return response

    def _on_save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        try:
            session = self._session()
            if session is None:
                raise SaveError(f"there is no map: the node is {self._state()}")
            config = self._parameters.node
            response.message, response.point_count = save_map(session.pipeline, request.path, request.overwrite, config)
            response.success = True
            self._logger.info(response.message)
        except (SaveError, OSError, RuntimeError) as error:
            response.success, response.message = False, str(error)
            self._logger.error(response.message)
        return response
