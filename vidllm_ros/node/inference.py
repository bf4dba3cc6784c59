"""What the worker thread does with windows: process, publish, and go on after a failure."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from vidllm_ros.node import conversions
from vidllm_ros.node.frames.anchor import look_up
from vidllm_ros.node.frames.tf import TfBroadcaster
from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError
from vidllm_ros.node.output.health import Health, describe
from vidllm_ros.node.output.publishers import Publishers
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.throttle import Throttle
from vidllm_ros.perception.errors import DropReason, NoWindowError, StaleWindowError, StampNotHeldError
from vidllm_ros.perception.out_of_memory import free_memory, is_out_of_memory
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import Box3D, Window, WindowResult, WindowStatus

_LOGGER = logging.getLogger(__name__)


class Inference:
    """Runs the pipeline and publishes what comes out. Every method belongs to the worker thread, but for ``reset``.

    Args:
        pipeline: perception.
        config: of the node.
        publishers: where results go.
        buffer: what TF knows.
        broadcaster: for ``publish_tf``.
        dropped: images that never became frames, by reason.
        throttle: for messages that may repeat.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: NodeConfig,
        publishers: Publishers,
        buffer: TransformBuffer,
        broadcaster: TfBroadcaster,
        dropped: Callable[[], dict[str, int]],
        throttle: Throttle,
    ) -> None:
        self.pipeline = pipeline
        self.config = config
        self.health = Health(throttle=throttle)
        self._publishers = publishers
        self._buffer = buffer
        self._broadcaster = broadcaster
        self._dropped = dropped
        self._throttle = throttle
        self._newest_pose_ns = -1
        self._map_changed = False
        self._map_stamp_ns = 0
        self._map_at = float("-inf")
        # A reset may come from another thread at any time, and what it cleared must stay so.
        self._publishing = threading.Lock()
        self._resets = 0
        self._ending = False
        self._closed = False

    def run_window(self) -> bool:
        """Processes and publishes the window that waits, if any."""
        if self.health.halted or self._closed:
            return False
        window = self._next_window()
        if window is None:
            return False
        resets = self._resets
        try:
            result = self._process(window)
        except StaleWindowError:
            return True
        except Exception as error:
            self._failed(error)
            return True
        self.health.failures = 0
        if result is not None:
            started = time.monotonic()
            boxes = self._locate(result)
            locate_time = time.monotonic() - started
            with self._publishing:
                if resets == self._resets:
                    self._publish(result, boxes, locate_time)
        return True

    def end_stream(self) -> None:
        """No more frames come for now: those that wait become a last, shorter window; may be called from any thread."""
        self._ending = True

    def _next_window(self) -> Window | None:
        window = self.pipeline.next_window()
        if window is None and self._ending:
            window = self.pipeline.flush()
            self._ending = window is not None
        return window

    def idle(self) -> bool:
        """Encodes frames that wait, and publishes the map when it is due."""
        encoded = self.pipeline.prepare_pending() if not (self.health.halted or self._closed) else 0
        with self._publishing:
            if not self._closed:
                self._publish_map()
        return encoded > 0

    def show_boxes(self, stamp_ns: int, boxes: Sequence[Box3D]) -> None:
        """Publishes the boxes of an answer, in map, with the time they belong to."""
        with self._publishing:
            if not self._closed:
                self._publishers.publish_detections(conversions.header(stamp_ns, self.config.map_frame), boxes)
                self._publishers.show(stamp_ns, boxes=boxes)

    def close(self) -> None:
        """Nothing is published any more, whatever a worker that hangs may still bring."""
        with self._publishing:
            self._closed = True
            self._resets += 1

    def reset(self) -> None:
        """Forgets everything seen; may be called from any thread."""
        with self._publishing:
            self.pipeline.reset()
            self.health.halted, self.health.failures, self.health.last_error = False, 0, ""
            self.health.last_window = None
            self._resets += 1
            self._newest_pose_ns = -1
            self._map_changed = False
            self._publishers.clear(self._map_stamp_ns)
        self._throttle.clear()  # what was reported of the past is news again

    def _process(self, window: Window) -> WindowResult | None:
        outside = look_up(window, self.config, self._buffer)
        if outside.problem:
            text = f"TF does not place the camera: {outside.problem}"
            if self.config.anchor == "tf":
                self._throttle(_LOGGER.error, f"{text}. The window is left out (anchor is tf)")
                self.pipeline.discard(window, DropReason.NO_TRANSFORM)
                return None
            self._throttle(_LOGGER.warning, f"{text}. The window is placed by its frames (anchor is auto)")
        return self.pipeline.process(window, outside.T_map_camera, outside.up_camera)

    def _publish(self, result: WindowResult, boxes: Sequence[Box3D] | None, locate_time: float) -> None:
        started = time.monotonic()
        placed = result.status is not WindowStatus.REJECTED
        stamp_ns = result.reconstruction.stamps_ns[-1]
        for warning in result.warnings:
            self._throttle(_LOGGER.warning, f"window {result.window_id}: {warning}")
        if placed:
            self._publish_poses(result)
            self._publishers.publish_cloud(result)
            self._publishers.publish_depth(result, self.pipeline.config.cloud.min_confidence)
            self._publishers.publish_path(*self.pipeline.path)
            if boxes is not None:
                self._publishers.publish_detections(conversions.header(stamp_ns, self.config.map_frame), boxes)
            self._publishers.show(stamp_ns, boxes, result)
            self._map_changed, self._map_stamp_ns = True, stamp_ns
        else:
            self._throttle(_LOGGER.warning, f"window {result.window_id} is not in the map: {result.reason}")
        self._publishers.publish_window(result, self.pipeline.stats, self._dropped(), started, locate_time)
        health = self.health
        health.windows += 1
        health.last_window, health.published_at = result, time.monotonic()
        self._publish_map()

    def _publish_poses(self, result: WindowResult) -> None:
        stamps = result.reconstruction.stamps_ns
        if stamps[-1] < self._newest_pose_ns:  # the clock went back
            self._newest_pose_ns = -1
        start = next((i for i, stamp in enumerate(stamps) if stamp > self._newest_pose_ns), len(stamps))
        if start == len(stamps):
            return
        self._newest_pose_ns = stamps[-1]
        self._publishers.publish_poses(result, start)
        try:
            self._broadcaster.send(result.reconstruction.frame_ids[-1], stamps[start:], result.T_map_camera[start:])
        except TransformError as error:
            self._throttle(_LOGGER.warning, f"nothing is broadcast on /tf: {error}")

    def _locate(self, result: WindowResult) -> Sequence[Box3D] | None:
        """Boxes of the configured labels in a placed window; None when none are looked for."""
        if not self.pipeline.config.detection.labels or result.status is WindowStatus.REJECTED:
            return None
        try:
            return self.pipeline.locate(window_id=result.window_id)
        except (NoWindowError, StampNotHeldError):  # a reset came in between
            return None
        except Exception as error:
            self.health.record(f"looking for boxes failed: {describe(error)}")
            return None

    def _publish_map(self) -> None:
        due = time.monotonic() - self._map_at >= self.config.map_publish_period
        if not (self._map_changed and due and self._publishers.map.get_subscription_count()):
            return
        self._map_changed, self._map_at = False, time.monotonic()
        self._publishers.publish_map(self._map_stamp_ns, *self.pipeline.map_points())

    def _failed(self, error: Exception) -> None:
        if is_out_of_memory(error):
            free_memory()
        health, limit = self.health, self.config.max_consecutive_failures
        health.failures += 1
        self.health.record(f"a window failed ({health.failures} in a row): {describe(error)}", error)
        if limit and health.failures >= limit:
            health.halted = True
            _LOGGER.error(
                "%d windows failed in a row, so no more are processed until ~/reset is called; the last reason: %s",
                health.failures,
                describe(error),
            )
