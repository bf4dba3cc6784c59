"""Training data from files: every source gives the same typed samples, and is named by ``source:path``."""

from .errors import DataError
from .registry import SOURCES, describe_sources, open_data
from .scenes import SceneSource

__all__ = ["SOURCES", "DataError", "SceneSource", "describe_sources", "open_data"]
