"""The node: parameters, lifecycle and services; everything else is in a Session."""

from __future__ import annotations

import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vidllm_ros.model import CheckpointError
from vidllm_ros.node.commands import Commands
from vidllm_ros.node.input.camera_input import resolve_topics
from vidllm_ros.node.input.watch import PATIENCE, look
from vidllm_ros.node.map_files import save_map
from vidllm_ros.node.output.diagnostics import Snapshot, diagnostics
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.parameters.declared import Parameters
from vidllm_ros.node.qos import EVENTS
from vidllm_ros.node.questions.exchange import Question
from vidllm_ros.node.questions.query_server import QueryServer
from vidllm_ros.node.ros_logging import forward_logs, stop_forwarding
from vidllm_ros.node.session import Session
from vidllm_ros.node.throttle import Throttle
from vidllm_ros.node.worker import NotActiveError
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.errors import SaveError

_LOGGER = logging.getLogger(__name__)
_REMINDER = 30.0  # seconds between reminders that the node is not active


def _reported(transition: Callable) -> Callable:
    """Logs what a transition raises, which rclpy would swallow, and lets it fail, which keeps the old state."""

    @functools.wraps(transition)
    def wrapper(self: VidllmNode, state: LifecycleState) -> TransitionCallbackReturn:
        name = transition.__name__.removeprefix("on_")
        try:
            transition(self, state)
        except CheckpointError as error:  # a fault of the user's setting; where it was raised does not matter
            self._problem = f"{name} failed: {error}"
        except Exception as error:
            self._problem = f"{name} failed: {error!r}"
            self.get_logger().error(traceback.format_exc())
        else:
            self._problem = ""
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(self._problem)
        return TransitionCallbackReturn.FAILURE

    return wrapper


class VidllmNode(LifecycleNode):
    """Vid-LLM as a lifecycle node.

    Raises:
        ConfigError: a parameter given at start cannot be used.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__("vidllm", **kwargs)
        self._session: Session | None = None
        self._state = "unconfigured"
        self._problem = ""
        self._finding = ""
        self._hang = ""
        self._throttle = Throttle()
        self._findings = Throttle(count=False)
        self._reminder = Throttle(_REMINDER, count=False)
        self._idle_since: float | None = time.monotonic()
        self._log_handler = forward_logs(self.get_logger())
        self.parameters = Parameters(self, lambda: self._session is not None, self._apply)
        for message in self.parameters.unknown:
            self.get_logger().warning(message)
        self._sensors = MutuallyExclusiveCallbackGroup()
        timers = MutuallyExclusiveCallbackGroup()
        self._query_server = QueryServer(self, self._question_limits, self._submit)
        self._in_use = threading.Lock()
        Commands(self, self.parameters, lambda: self._session, lambda: self._state, self._how_to_activate, self._in_use)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", EVENTS)
        # Not the node's clock: it stands still when use_sim_time waits for a /clock that nobody publishes.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.parameters.node.diagnostics_period, self._tick, callback_group=timers, clock=clock)

    @_reported
    def on_configure(self, state: LifecycleState) -> None:
        """Loads the model on its device and makes the publishers."""
        self._close_session()
        parameters = self.parameters
        self._session = Session(self, parameters.node, parameters.perception, self._sensors, self._throttle)
        self._state = "inactive"

    @_reported
    def on_activate(self, state: LifecycleState) -> None:
        """Tries the network and subscribes."""
        self._need_session().activate()
        self._state = "active"
        session = self._need_session()
        self.get_logger().info(
            f"active: images from '{session.camera.image_topic}', questions on '{self.resolve_service_name('~/query')}'"
        )

    @_reported
    def on_deactivate(self, state: LifecycleState) -> None:
        """Unsubscribes and ends all questions; what was seen stays."""
        self._state = "inactive"
        self._need_session().deactivate()

    @_reported
    def on_cleanup(self, state: LifecycleState) -> None:
        """Frees the model and forgets what was seen."""
        self._state = "unconfigured"
        self._close_session()

    @_reported
    def on_shutdown(self, state: LifecycleState) -> None:
        """Saves the map if asked to, and ends everything."""
        self._state = "finalized"
        session = self._session
        if session is not None and session.active:
            session.deactivate(for_good=True)
        if session is not None and self.parameters.node.map_save_on_shutdown:
            self._save_last_map(session)
        self._close_session()

    @_reported
    def on_error(self, state: LifecycleState) -> None:
        """Back to unconfigured."""
        self._state = "unconfigured"
        self._close_session()

    def autostart(self) -> bool:
        """Configures and activates the node when its parameter asks for it; whether it is active then."""
        if not self.parameters.node.autostart:
            return False
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    def close(self) -> None:
        """Ends everything from any state; for the end of the process."""
        try:
            if self._state != "finalized":
                self.trigger_shutdown()
            self._close_session()
            self._query_server.destroy()
        except Exception:  # nothing may keep the process from ending well
            self.get_logger().error(traceback.format_exc())
        finally:
            stop_forwarding(self._log_handler)

    def destroy_node(self) -> None:
        """As of every node; and the participant goes, with its shared memory, when this was the last node."""
        super().destroy_node()
        # rclpy leaves the state machine open, which holds the node, until the interpreter is taken apart; our process
        # does not wait for that (main.py), and Fast DDS left 70 MB in /dev/shm for every end of a node.
        self._state_machine.destroy_when_not_in_use()

    def _need_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("the node is not configured")
        return self._session

    def _save_last_map(self, session: Session) -> None:
        config = self.parameters.node
        try:
            message, _ = save_map(session.pipeline, config.map_save_on_shutdown, True, config)
            self.get_logger().info(message)
        except (SaveError, OSError) as error:
            self.get_logger().error(f"map.save_on_shutdown: {error}")

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with self._in_use:
                session.close()

    def _apply(self, config: NodeConfig, perception: PerceptionConfig) -> None:
        if self._session is not None:
            self._session.apply(config, perception)

    def _question_limits(self) -> tuple[int, float]:
        config = self.parameters.node
        return config.query_max_characters, config.query_timeout

    def _submit(self, question: Question) -> None:
        session = self._session
        if session is None or not session.active:
            reason = f" ({self._problem})" if self._problem else ""
            raise NotActiveError(f"the node is {self._state}{reason}: {self._how_to_activate()}")
        session.worker.submit(question)

    def _how_to_activate(self) -> str:
        steps = ["configure", "activate"] if self._session is None else ["activate"]
        return " and ".join(f"'ros2 lifecycle set {self.get_fully_qualified_name()} {step}'" for step in steps)

    def _tick(self) -> None:
        """Once a period: say what is wrong, publish diagnostics, and let the worker publish a map that became due."""
        try:
            self._watch()
            self._supervise()
            message = diagnostics(self.get_clock().now().to_msg(), self.get_fully_qualified_name(), self._snapshot())
            self._diagnostics.publish(message)
            if self._session is not None and self._session.active:
                self._session.worker.wake()
        except Exception:
            self._throttle(_LOGGER.error, traceback.format_exc())

    def _watch(self) -> None:
        session = self._session
        if session is None or not session.active:
            self._finding = ""
            self._remind()
            return
        self._idle_since = None
        since = session.active_since
        before, self._finding = self._finding, ""
        if since is not None and session.camera.enabled:
            self._finding = look(self, session.camera, time.monotonic() - since)
        if self._finding:
            self._findings(_LOGGER.warning, self._finding)
        elif before:
            self.get_logger().info(f"images come in again on '{session.camera.image_topic}'")
            self._findings.clear()

    def _supervise(self) -> None:
        session = self._session
        if session is None:
            return
        session.supervise()
        before, self._hang = self._hang, session.hang
        if self._hang:
            self._findings(_LOGGER.error, f"the network hangs: {self._hang}")
        elif before:
            self.get_logger().info("the network works again")

    def _remind(self) -> None:
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if self._state != "finalized" and now - self._idle_since >= PATIENCE:  # not while a transition is on its way
            text = f"the node is {self._state} and processes nothing: {self._how_to_activate()}"
            self._reminder(_LOGGER.warning, text)

    def _snapshot(self) -> Snapshot:
        session = self._session
        topics = resolve_topics(self, self.parameters.node.image_transport)
        if session is None:
            return Snapshot(state=self._state, problem=self._problem, topics=topics)
        return Snapshot(
            state=self._state,
            topics=topics,
            problem=self._problem,
            enabled=session.camera.enabled,
            finding=self._finding,
            input=session.camera.monitor.state if session.active else None,
            counts=session.pipeline.stats,
            dropped=session.camera.dropped,
            health=session.inference.health,
            device=session.device,
            checkpoint=session.checkpoint,
            doing=session.worker.busy,
            waiting=session.worker.waiting,
            hang=self._hang,
        )
