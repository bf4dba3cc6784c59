"""Training data from files: every source gives the same typed samples, and is named by ``source:path``."""

from vidllm_ros.training.data.errors import DataError
from vidllm_ros.training.data.registry import SOURCES, describe_sources, open_data
from vidllm_ros.training.data.scannet.scenes import SceneSource

__all__ = ["SOURCES", "DataError", "SceneSource", "describe_sources", "open_data"]
