"""Whole tensors out of those that FSDP shares out among the processes, and back; others stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map


def whole(tree: Any) -> Any:
    """A nested state in which every shared-out tensor is whole, on the CPU. All processes must call it together."""
    return tree_map(lambda value: value.full_tensor().cpu() if isinstance(value, DTensor) else value, tree)


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, placed and shared out like ``own``."""
    if isinstance(own, DTensor):
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
    return value.to(own.device)


def optimizer_state_like(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, with what belongs to a shared-out parameter shared out alike."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    shared = {
        index: {
            name: like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": shared}


def plain_name(name: str) -> str:
    """A parameter's name without what activation checkpointing puts into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def unshard(model: nn.Module, keep: bool = True) -> None:
    """Make every shared-out parameter of a trained model whole, on the CPU, to save it. All processes call it together.

    Args:
        model: not to be run any more.
        keep: False in processes that save nothing: their parameters become empty.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                if id(parameter) not in made:
                    value = whole(parameter.detach())
                    made[id(parameter)] = nn.Parameter(value if keep else value.new_empty(0), requires_grad=False)
                module._parameters[name] = made[id(parameter)]
