#!/usr/bin/env bash
# Prints the interpreter that .venv is made from: $PYTHON, else the system's own with an installed ROS (its modules are
# compiled for that one), else the first CPython 3.10 to 3.13. Fails silently when there is none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/find_ros.sh"

candidates=(python3 python3.13 python3.12 python3.11 python3.10)
[ -z "$VIDLLM_ROS_PREFIX" ] || candidates=(/usr/bin/python3)
[ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
for candidate in "${candidates[@]}"; do
  # The base interpreter: a virtual environment must not be made from another one.
  "$candidate" - 2>/dev/null <<'PYTHON' && exit 0
import sys

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))
PYTHON
done
exit 1
