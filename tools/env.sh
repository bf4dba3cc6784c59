# Environment for working in this repository; source it from bash: `source tools/env.sh` (any working directory).
#
# With /opt/ros/$ROS_DISTRO (or the only distribution there) it sources that installation; without, it points at the ROS
# wheels in .venv. On top of both: the built workspace in install/, and the Fast DDS profile that large images need.

_vidllm_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

_vidllm_prepend() { # NAME DIRECTORY: put DIRECTORY first in the path-like variable NAME, once
  local rest=":${!1:-}:"
  rest="${rest//":$2:"/":"}"
  rest="${rest#:}"
  rest="${rest%:}"
  export "$1=$2${rest:+:$rest}"
}

# shellcheck source=/dev/null
source "$_vidllm_root/tools/find_ros.sh"

if [ -n "$VIDLLM_ROS_PREFIX" ]; then
  # setup.bash and colcon's files read unset variables.
  case $- in *u*) _vidllm_nounset=1; set +u ;; *) _vidllm_nounset= ;; esac
  source "$VIDLLM_ROS_PREFIX/setup.bash"
  [ -z "$_vidllm_nounset" ] || set -u
fi

if [ -d "$_vidllm_root/.venv" ]; then
  export VIRTUAL_ENV="$_vidllm_root/.venv"
  unset PYTHONHOME
  _vidllm_prepend PATH "$VIRTUAL_ENV/bin"
  if [ -z "$VIDLLM_ROS_PREFIX" ]; then
    export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO="$VIDLLM_ROS_DISTRO" RMW_IMPLEMENTATION=rmw_fastrtps_cpp
    _vidllm_prepend AMENT_PREFIX_PATH "$VIRTUAL_ENV"
    _vidllm_prepend CMAKE_PREFIX_PATH "$VIRTUAL_ENV"
    for _vidllm_folder in "$VIRTUAL_ENV"/lib/python3.*/site-packages/ros_*.libs "$VIRTUAL_ENV/lib"; do
      [ ! -d "$_vidllm_folder" ] || _vidllm_prepend LD_LIBRARY_PATH "$_vidllm_folder"
    done
    # The wheels start every interpreter twice to set LD_LIBRARY_PATH, and skip that when this is set. It is set above;
    # a guard inherited without its LD_LIBRARY_PATH would break every import of rclpy.
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  fi
fi

if [ -f "$_vidllm_root/install/local_setup.bash" ]; then
  case $- in *u*) _vidllm_nounset=1; set +u ;; *) _vidllm_nounset= ;; esac
  source "$_vidllm_root/install/local_setup.bash"
  [ -z "$_vidllm_nounset" ] || set -u
  _vidllm_prepend PATH "$_vidllm_root/scripts"
fi

# Packages around us register pytest plugins that current pytest refuses (launch_testing) or warns about.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTEST_PLUGINS=pytest_timeout,xdist.plugin,_hypothesis_pytestplugin

# Fast DDS loses best-effort images larger than its default shared-memory segment of 512 KiB. A profile of the user's own
# wins. Humble reads the second name; later distributions read both and complain about that one.
if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  if [ "${ROS_DISTRO:-}" = humble ]; then
    export FASTRTPS_DEFAULT_PROFILES_FILE="$_vidllm_root/config/fastdds.xml"
  else
    export FASTDDS_DEFAULT_PROFILES_FILE="$_vidllm_root/config/fastdds.xml"
  fi
fi

unset -f _vidllm_prepend
unset _vidllm_root _vidllm_folder _vidllm_nounset
