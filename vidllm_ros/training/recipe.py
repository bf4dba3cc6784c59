"""The bundled model's training in two calls."""

from __future__ import annotations

from pathlib import Path

import torch

from vidllm_ros.model.reconstruction import ReconstructionModel
from vidllm_ros.model.sizes import nano
from vidllm_ros.model.tokenizer import train_tokenizer
from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.training.geometry_phase import GeometryModel, GeometryPhase, GeometryPhaseConfig
from vidllm_ros.training.loop import LoopConfig, TrainingLoop, is_main_process
from vidllm_ros.training.reasoning_loss import ReasoningModel
from vidllm_ros.training.reasoning_phase import ReasoningPhase, ReasoningPhaseConfig
from vidllm_ros.training.rooms import vocabulary_texts

VOCABULARY = 1000
TOKENIZER_TEXTS = 20_000


def train_geometry(out: Path, config: LoopConfig, phase: GeometryPhaseConfig | None = None) -> None:
    """Train encoder, adapter, backbone and heads; ``out/state.pt`` holds the result."""
    model = GeometryModel(ReconstructionModel(nano()))
    loop = TrainingLoop(model, config, out)
    loop.resume()
    loop.run(GeometryPhase(model, phase or GeometryPhaseConfig(), loop).step)


def load_geometry(model: VidLLM, folder: Path) -> None:
    """Put the averaged weights of a geometry phase into ``model``."""
    state = torch.load(folder / "state.pt", weights_only=True)
    prefix = "reconstruction."
    values = {name.removeprefix(prefix): v for name, v in state["average"].items() if name.startswith(prefix)}
    missing, unexpected = model.reconstruction.load_state_dict(values, strict=False)
    if missing or unexpected:
        raise ValueError(f"{folder / 'state.pt'} does not fit the network: {[*missing, *unexpected][:3]}")


def train_reasoning(out: Path, geometry: Path, config: LoopConfig, phase: ReasoningPhaseConfig | None = None) -> None:
    """Train language and grounding on a finished geometry phase; ``out/model`` is the checkpoint folder."""
    model = VidLLM(nano(), train_tokenizer(vocabulary_texts(TOKENIZER_TEXTS), VOCABULARY))
    load_geometry(model, geometry)
    model.reconstruction.requires_grad_(False)
    trained = ReasoningModel(model)
    loop = TrainingLoop(trained, config, out)
    loop.resume()
    loop.run(ReasoningPhase(model, trained, phase or ReasoningPhaseConfig(), loop).step)
    if is_main_process():
        loop.average.copy_to(trained)
        model.save_pretrained(out / "model", dtype="float16")
