"""A node to which no images come says why, and what to do."""

import re
import subprocess
import sys

import pytest
from node_process import wait_for
from places import SUPPORT
from rclpy.qos import QoSProfile
from robot import set_parameters
from std_msgs.msg import String

from vidllm_ros.replay.client import VidllmClient


@pytest.fixture(scope="module")
def lonely(second, ros_domain):
    """The second node, active, with nobody who publishes images for it."""
    with VidllmClient("/robot1/vidllm", name="lonely_client") as client:
        if client.state() == "unconfigured":
            assert client.change_state("configure")
        assert client.change_state("activate")
        yield second
        assert client.change_state("deactivate")


def said(process, pattern: str, start: int = 0) -> None:
    wait_for(lambda: re.search(pattern, process.log[start:]), 40, lambda: f"{pattern} in {process.log[start:]}")


def test_nobody_publishes_and_what_there_is_instead(lonely, robot):
    said(lonely, r"no image came on '/robot1/image' for \d+ s: nobody publishes it; image topics are .*/image.*: remap")


def test_another_type(lonely, robot):
    publisher = robot.node.create_publisher(String, "/robot1/image", QoSProfile(depth=1))
    try:
        said(lonely, r"'/robot1/image' .*it carries std_msgs/msg/String, but sensor_msgs/msg/Image is expected")
    finally:
        robot.node.destroy_publisher(publisher)


def test_large_images_are_lost_without_a_profile_and_the_cure_is_named(lonely, start_node, tmp_path):
    import os

    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DEFAULT_PROFILES_FILE")}
    script = SUPPORT / "large_camera.py"
    start = len(lonely.log)
    camera = subprocess.Popen([sys.executable, str(script), "/robot1"], env=environment)
    try:
        said(
            lonely,
            r"(images on '/robot1/image' are lost on the way|no image came on '/robot1/image' .*its images get lost).*"
            r"start the camera and this node with FASTDDS_DEFAULT_PROFILES_FILE=\S+/config/fastdds.xml",
            start,
        )
    finally:
        camera.terminate()
        camera.wait(20)


def test_incompatible_quality_of_service_is_named_with_its_publisher(reconfigure, node, robot):
    reconfigure(image_qos="default")
    start = len(node.log)
    said(
        node,
        r"no image came on '/image' .*incompatible quality of service, this node asks for reliable, volatile: 'robot' "
        r"offers best effort, volatile .*Set image_qos: sensor_data",
        start,
    )


def test_it_says_so_when_images_come_again(client, node, robot):
    start = len(node.log)
    said(node, r"no image came on '/image' for \d+ s from 'robot'", start)
    robot.windows(1)
    said(node, r"images come in again on '/image'", start)


def test_sim_time_without_a_clock(client, node):
    assert set_parameters(client, {"use_sim_time": True})["use_sim_time"].successful
    try:
        said(node, r"use_sim_time is true but nobody publishes /clock")
    finally:
        set_parameters(client, {"use_sim_time": False})


def test_an_inactive_node_says_how_to_activate_it(client, node):
    assert client.change_state("deactivate")
    said(node, r"the node is inactive and processes nothing: 'ros2 lifecycle set /vidllm activate'")
    assert client.change_state("activate")


def test_camera_info_is_looked_for_beside_the_image(start_node):
    import rclpy
    from rclpy.node import Node

    from vidllm_ros.node.input.camera_input import resolve_topics

    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-r", "image:=/cam/color/image_raw", "-r", "__ns:=/bot"], context=context)
    node = Node("n", context=context)
    assert resolve_topics(node, "raw") == ("/cam/color/image_raw", "/cam/color/camera_info")
    assert resolve_topics(node, "compressed") == ("/cam/color/image_raw/compressed", "/cam/color/camera_info")
    node.destroy_node()
    rclpy.shutdown(context=context)
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-r", "__ns:=/bot", "-r", "camera_info:=/calibration"], context=context)
    node = Node("n", context=context)
    assert resolve_topics(node, "raw") == ("/bot/image", "/calibration")
    node.destroy_node()
    rclpy.shutdown(context=context)
