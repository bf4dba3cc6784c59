"""Optimiser, schedule and weight averaging."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidllm_ros.training.sharding import like, optimizer_state_like, plain_name


def orthogonalize(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by Newton-Schulz iterations in the matrix's own precision."""
    a, b, c = 3.4445, -4.775, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates, scaled to AdamW's typical step.

    ``torch.optim.Muon`` is the same rule but fixes the iteration to bfloat16, which takes a hundred times longer on a
    CPU without bfloat16 arithmetic; here matrices of one shape are also orthogonalised together.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, parameters in by_shape.items():
                updates = torch.stack([self._nesterov(p, group["momentum"]) for p in parameters])
                step = group["lr"] * 0.2 * max(shape) ** 0.5
                for p, update in zip(parameters, orthogonalize(updates), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=step)

    def _nesterov(self, p: nn.Parameter, momentum: float) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        buffer = state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum)


class MuonAdamW:
    """Muon for the matrices inside transformer blocks, AdamW for everything else, behind one face.

    Muon orthogonalises each update, which small networks learn from in fewer samples; embeddings, convolutions, norms
    and heads stay with AdamW (0.9, 0.999).
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, use_muon: bool = True) -> None:
        matrices: list[nn.Parameter] = []
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.ndim == 2 and use_muon and is_block_matrix(name):
                matrices.append(parameter)
            else:
                decay = weight_decay if parameter.ndim >= 2 else 0.0
                groups.setdefault((decay, lr_scale(name)), []).append(parameter)
        adamw = [{"params": p, "weight_decay": d, "lr_scale": scale} for (d, scale), p in groups.items()]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adamw, lr=lr, betas=(0.9, 0.999))]
        if matrices:
            self.optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay))

    def step(self, lr: float) -> None:
        """One update at learning rate ``lr``; gradients are cleared."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, object]:
        """State of all parts."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``."""
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state_like(values, optimizer))


def is_block_matrix(name: str) -> bool:
    """Whether a 2-D parameter is a hidden matrix of a transformer block."""
    parts = (".layer.", "_blocks.", "phi_", ".exchange.", ".layers.")
    return any(part in name for part in parts)


def lr_scale(name: str) -> float:
    """A parameter's learning rate relative to the others.

    The camera head adds up the corrections of all its iterations, so a step that suits other parts makes every pose and
    field of view swing together; measured, it then learns nothing about motion.
    """
    return 0.2 if "camera_head." in name else 1.0


def warmup_cosine(progress: float, peak: float, warmup: float = 0.03, floor: float = 0.02) -> float:
    """Learning rate at ``progress`` in [0, 1] of the budget."""
    if progress < warmup:
        return peak * max(progress, 1e-4) / warmup
    t = min(1.0, (progress - warmup) / (1 - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * t)))


class WeightAverage:
    """Exponential moving average of a model's parameters; what is shipped.

    Frozen parameters are held as they are, without a copy.
    """

    def __init__(self, model: nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {
            plain_name(name): p.detach().clone() if p.requires_grad else p.detach()
            for name, p in model.named_parameters()
        }

    def load(self, values: dict[str, Tensor], updates: int) -> None:
        """Continue from whole ``values``."""
        for name, own in self.values.items():
            self.values[name] = like(values[name], own)
        self.updates = updates

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Blend in the current parameters; the decay starts small so that the first values fade quickly."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.values[plain_name(name)].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averaged values into ``model``."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.values[plain_name(name)])
