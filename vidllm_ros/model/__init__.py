"""The Vid-LLM network, module by module as the paper names it."""

from vidllm_ros.model.checkpoint import CheckpointError
from vidllm_ros.model.config import ConfigError, VidLLMConfig
from vidllm_ros.model.language_types import QuestionError, ScenePrefix
from vidllm_ros.model.outputs import Answer, Box3D, GeometryOutput, SceneTokens
from vidllm_ros.model.vidllm import VidLLM

__all__ = [
    "Answer",
    "Box3D",
    "CheckpointError",
    "ConfigError",
    "GeometryOutput",
    "QuestionError",
    "ScenePrefix",
    "SceneTokens",
    "VidLLM",
    "VidLLMConfig",
]
