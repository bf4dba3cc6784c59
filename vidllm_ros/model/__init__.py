"""The Vid-LLM network, module by module as the paper names it.

Start with ``vidllm.py``, which wires ``reconstruction/`` and ``reasoning/``; ``config.py`` describes every size.
Imports nothing of ours.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidllm_ros.model.checkpoint import CheckpointError
    from vidllm_ros.model.config import ConfigError, VidLLMConfig
    from vidllm_ros.model.outputs import Answer, Box3D, GeometryOutput, SceneTokens
    from vidllm_ros.model.reasoning.language_types import QuestionError, ScenePrefix
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

_HOMES = {
    "CheckpointError": "checkpoint",
    "ConfigError": "config",
    "VidLLMConfig": "config",
    "QuestionError": "reasoning.language_types",
    "ScenePrefix": "reasoning.language_types",
    "VidLLM": "vidllm",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, when it is: PyTorch and transformers take seconds, and a box needs neither."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'outputs')}"), name)
