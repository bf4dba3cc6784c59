#!/usr/bin/env bash
# colcon build of this package into build/ and install/, when a file that takes part in it has changed. With
# --symlink-install an edited Python file needs no build; a new one does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/find_ros.sh

key="$(
  {
    echo "$PWD $VIDLLM_ROS_PREFIX"
    cat .venv/.vidllm-setup 2>/dev/null || true
    cat CMakeLists.txt package.xml msg/* srv/* action/*
    find vidllm_ros scripts launch config -type f -not -name '*.pyc' | LC_ALL=C sort
  } | sha256sum
)"
stamp=install/.vidllm-build
if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
  exit 0
fi

if [ -f "$stamp" ] && [ "$(cat install/.vidllm-ros 2>/dev/null)" != "$VIDLLM_ROS_PREFIX" ]; then
  rm -rf build install # another ROS: nothing compiled against the last one can stay
fi
source tools/env.sh
python="$PWD/.venv/bin/python"
[ -z "$VIDLLM_ROS_PREFIX" ] || python=/usr/bin/python3
colcon build --symlink-install --packages-select vidllm_ros --event-handlers console_cohesion- \
  --cmake-args "-DPython3_EXECUTABLE=$python" --no-warn-unused-cli
# A deleted source leaves its link behind.
find install -xtype l -delete
echo "$VIDLLM_ROS_PREFIX" >install/.vidllm-ros
echo "$key" >"$stamp"
