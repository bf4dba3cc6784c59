"""What test_processes.py runs in each process that `accelerate launch` starts: a few steps on a tiny network.

several_processes.py CHECKPOINT OUT
"""

import itertools
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin
from miniature import reconstruction_model
from posed_windows import random_sample

from vidllm_ros.training import loop as loop_module
from vidllm_ros.training.loop import DivergenceError, LoopConfig, TrainingLoop
from vidllm_ros.training.losses.distillation import DistillationWeights
from vidllm_ros.training.processes import process_index, world_size
from vidllm_ros.training.stages.distillation import DistillationModel, DistillationPhase
from vidllm_ros.training.stages.teachers import CheckpointTeacher

STEPS = 6


def fsdp() -> Accelerator:
    """FSDP as config/accelerate_fsdp.yaml asks for it, checkpointed activations included, on the CPU.

    accelerate offers FSDP on accelerators only; told that this is one, it does on the CPU what it would do there.
    """
    AcceleratorState._reset_state()
    PartialState().distributed_type = DistributedType.MULTI_GPU
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Dinov2WithRegistersLayer"],
        activation_checkpointing=True,
        cpu_ram_efficient_loading=False,
    )
    return Accelerator(fsdp_plugin=plugin)


def training(checkpoint: Path, out: Path, muon: bool, accelerator: Accelerator | None = None):
    """Stage 1 on two windows a step, shared out among the processes; the step to run and its loop."""
    torch.manual_seed(0)
    teachers = (CheckpointTeacher(checkpoint), CheckpointTeacher(checkpoint, "semantic"))
    student = reconstruction_model(seed=9).train()
    model = DistillationModel(student, teachers, DistillationWeights())
    # Every look at the clock takes a second, so a step does in each process.
    ticks = itertools.count()
    loop_module.time = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    loop = TrainingLoop(model, LoopConfig(minutes=STEPS / 60, lr=1e-2, muon=muon, log_every=1), out, accelerator)
    loop.resume()

    def step(index: int):
        samples = [random_sample(seed=2 * index + i) for i in range(2)][process_index() :: world_size()]
        return DistillationPhase(model, teachers, iter([samples]), student.config.patch_size).step(index)

    return loop, step


def averaged(checkpoint: Path, out: Path) -> None:
    """Each process has all of the network, and gradients are averaged."""
    loop, step = training(checkpoint, out, muon=True)
    loop.run(step)


def broken(checkpoint: Path, out: Path) -> None:
    """The loss of the second process diverges in the third step."""
    loop, step = training(checkpoint, out, muon=True)

    def nan(index: int):
        loss, values, frames = step(index)
        return (loss * float("nan") if (index, process_index()) == (2, 1) else loss), values, frames

    try:
        loop.run(nan, lambda: [random_sample(seed=process_index())])
    except DivergenceError as error:
        (out / f"stopped_{process_index()}.txt").write_text(str(error))


def sharded(checkpoint: Path, out: Path) -> None:
    """Parameters and optimiser state are shared out; the second half resumes from the first's checkpoint."""
    accelerator = fsdp()
    loop, step = training(checkpoint, out, muon=False, accelerator=accelerator)

    def killed(index: int):
        if index == STEPS // 2:
            raise KeyboardInterrupt
        return step(index)

    with suppress(KeyboardInterrupt):
        loop.run(killed)
    loop.save()
    accelerator.free_memory()
    loop, step = training(checkpoint, out, muon=False, accelerator=accelerator)
    loop.run(step)
    shared = sum(hasattr(p, "full_tensor") for p in loop.model.parameters())
    loop.finish()
    if accelerator.is_main_process:
        torch.save({"shared": shared, "model": loop.model.state_dict()}, out / "finished.pt")


def main(checkpoint: Path, out: Path) -> None:
    torch.set_num_threads(1)
    for scenario in (averaged, broken, sharded):
        scenario(checkpoint, out / scenario.__name__)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
