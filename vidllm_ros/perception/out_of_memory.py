"""When an allocator has no more to give: telling it from other failures, freeing what can be, asking for less."""

from __future__ import annotations

import gc

import torch

from vidllm_ros.perception.types import Window

_FEWEST = 2  # frames in the smallest window that is still worth a try


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, on the CPU or a GPU, had no more to give."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def free_memory() -> None:
    """Gives back what nobody refers to any more. Call it outside of the ``except`` that still holds the tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(window: Window) -> tuple[Window, list[int]] | None:
    """A window with every second frame, and which those are; None when too few would be left.

    Both the newest frame and the newest shared one stay, and one in two before each, so that windows that are halved
    one after the other still share frames.
    """
    count, shared = len(window.frames), window.shared
    if count // 2 < _FEWEST:
        return None
    old, fresh = list(range(shared - 1, -1, -2)), list(range(count - 1, shared - 1, -2))
    if len(old) + len(fresh) > count // 2:  # one more than half, because both numbers were odd
        (old if len(old) > 1 else fresh).pop()
    indices = sorted(old + fresh)
    frames = tuple(window.frames[index] for index in indices)
    return Window(frames, shared=sum(index < window.shared for index in indices)), indices
