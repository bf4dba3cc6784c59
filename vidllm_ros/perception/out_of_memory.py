"""When an allocator has no more to give: telling it from other failures, freeing what can be, asking for less."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from types import TracebackType

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


class Attempt:
    """One try at a window, as a context that takes the want of memory for an answer when a smaller try is left.

    Attributes:
        window: the frames of this try.
        indices: which of the whole window's they are.
        left_out: the frames of the whole window that are not among them.
        warnings: one sentence when there are any.
        failed: whether the memory did not suffice.
    """

    def __init__(self, whole: Window, window: Window, indices: list[int], last: bool) -> None:
        self.window = window
        self.indices = indices
        kept = set(window.frames)
        self.left_out = tuple(frame for frame in whole.frames if frame not in kept)
        self.warnings: tuple[str, ...] = ()
        if self.left_out:
            self.warnings = (
                f"the memory did not suffice for {len(whole.frames)} frames, so {len(indices)} of them were used; "
                f"lower window.size",
            )
        self.failed = False
        self._last = last

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.failed = error is not None and not self._last and is_out_of_memory(error)
        return self.failed


def attempts(window: Window, free: Callable[[], None]) -> Iterator[Attempt]:
    """The whole window, and half of its frames when memory did not suffice for all.

        for attempt in attempts(window, free):
            with attempt:
                ...  # with attempt.window

    Args:
        window: its frames.
        free: makes room before the second, smaller try.
    """
    smaller = halved(window)
    whole = Attempt(window, window, list(range(len(window.frames))), last=smaller is None)
    yield whole
    if whole.failed and smaller is not None:
        free()  # here the tensors of the first try are no longer held by its exception
        yield Attempt(window, *smaller, last=True)
