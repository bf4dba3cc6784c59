"""Keeps the C library's allocator from hoarding memory in a process that runs for months."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of glibc's malloc.h


def limit_arenas(count: int = 2) -> bool:
    """Lets all threads share ``count`` arenas of glibc's malloc; False where the C library is another one.

    By default a new thread may get an arena of its own, eight per core, and a tensor that was freed in one of them is
    of no use to the others: resident memory then grows by some 80 MB when another thread first runs the network, and a
    node that is activated again and again passes through many of them. To be called before threads are started.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count))
    except (AttributeError, OSError):
        return False
