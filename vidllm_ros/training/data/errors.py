"""How data sources say that something is wrong: refused with an error, or left out with a warning."""

from __future__ import annotations

import logging

#: Everything that a source leaves out is warned about here, with its path.
log = logging.getLogger("vidllm_ros.training.data")


class DataError(ValueError):
    """Training data that cannot be used. The message names the file, what is wrong with it, and what to do."""


def reason(error: Exception) -> str:
    """Why a file could not be read, without the path that the system's own words repeat."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
