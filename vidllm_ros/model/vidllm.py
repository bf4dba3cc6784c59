"""Vid-LLM, assembled: reconstruct a window, read the scene, answer questions, locate objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vidllm_ros.model.checkpoint import Pretrained
from vidllm_ros.model.config import ConfigError, VidLLMConfig
from vidllm_ros.model.outputs import Answer, Box3D, GeometryOutput, SceneTokens
from vidllm_ros.model.reasoning.grounding import GroundingDecoder
from vidllm_ros.model.reasoning.language import LanguageModel
from vidllm_ros.model.reasoning.language_types import ScenePrefix
from vidllm_ros.model.reasoning.patches import PatchConstructor
from vidllm_ros.model.reconstruction.branch import ReconstructionModel

Part = TypeVar("Part", bound=nn.Module)

# Optical axes (x right, y down, z forward) to level axes (x forward, y left, z up), REP 103.
LEVEL_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


class VidLLM(Pretrained):
    """The whole network.

    Args:
        config: sizes.
        tokenizer: of the language model, where there is one.
        language: a language model that exists already, as ``config.language`` describes it; None makes one with random
            weights.

    A question may be put to a GeometryOutput (its first window), to SceneTokens, or to a ScenePrefix, which saves
    reading the scene again.
    """

    def __init__(
        self,
        config: VidLLMConfig,
        tokenizer: PreTrainedTokenizerBase | None = None,
        language: LanguageModel | None = None,
    ) -> None:
        super().__init__(config, tokenizer)
        self.reconstruction = ReconstructionModel(config)
        self._patches: PatchConstructor | None = None
        self._language: LanguageModel | None = None
        self._grounding: GroundingDecoder | None = None
        if config.patches and config.language and config.grounding:
            if tokenizer is None:
                raise ConfigError(f"the language model of configuration '{config.name}' needs a tokenizer")
            self._patches = PatchConstructor(config.patches)
            self._language = language or LanguageModel(config.language, tokenizer)
            self._grounding = GroundingDecoder(config.grounding)
        self.eval()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Of the language model; None for a network that only reconstructs."""
        return None if self._language is None else self._language.tokenizer

    def set_precision(self, dtype: torch.dtype | None) -> None:
        """Weights to ``dtype`` (None: as they are), except the reconstruction heads, which work in float32."""
        self.reconstruction.set_precision(dtype)
        for part in (self._patches, self._language, self._grounding):
            if part is not None:
                part.to(dtype=dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.reconstruction.encoder.mean.device

    @property
    def measured_size(self) -> tuple[int, int] | None:
        """(height, width) of the frames that ``measure`` wants to see; None when it is content with tokens."""
        metric = self.config.metric_depth
        convolutional = metric.enabled and metric.encoder == "convolutional"
        return metric.convolutional.image_size if convolutional else None

    @property
    def patches(self) -> PatchConstructor:
        """3D patch construction."""
        return self._part(self._patches)

    @property
    def language(self) -> LanguageModel:
        """The language model."""
        return self._part(self._language)

    @property
    def grounding(self) -> GroundingDecoder:
        """The box decoder."""
        return self._part(self._grounding)

    def _part(self, part: Part | None) -> Part:
        if part is None:
            raise ConfigError(
                f"this checkpoint ('{self.config.name}') reconstructs only: it holds no language model; "
                "questions and boxes need one that does"
            )
        return part

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Frames, float32 [F, 3, H, W] RGB in [0, 1], to features [F, L, N, C].

        A frame's features depend on nothing but that frame: keep them and stack them for every window that holds it.
        """
        return self.reconstruction.encode(images.to(self.device))

    @torch.inference_mode()
    def measure(
        self,
        tokens: Tensor,
        image_size: tuple[int, int] | None = None,
        images: Tensor | None = None,
        focal: Tensor | None = None,
    ) -> Tensor | None:
        """Features [F, L, N, C] of frames to their metric depth [F, H, W], None for a network without it.

        As with ``encode``, a frame's metric depth depends on nothing but that frame.

        Args:
            tokens: from ``encode``.
            image_size: (H, W) of the frames behind ``tokens``; the configuration's when not given.
            images: float [F, 3, h, w], the frames, best at ``measured_size``; only a convolutional metric depth model
                needs them.
            focal: [F] their focal lengths in image widths, NaN where unknown; only that model uses them.
        """
        metric = self.reconstruction.measure(
            tokens.to(self.device)[None],
            image_size or self.config.image_size,
            None if images is None else images.to(self.device)[None],
            None if focal is None else focal.to(self.device)[None],
        )
        return None if metric is None else metric[0]

    @torch.inference_mode()
    def reconstruct(
        self,
        images: Tensor | None = None,
        *,
        tokens: Tensor | None = None,
        metric_depth: Tensor | None = None,
        image_size: tuple[int, int] | None = None,
        focal: Tensor | None = None,
    ) -> GeometryOutput:
        """Poses, intrinsics and metric depth of windows.

        Args:
            images: float32 [B, S, 3, H, W], RGB in [0, 1], sides multiples of the patch size.
            tokens: instead of images, features [B, S, L, N, C] from ``encode``.
            metric_depth: [B, S, H, W] from ``measure``; computed when not given.
            image_size: (H, W) of the frames behind ``tokens``; the configuration's when not given.
            focal: [B, S] focal lengths in image widths of known cameras, for a convolutional metric depth model.
        """
        if (images is None) == (tokens is None):
            raise ValueError("give either images or tokens")
        if images is not None:
            image_size = (images.shape[-2], images.shape[-1])
            tokens = self.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        assert tokens is not None
        shown = None if images is None else images.to(self.device)
        known = None if focal is None else focal.to(self.device)
        size = image_size or self.config.image_size
        return self.reconstruction(tokens.to(self.device), size, metric_depth, shown, known)

    @torch.inference_mode()
    def build_scene(
        self, geometry: GeometryOutput, T_scene_window: np.ndarray | None = None, batch: int = 0
    ) -> SceneTokens:
        """3D patch tokens of one window, pooled to ``config.patches.max_tokens`` (Eq. 3 and 4).

        Args:
            geometry: from ``reconstruct``.
            T_scene_window: [4, 4] pose of the window's first camera in the scene frame (z up, x along its horizontal
                view, origin at its centre); None assumes that camera level.
            batch: which window.
        """
        if T_scene_window is None:
            T_scene_window = LEVEL_FROM_OPTICAL
        T_scene_camera = scene_poses(geometry.camera_from_world[batch], T_scene_window)
        tokens = self.patches.lift(
            geometry.semantic_tokens[batch],
            geometry.depth[batch],
            geometry.intrinsics[batch],
            T_scene_camera,
            geometry.patch_size,
        )
        return self.patches.pool(tokens)

    @torch.inference_mode()
    def read_scene(self, scene: SceneTokens) -> ScenePrefix:
        """The language model's key/value cache of a scene, reusable for any number of questions.

        The language model reads the scene at its own, coarser grain; boxes are found in the tokens as they come.
        """
        coarse = self.patches.pool(scene, self.patches.config.language_tokens)
        return replace(self.language.read_scene(coarse), scene=scene)

    @torch.inference_mode()
    def ask(
        self,
        scene: GeometryOutput | SceneTokens | ScenePrefix,
        question: str,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        on_text: Callable[[str], bool] | None = None,
    ) -> Answer:
        """Answer a question in plain language.

        Args:
            scene: what to ask about.
            question: plain text; marks of the prompt format inside it are read as text.
            max_new_tokens: the longest reply.
            temperature: 0 for the most probable reply, above 0 draws.
            on_text: gets the text that each token completes, "" when none; returning False stops the reply.

        Raises:
            QuestionError: the question is empty or too long.
        """
        prefix = self._prefix(scene)
        reply = self.language.generate(prefix, question, max_new_tokens, temperature, on_text)
        boxes: tuple[Box3D, ...] = ()
        if reply.loc_state is not None:
            boxes = tuple(self.grounding.locate(prefix.scene, reply.loc_state[None], [""]))
        return Answer(
            text=reply.text,
            boxes=boxes,
            confidence=reply.confidence,
            token_count=reply.token_count,
            finished=reply.finished,
        )

    @torch.inference_mode()
    def locate(
        self,
        scene: GeometryOutput | SceneTokens | ScenePrefix,
        labels: Sequence[str],
        min_score: float = 0.3,
    ) -> list[Box3D]:
        """Boxes, in the scene frame, of everything that the labels or phrases name, best first per label."""
        prefix = self._prefix(scene)
        states = self.language.loc_states(prefix, labels)
        return self.grounding.locate(prefix.scene, states, labels, min_score)

    def _prefix(self, scene: GeometryOutput | SceneTokens | ScenePrefix) -> ScenePrefix:
        if isinstance(scene, GeometryOutput):
            scene = self.build_scene(scene)
        return self.read_scene(scene) if isinstance(scene, SceneTokens) else scene


def scene_poses(camera_from_world: Tensor, T_scene_window: np.ndarray) -> Tensor:
    """World-to-camera [S, 3, 4] and the window's pose in the scene to camera-to-scene poses [S, 4, 4]."""
    rotation, translation = camera_from_world[:, :, :3], camera_from_world[:, :, 3:]
    T_window_camera = torch.eye(4, dtype=rotation.dtype, device=rotation.device).repeat(len(rotation), 1, 1)
    T_window_camera[:, :3, :3] = rotation.mT
    T_window_camera[:, :3, 3:] = -rotation.mT @ translation
    return torch.as_tensor(T_scene_window, dtype=rotation.dtype, device=rotation.device) @ T_window_camera
