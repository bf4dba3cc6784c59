"""What goes into the language model and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.tokenizer import LOC


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes of the language model.

    Args:
        feature_dim: channels of the scene tokens.
        llm: a ``transformers`` causal language model's configuration as a dictionary with its ``model_type``. Its
            ``vocab_size`` may be left out: the tokenizer decides.
        projector_hidden: hidden width of the two-layer projector from scene tokens to the language model.
        scene_attention: ``full``: scene tokens see each other both ways (for a model trained here: a set of voxels has
            no order); ``causal``: each sees those before it (what a pretrained causal model expects).
        max_question_tokens: the longest question that is answered.
    """

    feature_dim: int
    llm: dict[str, Any]
    projector_hidden: int
    scene_attention: str = "full"
    max_question_tokens: int = 256

    def __post_init__(self) -> None:
        for name in ("feature_dim", "projector_hidden", "max_question_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"language.{name} is {getattr(self, name)}; it must be at least 1")
        if self.scene_attention not in ("full", "causal"):
            raise ValueError(f"language.scene_attention is {self.scene_attention!r}; it must be 'full' or 'causal'")
        if "model_type" not in self.llm:
            raise ValueError(
                "language.llm has no model_type; give a transformers configuration such as {'model_type': 'qwen2'}"
            )


class QuestionError(ValueError):
    """A question that cannot be put to the language model: empty, or too long."""


@dataclass(frozen=True)
class ScenePrefix:
    """A scene as the language model remembers it, reusable for any number of questions.

    Attributes:
        scene: the tokens that were read.
        cache: the key/value cache; never changed once made.
        length: tokens in the cache.
    """

    scene: SceneTokens
    cache: Any
    length: int


class Generation(NamedTuple):
    """What the language model said.

    Attributes:
        text: the reply.
        confidence: mean probability of the chosen tokens, 0 to 1.
        token_count: tokens generated, without the end mark.
        finished: False when ``on_text`` stopped it.
        loc_state: [hidden] the last layer's state at the first ``<LOC>`` of the reply; None when it named no object.
    """

    text: str
    confidence: float
    token_count: int
    finished: bool
    loc_state: Tensor | None


@dataclass(frozen=True)
class LanguageLoss:
    """The loss of a batch of conversations.

    Attributes:
        loss: scalar, mean cross-entropy of the answer tokens in nats.
        token_count: answer tokens.
        correct: share of the answer tokens whose most probable prediction is right.
        loc_states: for each scene and each of its pairs, [hidden] the state at the answer's first ``<LOC>``, or None.
    """

    loss: Tensor
    token_count: int
    correct: float
    loc_states: list[list[Tensor | None]]


def locate_pair(phrase: str) -> tuple[str, str]:
    """The question and answer that name an object to the grounding decoder; training and ``locate`` share them."""
    return f"Locate: {phrase.strip().lower()}", LOC
