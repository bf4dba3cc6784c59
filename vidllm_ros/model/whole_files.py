"""Files that a kill at any moment leaves either old or new, never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; at the end, unless writing failed, it becomes ``path``. For one writer."""
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    os.replace(partial, path)
