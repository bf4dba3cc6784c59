"""How processing goes, and failures in words."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from vidllm_ros.node.throttle import Throttle
from vidllm_ros.perception.out_of_memory import is_out_of_memory
from vidllm_ros.perception.types import WindowResult

_LOGGER = logging.getLogger(__name__)


@dataclass
class Health:
    """How processing goes, for diagnostics.

    Attributes:
        windows: processed since configuring.
        failures: failed in a row.
        halted: too many failed in a row; nothing is processed until a reset.
        last_error: the newest failure, in words.
        last_window: the newest result.
        published_at: when that was, on ``time.monotonic``.
        throttle: for the log.
    """

    windows: int = 0
    failures: int = 0
    halted: bool = False
    last_error: str = ""
    last_window: WindowResult | None = None
    published_at: float | None = None
    throttle: Throttle = field(default_factory=Throttle)

    def record(self, message: str, error: Exception | None = None) -> None:
        """Logs a failure and keeps it for diagnostics."""
        self.last_error = message
        self.throttle(lambda text: _LOGGER.error(text, exc_info=error), message)


def describe(error: Exception) -> str:
    """The kind and the first line of an error."""
    kind = "out of memory" if is_out_of_memory(error) else type(error).__name__
    text = str(error).strip().splitlines()
    return f"{kind}: {text[0]}" if text else kind
