"""Starts the node; `ros2 launch vidllm_ros vidllm.launch.py -s` lists what can be given.

A value on the command line wins over the parameter file, and that over the node's own default. The node configures and
activates itself, so that it comes up the same way on every distribution.
"""

import os
import tempfile

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchDescription

# Name, default, allowed values (None: any), description.
ARGUMENTS = [
    ("namespace", "", None, "Namespace of the node, for several robots or cameras: /NAMESPACE/vidllm/query."),
    ("params_file", "", None, "Parameter file; empty takes config/vidllm.yaml of this package."),
    ("image_topic", "/camera/color/image_raw", None, "Camera image; camera_info is looked for beside it."),
    ("camera_info_topic", "", None, "camera_info, where it is not beside the image."),
    ("image_transport", "", ["", "raw", "compressed"], "compressed reads IMAGE_TOPIC/compressed."),
    ("checkpoint", "", None, "Checkpoint folder, or nano for the bundled one; empty: as the parameter file says."),
    ("device", "", None, "cpu, cuda, cuda:N or auto; empty: as the parameter file says."),
    ("autostart", "", ["", "true", "false"], "false leaves the node unconfigured; empty: as the parameter file says."),
    ("standalone", "false", ["true", "false"], "Nothing else knows the camera: broadcast TF from map to the camera."),
    ("use_sim_time", "false", ["true", "false"], "Take the time from /clock."),
    ("bag", "", None, "A bag to play (ros2 bag play), with /clock when use_sim_time is true."),
    ("rviz", "false", ["true", "false"], "Show points, path, cameras and boxes in RViz."),
    ("respawn", "false", ["true", "false"], "Start the node again when its process ends."),
    ("log_level", "info", ["debug", "info", "warn", "error", "fatal"], "Smallest severity that is logged."),
]

# Launch arguments that are parameters of the node by the same name.
PARAMETERS = ["image_transport", "checkpoint", "device", "autostart"]


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            name, default_value=default, description=description, **({"choices": choices} if choices else {})
        )
        for name, default, choices, description in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context):
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    share = get_package_share_directory("vidllm_ros")
    actions = []
    if needs_fast_dds_profile():
        # Without it Fast DDS loses images above 0.5 MB. The camera's process needs it too.
        prefix = "FASTRTPS" if os.environ.get("ROS_DISTRO") == "humble" else "FASTDDS"
        profile = os.path.join(share, "config", "fastdds.xml")
        actions.append(SetEnvironmentVariable(f"{prefix}_DEFAULT_PROFILES_FILE", profile))
    sim_time = given["use_sim_time"] == "true"
    actions.append(
        LifecycleNode(
            package="vidllm_ros",
            executable="vidllm_node",
            name="vidllm",
            namespace=given["namespace"],
            parameters=[given["params_file"] or os.path.join(share, "config", "vidllm.yaml"), parameters(given)],
            remappings=remappings(given),
            arguments=["--ros-args", "--log-level", f"{logger(given['namespace'])}:={given['log_level']}"],
            respawn=given["respawn"] == "true",
            respawn_delay=2.0,
            output="screen",
            emulate_tty=True,
        )
    )
    if given["bag"]:
        clock = ["--clock"] if sim_time else []
        actions.append(ExecuteProcess(cmd=["ros2", "bag", "play", given["bag"], *clock], output="screen"))
    if given["rviz"] == "true":
        config = rviz_config(os.path.join(share, "config", "vidllm.rviz"), given["namespace"])
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", config],
                parameters=[{"use_sim_time": sim_time}],
                output="screen",
            )
        )
    return actions


def parameters(given):
    """What the command line says, in the node's types."""
    values = {name: given[name] for name in PARAMETERS if given[name]}
    if "autostart" in values:
        values["autostart"] = values["autostart"] == "true"
    if given["standalone"] == "true":
        values["publish_tf"] = "map_to_camera"
    return {**values, "use_sim_time": given["use_sim_time"] == "true"}


def logger(namespace):
    return ".".join([*filter(None, namespace.split("/")), "vidllm"])


def remappings(given):
    pairs = [("image", given["image_topic"])]
    return [*pairs, ("camera_info", given["camera_info_topic"])] if given["camera_info_topic"] else pairs


def needs_fast_dds_profile():
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    middleware = os.environ.get("RMW_IMPLEMENTATION", "") or "rmw_fastrtps_cpp"
    return middleware.startswith("rmw_fastrtps") and not any(os.environ.get(name) for name in names)


def rviz_config(path, namespace):
    """The RViz configuration for the node's namespace."""
    if not namespace.strip("/"):
        return path
    with open(path) as file:
        text = file.read().replace("/vidllm/", f"/{namespace.strip('/')}/vidllm/")
    with tempfile.NamedTemporaryFile("w", prefix="vidllm_", suffix=".rviz", delete=False) as file:
        file.write(text)
    return file.name
