"""Point the exported CMake files of the ROS wheels at this machine's Python and NumPy headers.

About twenty of them name the include folders of the machine the wheels were built on, and CMake refuses a target whose
include folder does not exist. Run with the interpreter of the environment the wheels are in; a second run is harmless.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

PYTHON_INCLUDE = re.compile(r"/opt/python/[^\";]*?/include/python3\.\d+")
NUMPY_INCLUDE = re.compile(r"/opt/python/[^\";]*?/site-packages/numpy/_core/include")


def main() -> int:
    """Rewrite the files and say how many changed."""
    python_include = sysconfig.get_path("include")
    if not Path(python_include, "Python.h").is_file():
        print(f"error: {python_include}/Python.h is missing: install python3-dev", file=sys.stderr)
        return 1
    changed = 0
    for file in Path(sys.prefix, "share").glob("*/cmake/*.cmake"):
        text = file.read_text(encoding="utf-8")
        fixed = NUMPY_INCLUDE.sub(numpy.get_include(), PYTHON_INCLUDE.sub(python_include, text))
        if fixed != text:
            # Written beside and renamed: pip may have hard-linked the file into its cache.
            temporary = file.with_suffix(".tmp")
            temporary.write_text(fixed, encoding="utf-8")
            temporary.replace(file)
            changed += 1
    print(f"{changed} CMake files now name {python_include}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
