"""Training in one call for each stage, and for each half that the bundled model was made in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.model.sizes import SIZES, nano
from vidllm_ros.model.vidllm import VidLLM
from vidllm_ros.training.data.stream import mixed_batches
from vidllm_ros.training.loop import LoopConfig, TrainingLoop
from vidllm_ros.training.losses.distillation import DistillationWeights
from vidllm_ros.training.losses.reasoning import ReasoningModel
from vidllm_ros.training.processes import is_main_process
from vidllm_ros.training.rooms import vocabulary_texts
from vidllm_ros.training.stages.distillation import DistillationModel, DistillationPhase
from vidllm_ros.training.stages.geometry import GeometryModel, GeometryPhase, GeometryPhaseConfig
from vidllm_ros.training.stages.joint import JointModel, JointPhase, JointPhaseConfig
from vidllm_ros.training.stages.reasoning import ReasoningPhase, ReasoningPhaseConfig
from vidllm_ros.training.stages.teachers import Teacher

VOCABULARY = 1000
TOKENIZER_TEXTS = 20_000


def new_network(size: str = "nano") -> VidLLM:
    """A network of a named size with random weights and a tokenizer for the language of rooms."""
    return VidLLM(SIZES[size](), room_tokenizer())


def room_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer for the language of rooms."""
    return train_tokenizer(vocabulary_texts(TOKENIZER_TEXTS), VOCABULARY)


def train_stage_1(
    model: VidLLM,
    teachers: tuple[Teacher, Teacher],
    data: Sequence[str],
    out: Path,
    config: LoopConfig,
    windows: int = 4,
    weights: DistillationWeights | None = None,
    workers: int = 1,
) -> None:
    """Distil two teachers into encoder and adapter; ``out/model`` is the checkpoint folder.

    Args:
        model: the student; everything but encoder and adapter stays as it is.
        teachers: geometry and semantics.
        data: sources as ``open_data`` reads them.
        out: folder for checkpoints and log.
        config: budget and learning rate.
        windows: windows per batch and process.
        weights: of the terms of Eq. 5.
        workers: processes that load data.
    """
    trained = DistillationModel(model.reconstruction, teachers, weights or DistillationWeights()).train()
    loop = TrainingLoop(trained, config, out)
    loop.resume()
    stream = mixed_batches(data, model.config, windows, first_room=loop.step_index * windows, workers=workers)
    _run(loop, DistillationPhase(trained, teachers, stream, model.config.patch_size))
    _save(model, loop, out)


def train_stage_2(
    model: VidLLM,
    data: Sequence[str],
    out: Path,
    config: LoopConfig,
    windows: int = 2,
    phase: JointPhaseConfig | None = None,
    workers: int = 1,
    lora: int | None = None,
) -> None:
    """Optimise all modules together (Eq. 8); arguments as in ``train_stage_1``.

    With ``lora`` the language model only learns an addition of that rank, which the written checkpoint contains.
    """
    if lora is not None:
        from vidllm_ros.training.stages.lora import add_lora

        add_lora(model.language, lora)
    trained = JointModel(model).train()
    loop = TrainingLoop(trained, config, out)
    loop.resume()
    stream = mixed_batches(data, model.config, windows, first_room=loop.step_index * windows, workers=workers)
    _run(loop, JointPhase(model, trained, phase or JointPhaseConfig(), stream))
    _save(model, loop, out, merge=lora is not None)


def _run(loop: TrainingLoop, phase: DistillationPhase | JointPhase | GeometryPhase | ReasoningPhase) -> None:
    loop.run(phase.step, lambda: phase.samples)


def _save(model: VidLLM, loop: TrainingLoop, out: Path, merge: bool = False) -> None:
    """Write the averaged weights as a checkpoint folder."""
    loop.finish()
    if is_main_process():
        if merge:
            from vidllm_ros.training.stages.lora import merge_lora

            merge_lora(model.language)
        model.eval().save_pretrained(out / "model", dtype="float16")


def train_geometry(out: Path, config: LoopConfig, phase: GeometryPhaseConfig | None = None) -> None:
    """Train encoder, adapter, backbone and heads; ``out/state.pt`` holds the result."""
    model = GeometryModel(ReconstructionModel(nano()))
    loop = TrainingLoop(model, config, out)
    loop.resume()
    _run(loop, GeometryPhase(model, phase or GeometryPhaseConfig(), loop))


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
    model = new_network()
    load_geometry(model, geometry)
    model.reconstruction.requires_grad_(False)
    trained = ReasoningModel(model)
    loop = TrainingLoop(trained, config, out)
    model.to(loop.accelerator.device)
    loop.resume()
    _run(loop, ReasoningPhase(model, trained, phase or ReasoningPhaseConfig(), loop))
    _save(model, loop, out)
