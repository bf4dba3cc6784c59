"""Images, stamps and camera_info as they should not be: one clear message each, and a node that goes on."""

import array
import re

import cv2
import numpy as np
import pytest
from node_process import wait_for
from robot import STEP_NS, camera_info, picture
from sensor_msgs.msg import CompressedImage

from vidllm_ros.node.conversions import ns_to_stamp

SECOND = 1_000_000_000


@pytest.fixture
def said(node, client, robot):
    """What the node logs from here on; afterwards it must still make windows."""
    robot.now_ns += 100 * SECOND
    client.reset()  # after the jump, which is nothing to report then; and what was reported before may be said again
    robot.windows(1)
    start = len(node.log)

    def said(pattern: str) -> str:
        found = wait_for(lambda: re.search(pattern, node.log[start:]), 20, lambda: f"{pattern} in {node.log[start:]}")
        return found.group(0)

    yield said
    assert robot.windows(1)
    assert "Traceback" not in node.log[start:]


def publish(robot, **changes) -> None:
    robot.now_ns += STEP_NS
    message = picture(robot.now_ns)
    for name, value in changes.items():
        setattr(message, name, value)
    robot.image.publish(message)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"encoding": "argyle7"}, r"unknown encoding 'argyle7'; known are rgb8, .*mono8"),
        ({"encoding": "16UC1"}, r"unknown encoding '16UC1'"),
        ({"width": 0}, r"the image is 0 x 48: it has no pixels"),
        ({"step": 100}, r"has step 100, but a row of 64 rgb8 pixels takes 192 bytes"),
        ({"height": 500}, r"has 9216 bytes, but 500 rows of step 192 take 96000"),
    ],
)
def test_a_bad_image_is_left_out_and_named(said, robot, changes, pattern):
    for _ in range(3):
        publish(robot, **changes)
        robot.send(1)
    said(pattern)
    window = robot.windows(1)[-1]
    assert dict(zip(window.drop_reasons, window.drop_counts, strict=True))["unreadable"] >= 3


def test_a_size_change_in_mid_window_starts_a_new_one(said, robot):
    robot.send(2)
    for _ in range(12):
        publish(robot, width=80, height=60, step=240, data=array.array("B", bytes(60 * 240)))
    said(r"the image size changed from 64 x 48 to 80 x 60")
    window = robot.windows(1)[-1]
    assert "size_changed" in window.drop_reasons


def test_a_single_image_of_another_size_changes_nothing(said, robot):
    robot.send(2)
    publish(robot, width=80, height=60, step=240, data=array.array("B", bytes(60 * 240)))
    before = len(robot.received["window"])
    windows = robot.windows(1)
    assert windows and before <= len(robot.received["window"])


def test_equal_and_reversed_stamps(said, robot):
    stamp = robot.send(1)[0]
    robot.image.publish(picture(stamp))
    said(rf"the frame at {stamp} ns repeats the stamp of the frame before")
    robot.image.publish(picture(stamp - 3 * STEP_NS))
    said(rf"the frame at {stamp - 3 * STEP_NS} ns is older than the frame before, at {stamp} ns")


def test_a_clock_that_jumps_back_and_on(said, robot):
    robot.send(2)
    robot.now_ns -= 50 * SECOND
    robot.send(6)
    said(r"the stamp went back by 49\.\d+ s, more than window.max_frame_gap")
    robot.now_ns += 500 * SECOND
    robot.send(6)
    said(r"no frame came for 500\.\d+ s, more than window.max_frame_gap")


def test_stamps_of_zero(said, robot):
    for _ in range(3):
        robot.image.publish(picture(0))
    reasons = robot.windows(1)[-1].drop_reasons
    assert "clock_jump" in reasons and "equal_stamp" in reasons


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        (
            {"k": [float("nan"), 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]},
            r"K = \[nan.*not finite; calibrate.*estimate",
        ),
        ({"k": [0.0] * 9}, r"camera_info is not calibrated \(K is zero\)"),
        ({"k": [-5.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]}, r"K = \[-5.*focal length that is not positive"),
        ({"d": [0.1], "distortion_model": "odd"}, r"distortion model 'odd' with 1 coefficients"),
    ],
)
def test_a_bad_camera_info_is_named_and_images_still_count(said, robot, changes, pattern):
    robot.info.publish(camera_info(robot.now_ns, **changes))
    said(pattern)
    assert robot.windows(1)


def test_a_camera_info_of_another_size_is_named(said, robot):
    robot.info.publish(camera_info(robot.now_ns, width=640, height=480))
    robot.send(3)
    said(r"camera_info is for 640 x 480 pixels but the image has 64 x 48")
    robot.info.publish(camera_info(robot.now_ns))
    wait_for(lambda: robot.windows(1)[-1].k[0] == pytest.approx(60.0), 30)
    assert robot.windows(1)[-1].k[2] == pytest.approx(31.5)
    robot.info.publish(camera_info(robot.now_ns, k=[0.0] * 9))


def test_compressed_images_good_and_damaged(reconfigure, said, robot, node):
    reconfigure(image_transport="compressed")
    start = len(node.log)
    wait_for(lambda: robot.compressed.get_subscription_count(), 20)
    before = len(robot.received["window"])

    def more() -> bool:
        robot.now_ns += STEP_NS
        rgb = np.frombuffer(picture(robot.now_ns).data, np.uint8).reshape(48, 64, 3)
        message = CompressedImage(format="png", data=array.array("B", cv2.imencode(".png", rgb)[1].tobytes()))
        message.header.stamp, message.header.frame_id = ns_to_stamp(robot.now_ns), "camera"
        robot.compressed.publish(message)
        message.data = array.array("B", b"damaged")
        robot.compressed.publish(message)
        return len(robot.received["window"]) > before

    wait_for(more, 30)
    assert re.search(r"compressed image \(7 bytes, format 'png'\) is damaged", node.log[start:])
    reconfigure(image_transport="raw")


def test_required_camera_info_keeps_images_out_until_it_comes(reconfigure, said, robot, node):
    reconfigure(use_camera_info="required")
    start, before = len(node.log), len(robot.received["window"])
    robot.send(60, pace=0.1)
    assert len(robot.received["window"]) == before
    assert re.search(r"images come on '/image' but no usable camera_info on '/camera_info'", node.log[start:])
    robot.info.publish(camera_info(robot.now_ns))
    window = robot.windows(1)[-1]
    assert dict(zip(window.drop_reasons, window.drop_counts, strict=True))["no_camera_info"] >= 50
    reconfigure(use_camera_info="auto")
