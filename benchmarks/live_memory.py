"""Memory of a computation that need not run: the bytes of all tensors that are alive at once, on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made inside while they live.

    Attributes:
        now: bytes alive.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it returns; views, and what was there before, cost nothing."""
        self._meet((args, kwargs), cost=0)
        result = func(*args, **(kwargs or {}))
        self._meet(result, cost=1)
        return result

    def _meet(self, values: Any, cost: int) -> None:
        for leaf in tree_leaves(values):
            if not torch.is_tensor(leaf):
                continue
            storage = leaf.untyped_storage()
            key, size = storage._cdata, cost * storage.nbytes()
            if key not in self._known:
                self._known.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class FlashAttention(TorchFunctionMode):
    """Attention that keeps its output and one float32 per query and head, as fused GPU kernels do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace the attention; everything else is as it is."""
        if func is F.scaled_dot_product_attention:
            query = args[0]
            normalizers = query.new_empty(query.shape[:-1], dtype=torch.float32)
            output = torch.empty_like(query)
            del normalizers
            return output
        return func(*args, **(kwargs or {}))


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes that ``work`` holds at once beside what exists before it, its result included."""
    with torch.no_grad(), FlashAttention(), LiveBytes() as counter:
        result = work()
        del result
    return counter.peak
