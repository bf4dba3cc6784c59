"""Everything that exists between configure and cleanup."""

from __future__ import annotations

import gc
import logging
import time

import torch
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from vidllm_ros.node.checkpoints import describe_device, load_model, resolve_checkpoint, resolve_device
from vidllm_ros.node.frames.tf import TfBroadcaster, TfListener
from vidllm_ros.node.inference import Inference
from vidllm_ros.node.input.camera_input import CameraInput
from vidllm_ros.node.output.publishers import Publishers
from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.node.questions.answering import Answerer
from vidllm_ros.node.throttle import Throttle
from vidllm_ros.node.worker import Worker
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import Frame

_LOGGER = logging.getLogger(__name__)
_DRAIN = 60.0  # seconds what the worker is doing may take to end
_LAST_DRAIN = 3.0  # the same when the process ends: launch kills what has not ended after a few seconds


class Session:
    """A loaded model and all that serves it.

    Args:
        node: subscribes and publishes.
        config: of the node.
        perception: of the pipeline.
        group: callback group of all subscriptions.
        throttle: for messages that may repeat.

    Raises:
        CheckpointError: the checkpoint or the device cannot be used.
    """

    def __init__(
        self, node: Node, config: NodeConfig, perception: PerceptionConfig, group: CallbackGroup, throttle: Throttle
    ) -> None:
        started = time.monotonic()
        model = load_model(config.checkpoint, config.dtype, resolve_device(config.device))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        _LOGGER.info(
            "checkpoint %s: '%s', %.1f million parameters, read in %.1f s",
            resolve_checkpoint(config.checkpoint),
            model.config.name,
            parameters / 1e6,
            time.monotonic() - started,
        )
        self.checkpoint = config.checkpoint
        self.pipeline = Pipeline(model, perception)
        self.publishers = Publishers(node, config.map_frame)
        self.tf = TfListener(node, group)
        self.broadcaster = TfBroadcaster(node, config, self.tf.buffer)
        self.camera = CameraInput(node, config, group, throttle, self._accept)
        self.inference = Inference(
            self.pipeline,
            config,
            self.publishers,
            self.tf.buffer,
            self.broadcaster,
            lambda: self.camera.dropped,
            throttle,
        )
        answerer = Answerer(
            self.pipeline,
            lambda: self.inference.config,
            self.tf.buffer,
            self.inference.health,
            self.inference.show_boxes,
        )
        self.worker = Worker(
            answerer.answer,
            self.inference.run_window,
            self.inference.idle,
            lambda: self.inference.config.query_queue_size,
        )
        self.active_since: float | None = None

    @property
    def device(self) -> str:
        """The device really used, in words."""
        return describe_device(self.pipeline.model.device)

    @property
    def active(self) -> bool:
        """Whether it takes frames and answers questions."""
        return self.active_since is not None

    def activate(self) -> None:
        """Tries the network, starts the worker and subscribes."""
        seconds = _warm_up(self.pipeline)
        _LOGGER.info("the network runs on %s; warm-up took %.2f s", self.device, seconds)
        if not self.worker.start():
            raise RuntimeError("the worker is still busy with what it did before the node was deactivated")
        self.camera.start()
        self.active_since = time.monotonic()

    def deactivate(self, for_good: bool = False) -> None:
        """Unsubscribes, ends every question and waits for the worker, but not for one that hangs.

        Args:
            for_good: the process ends.
        """
        self.active_since = None
        self.camera.stop()
        patience = 0.0 if self.hang else _LAST_DRAIN if for_good else _DRAIN
        if not self.worker.stop(patience):
            _LOGGER.error("the worker did not end within %.0f s: %s", patience, self.worker.busy[0])

    @property
    def hang(self) -> str:
        """What the worker has been doing for longer than it may, in words; "" when all is well."""
        doing, seconds = self.worker.busy
        limit = self.inference.config.watchdog_timeout
        if seconds <= limit:
            return ""
        return (
            f"{doing} takes {seconds:.0f} s by now (watchdog_timeout is {limit:g} s); if it does not end, deactivate, "
            f"cleanup, configure and activate give the node a new worker"
        )

    def supervise(self) -> None:
        """Starts the worker again when it ended by itself."""
        if self.active and self.worker.revive():
            self.inference.health.record("the worker thread ended by itself and was started again")

    def apply(self, config: NodeConfig, perception: PerceptionConfig) -> None:
        """Takes over changed parameters."""
        self.inference.config = config
        self.broadcaster.config = config
        self.pipeline.configure(perception)

    def close(self, for_good: bool = False) -> None:
        """Ends everything and frees the memory; the session cannot be used again."""
        if self.active:
            self.deactivate(for_good)
        self.inference.close()
        self.camera.stop()
        self.tf.destroy()
        self.broadcaster.destroy()
        self.publishers.destroy()
        del self.pipeline, self.inference, self.worker
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _accept(self, frame: Frame) -> None:
        self.pipeline.accept(frame)
        self.worker.wake()


def _warm_up(pipeline: Pipeline) -> float:
    """Runs the network once, so that the first window does not pay for it and a device that cannot is known now."""
    started = time.monotonic()
    height, width = pipeline.model.config.image_size
    pipeline.model.reconstruct(torch.zeros(1, 2, 3, height, width))
    return time.monotonic() - started
