# Sourced: decides which ROS 2 is used. ROS_ROOT (default /opt/ros) is where installed distributions are looked for.
#   VIDLLM_ROS_PREFIX  the installation, for example /opt/ros/jazzy; empty when ROS comes from wheels in .venv
#   VIDLLM_ROS_DISTRO  jazzy, kilted, ...

_vidllm_ros_root="${ROS_ROOT:-/opt/ros}"
VIDLLM_ROS_PREFIX=
VIDLLM_ROS_DISTRO="${ROS_DISTRO:-}"
if [ -n "$VIDLLM_ROS_DISTRO" ]; then
  [ ! -f "$_vidllm_ros_root/$VIDLLM_ROS_DISTRO/setup.bash" ] || VIDLLM_ROS_PREFIX="$_vidllm_ros_root/$VIDLLM_ROS_DISTRO"
else
  for _vidllm_setup in "$_vidllm_ros_root"/*/setup.bash; do
    [ ! -f "$_vidllm_setup" ] || VIDLLM_ROS_PREFIX="$(dirname "$_vidllm_setup")"
  done
  VIDLLM_ROS_DISTRO="$(basename "${VIDLLM_ROS_PREFIX:-kilted}")"
fi
unset _vidllm_ros_root _vidllm_setup
