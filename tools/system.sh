#!/usr/bin/env bash
# Checks what pip cannot install: compilers, headers, shared libraries, ROS packages. Installs what is missing with apt
# when root or passwordless sudo allows it; otherwise prints the one line that does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/find_ros.sh

packages=()

need() { # PACKAGE COMMAND...: the package is needed when the command fails
  local package="$1"
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}

libraries="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)"
has_library() { grep -qF "$1 " <<<"$libraries"; }

need g++ command -v g++
need make command -v make
need cmake command -v cmake
need libgl1 has_library libGL.so.1
need libegl1 has_library libEGL.so.1
need libx11-6 has_library libX11.so.6
need libgomp1 has_library libgomp.so.1
need libusb-1.0-0 has_library libusb-1.0.so.0
need libudev1 has_library libudev.so.1
need libglib2.0-0 has_library libgthread-2.0.so.0

if python="$(tools/find_python.sh)"; then
  name="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  need "$name-venv" "$python" -c 'import ensurepip, venv'
  need "$name-dev" "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'
else
  packages+=(python3 python3-venv python3-dev)
fi

if [ -n "$VIDLLM_ROS_PREFIX" ]; then
  need python3-colcon-common-extensions command -v colcon
  for package in ament_cmake rosidl_default_generators rclpy common_interfaces tf2_msgs vision_msgs launch_ros; do
    need "ros-$VIDLLM_ROS_DISTRO-${package//_/-}" test -d "$VIDLLM_ROS_PREFIX/share/$package"
  done
elif [ "$(uname -m)" != x86_64 ]; then
  echo "error: there are no ROS 2 wheels for $(uname -m). Install ROS 2 (https://docs.ros.org) and run this again." >&2
  exit 1
fi

[ "${#packages[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  if ! sudo -n true 2>/dev/null; then
    echo "error: system packages are missing. Install them with: sudo apt-get install -y ${packages[*]}" >&2
    exit 1
  fi
fi
if ! command -v apt-get >/dev/null; then
  echo "error: system packages are missing (Debian names): ${packages[*]}" >&2
  exit 1
fi
echo "Installing system packages: ${packages[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
tools/find_python.sh >/dev/null || {
  echo "error: no CPython 3.10 to 3.13 found. Set PYTHON to one: make PYTHON=/path/to/python3.12" >&2
  exit 1
}
