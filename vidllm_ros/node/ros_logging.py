"""Forwards the log of perception and model, which know no ROS, to the node's logger."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

_ROOT = "vidllm_ros"


class RosHandler(logging.Handler):
    """A handler of Python's logging that writes to a ROS logger, and so to the console, the log file and /rosout."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Logs with the severity nearest to the record's."""
        try:
            text = self.format(record)
            # rclpy ties a severity to the line of code that logs, so each needs a line of its own.
            if record.levelno >= logging.CRITICAL:
                self._logger.fatal(text)
            elif record.levelno >= logging.ERROR:
                self._logger.error(text)
            elif record.levelno >= logging.WARNING:
                self._logger.warning(text)
            elif record.levelno >= logging.INFO:
                self._logger.info(text)
            else:
                self._logger.debug(text)
        except Exception:  # logging must never stop what it reports on
            self.handleError(record)


def forward_logs(logger: RcutilsLogger) -> RosHandler:
    """Sends what this package logs through Python's logging to ``logger``; ``stop_forwarding`` ends it."""
    handler = RosHandler(logger)
    root = logging.getLogger(_ROOT)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)  # the ROS logger's own level decides
    root.propagate = False
    return handler


def stop_forwarding(handler: RosHandler) -> None:
    """Undoes ``forward_logs``."""
    logging.getLogger(_ROOT).removeHandler(handler)
