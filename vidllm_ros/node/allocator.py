"""Sets the C library's allocator for a process that runs for months and computes with large arrays."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGEST_REUSED = 32 << 20  # bytes; glibc takes no more
_MOST_KEPT = 128 << 20  # bytes that stay with the process when nothing needs them


def tune_allocator(arenas: int = 2) -> bool:
    """Lets threads share ``arenas`` arenas of glibc's malloc and keeps freed arrays; False with another C library.

    By default a new thread may get an arena of its own, eight per core, and a tensor that was freed in one of them is
    of no use to the others: resident memory then grows by some 80 MB when another thread first runs the network, and a
    node that is activated again and again passes through many of them.

    By default, too, arrays of some megabytes go back to the kernel when they are freed, and the next one is cleared
    page by page again; that was a fifth of the time of a window.

    To be called before threads are started.
    """
    settings = ((_M_ARENA_MAX, arenas), (_M_MMAP_THRESHOLD, _LARGEST_REUSED), (_M_TRIM_THRESHOLD, _MOST_KEPT))
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return all(bool(mallopt(*setting)) for setting in settings)
    except (AttributeError, OSError):
        return False
