"""Faults of the network, the memory, the disk and the worker, injected into the real node, and how it recovers."""

import re
import threading
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_process import wait_for
from places import SUPPORT
from robot import Robot, set_parameters

from vidllm_ros.msg import WindowInfo
from vidllm_ros.replay.client import ClientError, VidllmClient
from vidllm_ros.srv import Query

NAME = "/ill/vidllm"


@pytest.fixture(scope="module")
def node(start_node, small_windows):
    script = SUPPORT / "faulty_node.py"
    process = start_node(small_windows | {"watchdog_timeout": 2.0}, ["-r", "__ns:=/ill"], script)
    yield process
    assert process.stop() == 0, process.log


@pytest.fixture(scope="module")
def robot(node):
    robot = Robot(NAME, "/ill")
    yield robot
    robot.close()


@pytest.fixture(scope="module")
def session_client(node):
    with VidllmClient(NAME, name="nurse") as client:
        client.wait_until_active(120)
        yield client


@pytest.fixture
def client(session_client, robot, node):
    """The node works before and after, whatever happened in between."""
    robot.windows(1, 60)
    yield session_client
    inject(session_client, "mend")
    assert robot.windows(1, 60) and session_client.state() == "active"
    wait_for(lambda: status(robot).level != DiagnosticStatus.ERROR, 30, lambda: str(status(robot)))
    assert session_client.ask("And now?", max_new_tokens=2).success
    assert node.alive


def inject(client, fault: str) -> None:
    """Switches a fault on; nobody waits for the answer."""
    client._query.call_async(Query.Request(question=fault, max_new_tokens=1, timeout=1.0))


def status(robot, part: str = "windows") -> DiagnosticStatus:
    robot.received["diagnostics"].clear()
    statuses = {s.name.split(": ")[1]: s for s in robot.newest("diagnostics").status}
    return statuses[part]


def values(robot) -> dict[str, str]:
    return {pair.key: pair.value for pair in status(robot).values}


def say(robot, pattern: str) -> None:
    """Diagnostics come to say so."""
    wait_for(lambda: robot.send(1) and re.search(pattern, status(robot).message), 60, lambda: str(status(robot)))


def balanced(window: WindowInfo) -> bool:
    return window.received_frames == window.used_frames + window.waiting_frames + sum(window.drop_counts)


def test_a_window_that_hangs_is_reported_and_everything_goes_on_when_it_ends(client, robot, node):
    start = len(node.log)
    inject(client, "hang at a window")
    say(robot, r"the network hangs: processing a window takes \d+ s by now \(watchdog_timeout is 2 s\)")
    assert status(robot).level == DiagnosticStatus.ERROR
    assert "the network hangs" in node.log[start:] and client.state() == "active"
    with pytest.raises(ClientError) as caught:
        client.ask("Is anybody there?", timeout=1.0)
    assert caught.value.code == Query.Response.TIMEOUT
    robot.send(30)
    inject(client, "mend")
    window = robot.windows(1, 60)[-1]
    wait_for(lambda: "the network works again" in node.log[start:], 30)
    assert balanced(window) and window.waiting_frames <= 8


def test_a_worker_that_never_comes_back_is_replaced_by_cleanup_and_configure(client, robot, node):
    inject(client, "hang at a window")
    say(robot, "the network hangs")
    assert client.change_state("deactivate") and client.change_state("cleanup")
    assert client.change_state("configure")
    inject(client, "mend")  # the old one comes back now, and must publish nothing any more
    assert client.change_state("activate")
    assert robot.windows(1, 60)[0].window_id in (0, 1)


@pytest.mark.parametrize("where", ["end the thread at a window", "end the thread"])
def test_a_worker_thread_that_dies_is_started_again(client, robot, node, where):
    client.reset()  # forgets older faults
    robot.windows(1, 60)
    if where == "end the thread":
        with pytest.raises(ClientError, match="the thread that answers ended") as caught:
            client.ask("end the thread", timeout=30.0)
        assert caught.value.code == Query.Response.UNKNOWN
    else:
        inject(client, where)
    words = "the worker thread ended by itself and was started again"
    wait_for(lambda: robot.send(1) and words in values(robot)["last error"], 60, lambda: node.log)
    assert balanced(robot.windows(1, 60)[-1])


def test_a_window_that_the_memory_does_not_suffice_for_is_halved_and_reported(client, robot, node):
    start = len(node.log)
    inject(client, "starve the windows")
    words = "the memory did not suffice for 4 frames, so 2 of them were used; lower window.size"
    wait_for(lambda: robot.windows(1, 60) and words in node.log[start:], 60, lambda: node.log[start:])
    say(robot, words)
    window = wait_for(lambda: next((w for w in robot.windows(1) if w.frame_count == 2), None), 60)
    assert balanced(window) and "out_of_memory" in window.drop_reasons
    inject(client, "mend")
    wait_for(lambda: robot.windows(1)[-1].frame_count == 4, 60)


def test_a_camera_that_hardly_moves_is_said_to(client, robot):
    inject(client, "hold the camera still")
    say(robot, r"the camera moved 0\.000 m, less than 1% of the median depth; depth and translation rest on a single")
    assert status(robot).level == DiagnosticStatus.WARN


def test_a_question_without_memory_is_tried_again_and_then_reported(client):
    assert client.ask("please run out of memory once", max_new_tokens=2).success
    with pytest.raises(ClientError, match="out of memory: CUDA out of memory") as caught:
        client.ask("please run out of memory always")
    assert caught.value.code == Query.Response.OUT_OF_MEMORY


def test_a_full_disk_leaves_the_old_map_whole(client, robot, tmp_path):
    path = tmp_path / "map.ply"
    client.save_map(str(path))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    inject(client, "fill the disk")
    wait_for(lambda: _fails(lambda: client.save_map(str(path), overwrite=True), "No space left on device"), 30)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    inject(client, "mend")
    wait_for(lambda: not _fails(lambda: client.save_map(str(path), overwrite=True), ""), 30)


def test_a_folder_that_nobody_can_write_to(client):
    with pytest.raises(ClientError, match="cannot write '/proc/map.ply'"):
        client.save_map("/proc/map.ply")


def _fails(call, words: str) -> bool:
    try:
        call()
    except ClientError as error:
        return words in str(error)
    return False


def test_overload_at_60_hz_keeps_output_young_and_memory_flat(client, robot, node):
    """Windows take 0.4 s, frames of which a window needs two come every 17 ms: all but a few are left out."""
    set_parameters(client, {"window.sample_rate": 60.0, "window.max_frame_gap": 5.0})
    client.reset()
    inject(client, "slow the windows")
    done, behind, resident = threading.Event(), [], []

    def film() -> None:
        while not done.wait(1 / 60):
            robot.now_ns += 16_666_667
            robot.send_at(robot.now_ns)

    camera = threading.Thread(target=film)
    robot.now_ns += 100 * 10**9
    started = robot.now_ns
    camera.start()
    try:
        for _ in range(14):
            count = len(robot.received["window"])
            wait_for(lambda count=count: len(robot.received["window"]) > count, 60, lambda: node.log)
            window = robot.received["window"][-1]
            assert balanced(window) and window.waiting_frames <= 8
            behind.append((robot.now_ns - _ns(window.last_stamp)) / 1e9)
            resident.append(_resident(node.process.pid))
    finally:
        done.set()
        camera.join()
    recorded = (robot.now_ns - started) / 1e9
    dropped = dict(zip(window.drop_reasons, window.drop_counts, strict=True))
    assert dropped["window_replaced"] > window.used_frames / 2
    # A queue would make every window later than the one before; here none lags by more than a few windows' time.
    assert max(behind[-4:]) < recorded / 2, behind
    assert resident[-1] - resident[3] < 40_000, resident


def _ns(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def _resident(pid: int) -> int:
    """Kilobytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def test_fifty_questions_at_once_all_get_a_reply(client):
    replies = [client._query.call_async(Query.Request(question="How many?", max_new_tokens=2)) for _ in range(50)]
    wait_for(lambda: all(reply.done() for reply in replies), 90, lambda: f"{sum(r.done() for r in replies)} replies")
    codes = [reply.result().error_code for reply in replies]
    assert set(codes) <= {Query.Response.NONE, Query.Response.QUEUE_FULL}
    assert codes.count(Query.Response.NONE) >= 1
    assert all(reply.result().message or reply.result().success for reply in replies)
