"""Runs the node as a process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vidllm_ros.node.allocator import tune_allocator

if TYPE_CHECKING:
    from rclpy.executors import Executor

_SIGNAL_POLL = 0.2  # seconds; a signal that another thread received does not interrupt the wait of the main one
_THREADS = 4  # lifecycle, sensors, questions and commands, timer


def main(args: Sequence[str] | None = None) -> None:
    """Runs until SIGINT, SIGTERM or the end of the ROS context; exits with 0 then, with 1 when it could not start."""
    code = run(args)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed. Taking apart the interpreter with PyTorch in it takes seconds more, and launch kills what
    # has not ended five seconds after SIGINT.
    os._exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """As ``main``; the exit code."""
    tune_allocator()
    stop, closing = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # Imported after that, because it takes seconds in which a signal must end the process as well as later.
    import rclpy
    from rclpy.executors import MultiThreadedExecutor
    from rclpy.logging import get_logger
    from rclpy.signals import SignalHandlerOptions

    from vidllm_ros.node.node import VidllmNode
    from vidllm_ros.perception.errors import ConfigError

    # The handlers of rclpy end the context at once, and clients that wait for an answer would never hear of it.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = VidllmNode()
    except ConfigError as error:
        get_logger("vidllm").fatal(f"cannot start: {error}")
        rclpy.try_shutdown()
        return 1
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor, stop, closing), name="vidllm_executor", daemon=True)
    spinner.start()
    try:
        if not stop.is_set():
            node.autostart()
        while not stop.wait(_SIGNAL_POLL):
            pass
    finally:
        node.close()
        closing.set()
        executor.shutdown(timeout_sec=5.0)
        spinner.join(5.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin(executor: Executor, stop: threading.Event, closing: threading.Event) -> None:
    """Spins to the end; a callback that raises costs its own work and nothing else."""
    from rclpy.executors import ExternalShutdownException
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.logging import get_logger

    while not closing.is_set():
        try:
            executor.spin()
            return
        except (KeyboardInterrupt, ExternalShutdownException):
            stop.set()
            return
        except rclpy_implementation.InvalidHandle:
            # The executor looked at a subscription just when another thread destroyed it (seen with rclpy of Jazzy and
            # Kilted); in the next round it is gone.
            continue
        except Exception:
            if closing.is_set():  # rclpy's executor may still hand out work while it is shut down
                return
            if stop.is_set():  # or look at the action server that is being destroyed (Jazzy)
                continue
            get_logger("vidllm").error(f"a callback failed:\n{traceback.format_exc()}")
