"""Every topic, service and action of a running node, over DDS."""

import time

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from node_process import wait_for
from robot import TOPICS, Robot
from visualization_msgs.msg import Marker

from vidllm_ros.action import Query
from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.conversions import stamp_to_ns
from vidllm_ros.replay.client import ClientError
from vidllm_ros.srv import Query as Service


@pytest.fixture
def seen(client, robot):
    """Two more windows, and everything that came with them."""
    for messages in robot.received.values():
        messages.clear()
    windows = robot.windows(2)
    wait_for(lambda: all(robot.received[topic] for topic in TOPICS), 30, lambda: f"all topics, only {robot.received}")
    return windows


def test_before_any_window_a_question_says_so(client):
    client.reset()
    with pytest.raises(ClientError, match="no window") as caught:
        client.ask("How many chairs are in the room?")
    assert caught.value.code == Service.Response.NO_WINDOW


def test_window_describes_the_frames_that_went_through(seen, robot):
    window = seen[-1]
    assert window.header.frame_id == "map" and window.header.stamp == window.last_stamp
    assert window.frame_count == 4 and window.shared_frames in (0, 2)
    assert stamp_to_ns(window.first_stamp) < stamp_to_ns(window.last_stamp) <= robot.now_ns
    assert window.status in (WindowInfo.STATUS_FIRST, WindowInfo.STATUS_STITCHED) and window.reason == ""
    assert window.scale > 0 and window.scale_ratio > 0 and 0 <= window.mean_confidence <= 1
    assert window.point_count > 0 and window.k[0] > 0 and window.k[8] == 1
    assert window.received_frames == window.used_frames + window.waiting_frames + sum(window.drop_counts)
    assert len(window.drop_reasons) == len(window.drop_counts)
    assert window.reconstruct_time > 0 and window.publish_time > 0
    assert seen[-1].window_id > seen[0].window_id


def test_points_are_finite_and_in_the_map_frame(seen, robot):
    cloud = robot.newest("points")
    assert cloud.header.frame_id == "map"
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "confidence"]
    values = np.frombuffer(cloud.data, "<f4").reshape(cloud.width, -1)
    assert np.isfinite(values[:, :3]).all() and len(values) == cloud.width > 0
    assert ((values[:, 4] >= 0) & (values[:, 4] <= 1)).all()
    stamps = {stamp_to_ns(window.header.stamp): window.point_count for window in robot.received["window"]}
    assert stamps[stamp_to_ns(cloud.header.stamp)] == cloud.width


def test_depth_belongs_to_the_newest_frame(seen, robot):
    depth, info = robot.newest("depth/image"), robot.newest("depth/camera_info")
    assert depth.encoding == "32FC1" and depth.header.frame_id == "camera"
    assert (info.width, info.height, info.header.frame_id) == (depth.width, depth.height, "camera")
    values = np.frombuffer(depth.data, "<f4")
    assert np.isfinite(values).any() and (values[np.isfinite(values)] > 0).all()
    assert info.k[0] > 0 and info.p[0] == info.k[0]
    assert stamp_to_ns(depth.header.stamp) in {stamp_to_ns(w.header.stamp) for w in robot.received["window"]}


def test_every_new_frame_of_a_window_has_one_pose_with_its_own_stamp(seen, robot):
    used = [stamp_to_ns(pose.header.stamp) for pose in robot.received["pose"]]
    assert len(set(used)) == len(used) and used == sorted(used)
    assert {stamp_to_ns(window.last_stamp) for window in seen} <= set(used)
    pose = robot.newest("pose")
    q = pose.pose.pose.orientation
    assert pose.header.frame_id == "map" and abs(np.linalg.norm([q.x, q.y, q.z, q.w]) - 1) < 1e-6
    assert pose.pose.covariance[0] > 0 and pose.pose.covariance[35] > 0


def test_the_path_ends_with_the_newest_pose(seen, robot):
    def joined() -> bool:
        path, pose = robot.newest("path"), robot.newest("pose")
        return path.poses[-1].header.stamp == pose.header.stamp and path.poses[-1].pose == pose.pose.pose

    wait_for(joined)
    stamps = [stamp_to_ns(pose.header.stamp) for pose in robot.newest("path").poses]
    assert stamps == sorted(stamps)


def test_detections_are_boxes_of_the_configured_labels(seen, robot):
    array = robot.newest("detections")
    assert array.header.frame_id == "map" and array.detections
    assert {d.results[0].hypothesis.class_id for d in array.detections} == {"chair"}
    assert all(d.bbox.size.x > 0 and d.header == array.header for d in array.detections)


def test_markers_replace_what_was_shown(seen, robot):
    markers = robot.newest("markers").markers
    assert markers[0].action == Marker.DELETEALL
    assert {marker.ns for marker in markers[1:]} == {"boxes", "labels", "cameras"}
    assert any(marker.text.startswith("chair") for marker in markers)


def test_map_path_and_markers_reach_a_listener_that_comes_late(seen):
    late = Robot()
    try:
        assert late.newest("map").width > 0
        assert late.newest("path").poses and late.newest("markers").markers
    finally:
        late.close()


def test_diagnostics_say_how_it_goes(seen, robot):
    robot.received["diagnostics"].clear()
    statuses = {status.name: status for status in robot.newest("diagnostics").status}
    assert set(statuses) == {f"vidllm: {part}" for part in ("state", "input", "windows", "model")}
    assert statuses["vidllm: state"].message == "active"
    assert "miniature" in statuses["vidllm: model"].message or "cpu" in statuses["vidllm: model"].message
    values = {pair.key: pair.value for pair in statuses["vidllm: windows"].values}
    assert int(values["windows"]) > 0 and values["last error"] == "none"


def test_the_service_answers_from_the_newest_window(seen, client):
    response = client.ask("How many chairs are in the room?", max_new_tokens=8)
    assert response.success and response.error_code == Service.Response.NONE and response.message == ""
    assert response.answer and 0 <= response.confidence <= 1 and response.inference_time > 0
    assert response.window_id >= seen[-1].window_id
    assert response.detections.header.frame_id == "map"


def test_a_stamp_chooses_the_window(seen, client):
    response = client.ask("What is this?", stamp_ns=stamp_to_ns(seen[-1].last_stamp), max_new_tokens=4)
    assert response.window_id >= seen[-1].window_id


def test_everything_seen_can_be_asked_about(seen, client):
    assert client.ask("What is this?", scope=Service.Request.SCOPE_ALL, max_new_tokens=4).answer


def test_tasks_decide_about_boxes(seen, client, robot):
    robot.received["detections"].clear()
    located = client.ask("Where is the red sofa?", task=Service.Request.TASK_LOCATE, max_new_tokens=4)
    labels = {detection.results[0].hypothesis.class_id for detection in located.detections.detections}
    assert labels == {"red sofa"}
    wait_for(lambda: any(m.detections == located.detections.detections for m in robot.received["detections"]))
    wait_for(lambda: any(m.text.startswith("red sofa") for m in robot.newest("markers").markers))
    for task in (Service.Request.TASK_ANSWER, Service.Request.TASK_DESCRIBE):
        assert client.ask("Where is the red sofa?", task=task, max_new_tokens=4).detections.detections == []


def test_the_action_streams_what_the_service_would_say(seen, client):
    heard = []
    for question in ("How many chairs are in the room?", "What is it?", "Where?", "Why?", "Describe the room."):
        pieces: list[str] = []
        result = client.stream(question, pieces.append, task=Service.Request.TASK_ANSWER, max_new_tokens=24)
        assert result.error_code == Service.Response.NONE and result.answer == "".join(pieces).strip()
        again = client.ask(question, task=Service.Request.TASK_ANSWER, max_new_tokens=24)
        assert again.answer == result.answer
        heard.append(len(pieces))
    assert max(heard) > 1, "a random network may have nothing to say to one question, but not to all"


def long_goal(client) -> tuple[object, list[str]]:
    """A goal that would take minutes, and what it says."""
    pieces: list[str] = []
    goal = Query.Goal(question="How many chairs are in the room?", max_new_tokens=60_000)
    assert client._stream.wait_for_server(timeout_sec=20)
    sent = client._stream.send_goal_async(goal, feedback_callback=lambda m: pieces.append(m.feedback.text))
    return client._wait(sent, 20), pieces


def test_cancelling_stops_the_answer_and_returns_what_was_said(seen, client):
    handle, pieces = long_goal(client)
    time.sleep(0.5)
    handle.cancel_goal_async()
    outcome = client._wait(handle.get_result_async(), 20)
    assert outcome.status == GoalStatus.STATUS_CANCELED
    assert "cancelled" in outcome.result.message and outcome.result.answer.startswith("".join(pieces[:3]))
    assert client.ask("And now?", max_new_tokens=4).success  # the network is free again


def test_a_client_can_cancel_from_its_callback(seen, client):
    said: list[str] = []
    try:
        result = client.stream("How many?", lambda text: bool(said.append(text)), max_new_tokens=60_000, timeout=90)
    except ClientError as error:  # a random network may fail to complete a single character
        assert not said and error.code == Service.Response.TIMEOUT
    else:
        assert said and "cancelled" in result.message


def test_a_goal_that_waits_can_be_cancelled_and_the_other_goes_on(seen, client):
    running, _ = long_goal(client)
    waiting, _ = long_goal(client)
    waiting.cancel_goal_async()
    outcome = client._wait(waiting.get_result_async(), 20)
    assert outcome.status == GoalStatus.STATUS_CANCELED and outcome.result.answer == ""
    assert running.status == GoalStatus.STATUS_EXECUTING
    running.cancel_goal_async()
    assert client._wait(running.get_result_async(), 20).status == GoalStatus.STATUS_CANCELED


def no_window_for_a_second(robot) -> bool:
    before = len(robot.received["window"])
    time.sleep(1.0)
    return len(robot.received["window"]) == before


def test_enable_stops_and_resumes_taking_frames(seen, client, robot):
    client.enable(False)
    try:
        robot.send(8)
        robot.received["diagnostics"].clear()
        status = {s.name: s for s in robot.newest("diagnostics").status}["vidllm: state"]
        assert "frames are not taken" in status.message
        wait_for(lambda: no_window_for_a_second(robot))  # then every frame from before has been dealt with
        before = len(robot.received["window"])
        robot.send(8)
        robot.received["diagnostics"].clear()
        robot.newest("diagnostics")
        assert len(robot.received["window"]) == before
        assert client.ask("Still there?", max_new_tokens=2).success
    finally:
        client.enable(True)
    window = robot.windows(2)[-1]
    dropped = dict(zip(window.drop_reasons, window.drop_counts, strict=True))
    assert dropped["disabled"] >= 16
    assert window.received_frames == window.used_frames + window.waiting_frames + sum(window.drop_counts)


def test_save_map_writes_cloud_and_trajectory(seen, client, tmp_path):
    path = tmp_path / "map.ply"
    count = client.save_map(str(path))
    header = path.read_bytes().split(b"end_header")[0].decode()
    assert f"element vertex {count}" in header and "comment frame: map" in header
    assert "comment window.size: 4" in header
    lines = (tmp_path / "map.tum").read_text().splitlines()
    assert lines and all(len(line.split()) == 8 for line in lines)
    with pytest.raises(ClientError, match="exists"):
        client.save_map(str(path))
    assert client.save_map(str(path), overwrite=True) >= count


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/folder/map.ply", "does not exist"),
        ("map.ply", "absolute path"),
        ("", "empty"),
        ("/tmp/map.xyz", ".ply or .pcd"),
    ],
)
def test_save_map_says_why_not(seen, client, path, words):
    with pytest.raises(ClientError, match=words):
        client.save_map(path)


def test_reset_forgets_everything_and_window_ids_start_again(seen, client, robot):
    client.reset()
    wait_for(lambda: robot.newest("map").width == 0 and not robot.newest("path").poses)
    wait_for(lambda: [m.action for m in robot.newest("markers").markers] == [Marker.DELETEALL])
    with pytest.raises(ClientError) as caught:
        client.ask("What was there?")
    assert caught.value.code == Service.Response.NO_WINDOW
    windows = robot.windows(1)
    assert windows[0].window_id == 0 and windows[0].status == WindowInfo.STATUS_FIRST
