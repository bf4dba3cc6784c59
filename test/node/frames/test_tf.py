"""Anchoring by TF and broadcasting it, over /tf and /tf_static."""

import re
from collections import defaultdict

import numpy as np
import pytest
from moving_base import T_BASE_CAMERA, base_pose, broadcast
from node_process import wait_for
from tf2_msgs.msg import TFMessage

from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.conversions import matrix_from_transform, stamp_to_ns, transform_message
from vidllm_ros.replay.client import ClientError
from vidllm_ros.srv import Query


def drive(robot, parent: str, windows: int, frame_id: str = "camera") -> list[WindowInfo]:
    before = len(robot.received["window"])

    def enough() -> bool:
        broadcast(robot, parent)
        robot.send(1, frame_id=frame_id)
        return len(robot.received["window"]) >= before + windows

    wait_for(enough, 40)
    return robot.received["window"][before:]


def test_tf_places_windows_and_gives_their_scale(reconfigure, robot):
    reconfigure(map_frame="odom", anchor="auto", scale__min_anchor_motion=0.01)
    robot.now_ns += 1000 * 10**9
    robot.received["pose"].clear()
    window = drive(robot, "odom", 3)[-1]
    assert window.status == WindowInfo.STATUS_ANCHORED and window.gravity_source == WindowInfo.GRAVITY_TF
    assert window.scale_source in (WindowInfo.SCALE_EXTERNAL, WindowInfo.SCALE_UNRELIABLE, WindowInfo.SCALE_METRIC)
    assert window.header.frame_id == "odom"
    pose = robot.newest("pose")
    truth = base_pose(stamp_to_ns(pose.header.stamp)) @ T_BASE_CAMERA
    position = pose.pose.pose.position
    assert np.linalg.norm(truth[:3, 3] - (position.x, position.y, position.z)) < 3.0


def test_a_camera_on_a_base_has_a_known_tilt_without_any_pose(reconfigure, robot):
    reconfigure(anchor="none")
    robot.now_ns += 1000 * 10**9
    broadcast(robot, "odom")
    window = robot.windows(1)[0]
    assert window.status == WindowInfo.STATUS_FIRST and window.gravity_source == WindowInfo.GRAVITY_TF


def test_anchor_tf_leaves_windows_out_and_names_the_frames(reconfigure, robot, node):
    reconfigure(anchor="tf", map_frame="world_that_nobody_knows", tf_timeout=0.0)
    robot.now_ns += 1000 * 10**9
    start, before = len(node.log), len(robot.received["window"])
    pattern = r"TF does not place the camera: .*'world_that_nobody_knows'.*anchor is tf"
    wait_for(lambda: robot.send(1) and re.search(pattern, node.log[start:]), 20, lambda: node.log[start:])
    assert len(robot.received["window"]) == before


def test_answers_come_in_the_frame_that_was_asked_for(reconfigure, client, robot):
    reconfigure(map_frame="odom", anchor="none", tf_timeout=1.0)
    robot.now_ns += 1000 * 10**9
    drive(robot, "odom", 2)
    asked = {"task": Query.Request.TASK_LOCATE, "max_new_tokens": 2}
    boxes = client.ask("the chair", **asked).detections
    moved = client.ask("the chair", frame_id="base_link", **asked).detections
    assert boxes.header.frame_id == "odom" and moved.header.frame_id == "base_link"
    if boxes.header.stamp == moved.header.stamp:
        T = np.linalg.inv(base_pose(stamp_to_ns(moved.header.stamp)))
        for a, b in zip(boxes.detections, moved.detections, strict=True):
            p, q = a.bbox.center.position, b.bbox.center.position
            assert np.allclose(T @ (p.x, p.y, p.z, 1), (q.x, q.y, q.z, 1), atol=1e-6)
    with pytest.raises(ClientError) as caught:
        client.ask("the chair", frame_id="moon", **asked)
    assert caught.value.code == Query.Response.TF_ERROR and "base_link" in str(caught.value)


@pytest.mark.parametrize(
    ("publish_tf", "child", "camera", "inverted"),
    [
        ("map_to_camera", "loose_camera", "loose_camera", False),  # nobody else places it
        ("map_to_camera", "camera", "camera", True),
        ("map_to_base", "bare_base", "bare_camera", False),  # a robot without odometry
        ("map_to_base", "base_link", "camera", True),
        ("map_to_odom", "odom", "camera", False),
        ("map_to_odom", "odom", "camera", True),
    ],
)
def test_what_is_broadcast_puts_the_camera_where_the_pose_says(reconfigure, robot, publish_tf, child, camera, inverted):
    base = "bare_base" if camera == "bare_camera" else "base_link"
    reconfigure(publish_tf=publish_tf, invert_tf=inverted, anchor="none", tf_timeout=1.0, base_frame=base)
    robot.now_ns += 1000 * 10**9
    robot.received["tf"].clear()
    robot.received["pose"].clear()
    if camera == "bare_camera":
        robot.tf_static.publish(TFMessage(transforms=[transform_message(0, base, camera, T_BASE_CAMERA)]))
    drive(robot, "odom", 2, camera)
    frames = (child, "map") if inverted else ("map", child)

    def ours() -> dict[int, np.ndarray]:
        return {
            stamp_to_ns(entry.header.stamp): matrix_from_transform(entry.transform)
            for message in robot.received["tf"]
            for entry in message.transforms
            if (entry.header.frame_id, entry.child_frame_id) == frames
        }

    poses = {stamp_to_ns(pose.header.stamp): pose.pose.pose for pose in robot.received["pose"]}
    wait_for(lambda: set(poses) & set(ours()), 20)
    sent = ours()
    for stamp in set(poses) & set(sent):
        T_map_child = np.linalg.inv(sent[stamp]) if inverted else sent[stamp]
        T_child_camera = {
            "camera": np.eye(4),
            "loose_camera": np.eye(4),
            "base_link": T_BASE_CAMERA,
            "bare_base": T_BASE_CAMERA,
            "odom": base_pose(stamp) @ T_BASE_CAMERA,
        }[child]
        position = poses[stamp].position
        expected = (position.x, position.y, position.z)
        assert np.allclose((T_map_child @ T_child_camera)[:3, 3], expected, atol=1e-6)
    parents = defaultdict(set, {"camera": {"base_link"}, "bare_camera": {"bare_base"}})
    for message in robot.received["tf"]:
        for entry in message.transforms:
            parents[entry.child_frame_id].add(entry.header.frame_id)
    assert all(len(found) == 1 for found in parents.values()), "a frame has one parent"
    assert set(parents) == {"camera", "bare_camera", "base_link", frames[1]}


@pytest.mark.parametrize(
    ("publish_tf", "child", "parent"), [("map_to_camera", "camera", "base_link"), ("map_to_base", "base_link", "odom")]
)
def test_a_frame_that_has_a_parent_gets_no_second_one(reconfigure, robot, node, publish_tf, child, parent):
    reconfigure(publish_tf=publish_tf, anchor="none", tf_timeout=1.0)
    robot.now_ns += 1000 * 10**9
    broadcast(robot, "odom")
    start = len(node.log)
    robot.received["tf"].clear()
    drive(robot, "odom", 2)
    words = rf"nothing is broadcast on /tf: '{child}' has the parent '{parent}' already, and publish_tf: {publish_tf}"
    wait_for(lambda: re.search(words, node.log[start:]), 30, lambda: node.log[start:])
    sent = {(e.header.frame_id, e.child_frame_id) for m in robot.received["tf"] for e in m.transforms}
    assert sent == {("odom", "base_link")}


def test_transforms_that_come_late_or_from_the_future(reconfigure, robot, node):
    """Late: the node waits for them. From the future: it says so, leaves windows out, and recovers by itself."""
    reconfigure(anchor="tf", map_frame="odom", tf_timeout=5.0)
    robot.now_ns += 1000 * 10**9
    before = len(robot.received["window"])

    def frame_before_its_transform() -> list[WindowInfo]:
        robot.send(1, pace=0.1)
        broadcast(robot, "odom")
        return robot.received["window"][before:]

    window = wait_for(frame_before_its_transform, 40, lambda: node.log)[-1]
    assert window.status == WindowInfo.STATUS_ANCHORED

    start, before = len(node.log), len(robot.received["window"])
    robot.now_ns += 2000 * 10**9
    now = robot.now_ns
    robot.now_ns += 500 * 10**9
    broadcast(robot, "odom")
    robot.now_ns = now
    words = r"TF does not place the camera: no transform between .* is known for \S+ s to \S+ s.*left out"
    wait_for(lambda: robot.send(1) and re.search(words, node.log[start:]), 60, lambda: node.log[start:])
    assert not [w for w in robot.received["window"][before:] if stamp_to_ns(w.last_stamp) > now]
    robot.now_ns += 1000 * 10**9
    window = drive(robot, "odom", 1)[-1]
    assert window.status == WindowInfo.STATUS_ANCHORED
    dropped = dict(zip(window.drop_reasons, window.drop_counts, strict=True))
    assert dropped["no_transform"] > 0 and "inference_failed" not in dropped
    assert window.received_frames == window.used_frames + window.waiting_frames + sum(window.drop_counts)


def test_nothing_is_broadcast_by_default(client, robot):
    robot.received["tf"].clear()
    robot.windows(2)
    children = {entry.child_frame_id for m in robot.received["tf"] for entry in m.transforms}
    assert not children


def test_map_to_odom_says_what_is_missing(reconfigure, robot, node):
    reconfigure(publish_tf="map_to_odom", odom_frame="other_odom", anchor="none", tf_timeout=0.0)
    robot.now_ns += 1000 * 10**9
    start = len(node.log)
    robot.windows(2)
    wait_for(lambda: re.search(r"nothing is broadcast on /tf: .*'other_odom'", node.log[start:]), 20)
