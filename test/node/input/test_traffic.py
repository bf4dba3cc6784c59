"""Every image is accounted for, whatever comes; and streams that break, loop and change."""

import array
import random
import re

import pytest
from node_process import wait_for
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from robot import STEP_NS, TOPICS, camera_info, picture, set_parameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from vidllm_ros.node.conversions import ns_to_stamp

SECOND = 1_000_000_000
RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def in_window(window) -> int:
    return window.used_frames + window.waiting_frames + sum(window.drop_counts)


def dropped(window, reason: str) -> int:
    return dict(zip(window.drop_reasons, window.drop_counts, strict=True)).get(reason, 0)


def in_diagnostics(robot) -> dict[str, int]:
    """The account of the newest diagnostics; {} when the node is not subscribed."""
    if not robot.received["diagnostics"]:
        return {}
    statuses = {status.name: status for status in robot.received["diagnostics"][-1].status}
    values = {pair.key: pair.value for pair in statuses["vidllm: input"].values}
    return {key: int(value) for key, value in values.items() if key.startswith("frames ")}


def random_image(source: random.Random, stamp_ns: int) -> Image:
    width, height = source.choice([(64, 48)] * 12 + [(80, 60), (8, 8)])
    image = picture(stamp_ns, width, height, source.choice(["camera"] * 12 + ["other"]))
    fault = source.random()
    if fault < 0.03:
        image.encoding = source.choice(["argyle7", "", "16UC1", "bayer_rggb8", "yuyv"])
    elif fault < 0.06:
        image.step = source.randrange(0, 400)
    elif fault < 0.09:
        image.height = source.choice([0, 1, 500, 2**31])
    elif fault < 0.12:
        image.data = array.array("B", source.randbytes(source.randrange(0, 300)))
    return image


@pytest.mark.parametrize("seed", [1, 2])
def test_the_account_of_random_traffic_is_exact(reconfigure, client, robot, node, seed):
    """Over a reliable connection, so that the number that was sent is known; resets and pauses in between."""
    source = random.Random(seed)
    reconfigure(image_qos="default", image_qos_depth=1000)
    publisher = robot.node.create_publisher(Image, "/image", RELIABLE)
    start, sent, stamp = len(node.log), 0, robot.now_ns + 1000 * SECOND
    robot.received["window"].clear()
    try:
        wait_for(lambda: publisher.get_subscription_count() == 1, 30)
        # What is on /diagnostics may still be the account of before.
        wait_for(lambda: in_diagnostics(robot).get("frames received") == 0, 30, lambda: str(in_diagnostics(robot)))

        def accepted() -> int:
            nonlocal sent, stamp
            stamp += STEP_NS
            publisher.publish(picture(stamp))
            sent += 1
            return in_diagnostics(robot).get("frames used", 0) + in_diagnostics(robot).get("frames waiting", 0)

        # For its first second the node leaves images out, in case camera_info is still to come.
        wait_for(accepted, 30)
        for _ in range(250):
            stamp += source.choice([STEP_NS] * 30 + [0, -STEP_NS, 3 * SECOND, -100 * SECOND])
            publisher.publish(random_image(source, stamp))
            sent += 1
            event = source.random()
            if event < 0.01:
                client.reset()
            elif event < 0.02:
                client.enable(False)
            elif event < 0.04:
                client.enable(True)
            elif event < 0.05:
                robot.info.publish(camera_info(stamp, k=[source.uniform(-100, 100) for _ in range(9)]))
        client.enable(True)
        wait_for(lambda: in_diagnostics(robot).get("frames received") == sent, 60, lambda: str(in_diagnostics(robot)))
    finally:
        robot.node.destroy_publisher(publisher)
        client.enable(True)
    robot.now_ns = max(robot.now_ns, stamp)
    account = in_diagnostics(robot)
    assert account.pop("frames received") == sent == sum(account.values())
    assert len([key for key in account if key.startswith("frames dropped")]) >= 5, account
    assert robot.received["window"]
    assert all(window.received_frames == in_window(window) for window in robot.received["window"])
    assert "Traceback" not in node.log[start:]


def test_a_camera_of_another_name_starts_a_new_stream(client, robot, node):
    client.reset()
    robot.now_ns += 100 * SECOND
    robot.windows(1)
    start = len(node.log)
    words = r"the frame_id changed from 'camera' to 'other_camera'; the frame is left out, the next one decides"
    wait_for(lambda: robot.send(1, frame_id="other_camera") and re.search(words, node.log[start:]), 30)
    before = len(robot.received["window"])
    wait_for(lambda: robot.send(1, frame_id="other_camera") and len(robot.received["window"]) > before + 1, 30)
    window = robot.received["window"][-1]
    assert "camera_changed" in window.drop_reasons and window.received_frames == in_window(window)


def test_a_camera_that_stops_and_returns_starts_a_new_stream(client, robot, node):
    client.reset()
    robot.now_ns += 100 * SECOND
    before = dropped(robot.windows(1)[-1], "gap")
    robot.send(3)
    robot.now_ns += 30 * SECOND
    window = robot.windows(2)[-1]
    assert dropped(window, "gap") > before  # what waited for a window that cannot be completed any more
    assert window.received_frames == in_window(window)


def test_a_clock_that_loops(client, robot, node):
    """A bag of two seconds played in a loop with --clock: time and stamps jump back together, and windows go on."""
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    start = len(node.log)
    assert set_parameters(client, {"use_sim_time": True})["use_sim_time"].successful
    beginning = robot.now_ns + 1000 * SECOND
    try:
        for _ in range(3):
            robot.now_ns = beginning
            before = len(robot.received["window"])

            def play(before=before) -> bool:
                clock.publish(Clock(clock=ns_to_stamp(robot.now_ns + STEP_NS)))
                robot.send(1)
                # A jump by less than window.max_frame_gap, one second here, is a few stamps out of order.
                return robot.now_ns > beginning + 2 * SECOND and len(robot.received["window"]) >= before + 2

            wait_for(play, 60, lambda: node.log[start:])
            window = robot.received["window"][-1]
            assert -5 < window.latency < 60 and window.received_frames == in_window(window)
        assert "clock_jump" in window.drop_reasons
    finally:
        set_parameters(client, {"use_sim_time": False})
        robot.node.destroy_publisher(clock)
        robot.now_ns += 1000 * SECOND
    assert "Traceback" not in node.log[start:]


QUALITIES = [
    QoSProfile(depth=depth, reliability=reliability, durability=durability)
    for depth in (1, 100)
    for reliability in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
    for durability in (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
]
LATCHED = ("map", "path", "markers")


def test_subscribers_of_every_quality_of_service(client, robot, node):
    """Whoever may match gets messages; nobody costs another anything."""
    received: dict[tuple[str, int], int] = {}
    subscriptions = []
    for topic, (kind, _) in TOPICS.items():
        for index, quality in enumerate(QUALITIES):

            def count(_, key=(topic, index)) -> None:
                received[key] = received.get(key, 0) + 1

            subscriptions.append(robot.node.create_subscription(kind, f"/vidllm/{topic}", count, quality))
    expected = {
        (topic, index)
        for topic in TOPICS
        for index, quality in enumerate(QUALITIES)
        if topic in LATCHED or quality.durability == DurabilityPolicy.VOLATILE
    }
    try:
        robot.now_ns += 100 * SECOND
        wait_for(lambda: robot.windows(1) and expected <= set(received), 60, lambda: str(expected - set(received)))
        assert set(received) == expected
    finally:
        for subscription in subscriptions:
            robot.node.destroy_subscription(subscription)


@pytest.mark.parametrize("index", range(0, 4))
def test_cameras_of_every_quality_of_service(client, robot, index):
    publisher = robot.node.create_publisher(Image, "/image", QUALITIES[index])
    try:
        robot.now_ns += 100 * SECOND
        before = len(robot.received["window"])

        def film() -> bool:
            # As fast as time itself, so that a busy node that loses frames sees no gap of a second.
            robot.now_ns += 20_000_000
            publisher.publish(picture(robot.now_ns))
            return len(robot.received["window"]) > before

        wait_for(film, 30)
    finally:
        robot.node.destroy_publisher(publisher)
