"""The processes that train together. `accelerate launch` starts them; without it there is one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LaunchError(ValueError):
    """Processes that were launched in a way in which training cannot be done."""


def world_size() -> int:
    """Processes that train together."""
    return int(PartialState().num_processes)


def process_index() -> int:
    """This process's number among those that train together, from 0."""
    return int(PartialState().process_index)


def is_main_process() -> bool:
    """Whether this process writes logs and checkpoints."""
    return bool(PartialState().is_main_process)


def connect(cpu: bool = False) -> Accelerator:
    """Join the processes that were launched together, each with its own device.

    Args:
        cpu: stay on the CPU although there may be a GPU; counts in the first call of a process only.

    Raises:
        LaunchError: the launcher asked for what cannot be had.
    """
    # Not every batch reaches every parameter: a scene may have no boxes.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Told nothing, accelerate would leave processes on a machine without GPU unconnected.
    accelerator = Accelerator(cpu=cpu or not torch.accelerator.is_available(), kwargs_handlers=[unused])
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != wanted:
        raise LaunchError(f"{wanted} processes were launched, but {accelerator.num_processes} found each other")
    if accelerator.scaler is not None:
        raise LaunchError("mixed precision fp16 would need a scaled loss, which is not supported; launch with bf16")
    return accelerator


def in_float32(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keeps what it wraps out of mixed precision: bfloat16 holds 3 m to a centimetre, and poses are multiplied here."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return wrapped
