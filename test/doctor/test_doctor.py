"""`vidllm doctor` beside a running node, without one, and without ROS."""

import contextlib
import subprocess
import sys
import threading

import pytest
from moving_base import broadcast
from places import REPOSITORY
from robot import STEP_NS, camera_info, picture, set_parameters

from vidllm_ros import cli
from vidllm_ros.doctor import observer as doctor_observer
from vidllm_ros.doctor.findings import Section, note, problem
from vidllm_ros.doctor.frames import frames
from vidllm_ros.doctor.machine import checkpoint as examine_checkpoint
from vidllm_ros.doctor.observer import Link
from vidllm_ros.node.parameters.config import NodeConfig


@contextlib.contextmanager
def filming(robot, info: bool = True, tf: bool = True):
    """A camera that runs while the doctor looks."""
    done = threading.Event()

    def film() -> None:
        while not done.wait(0.05):
            robot.now_ns += STEP_NS
            robot.image.publish(picture(robot.now_ns))
            if info:
                robot.info.publish(camera_info(robot.now_ns, k=[0.0] * 9))
            if tf:
                broadcast(robot, "odom")

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def doctor(capsys, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(["doctor", "--seconds", "2", *arguments])
    return code, " ".join(capsys.readouterr().out.split())


def test_a_node_that_works(client, robot, capsys):
    client.reset()
    robot.windows(1)
    with filming(robot):
        code, said = doctor(capsys, "--node", "/vidllm")
    assert code == 0, said
    assert "node /vidllm ok active" in said and "FAIL" not in said
    assert "vidllm_ros 0." in said and "torch" in said and "rmw_" in said
    assert "ok model: " in said and " on cpu" in said
    assert "Hz, 64 x 48 rgb8, frame 'camera', from 'robot' (best effort, volatile)" in said
    assert "'/camera_info': " in said and "odom -> base_link (" in said and "base_link -> camera (static)" in said
    assert said.endswith("nothing that would keep the node from working")


def test_publishers_with_an_incompatible_quality_of_service_are_named_with_both_sides(reconfigure, robot, capsys):
    reconfigure(image_qos="default")
    with filming(robot, tf=False):
        code, said = doctor(capsys, "--node", "vidllm")
    assert code == 1
    assert (
        "FAIL incompatible quality of service on '/image': '/vidllm' asks for reliable, volatile, 'robot' offers best "
        "effort, volatile" in said
    )
    assert "Set image_qos: sensor_data" in said


def test_missing_camera_info_and_a_camera_that_tf_does_not_know(reconfigure, robot, capsys):
    reconfigure(use_camera_info="required", anchor="tf", map_frame="hall")
    with filming(robot, info=False):
        code, said = doctor(capsys, "--node", "/vidllm")
    assert code == 1
    assert "FAIL no camera_info on '/camera_info' (its publisher is silent)" in said
    assert "FAIL anchor is 'tf' but TF does not connect 'hall' and 'camera'; frames are base_link, camera" in said


def test_an_inactive_node(client, robot, capsys):
    assert client.change_state("deactivate")
    with filming(robot, tf=False):
        code, said = doctor(capsys, "--node", "/vidllm")
    assert code == 1
    assert "FAIL inactive, so it processes nothing: 'ros2 lifecycle set /vidllm activate'" in said, said
    assert "Hz, 64 x 48 rgb8" in said  # the topic is found although nobody subscribes


def test_sim_time_without_a_clock(client, robot, capsys):
    set_parameters(client, {"use_sim_time": True})
    try:
        code, said = doctor(capsys, "--node", "/vidllm")
    finally:
        set_parameters(client, {"use_sim_time": False})
    assert code == 1 and "FAIL use_sim_time is true but nobody publishes /clock" in said


def test_a_topic_that_nobody_publishes_and_those_that_there_are(client, robot, capsys):
    code, said = doctor(capsys, "--node", "/vidllm", "--image-topic", "/front/image")
    assert code == 1
    assert "FAIL nobody publishes '/front/image'; image topics are /image, /image/compressed: remap image" in said


def test_a_node_that_is_not_there(robot, capsys, checkpoint, monkeypatch):
    monkeypatch.setattr(doctor_observer, "_DISCOVERY", 2.0)
    code, said = doctor(capsys, "--node", "/robot7/vidllm", "--checkpoint", str(checkpoint))
    assert code == 1 and "FAIL no node /robot7/vidllm runs here: ros2 launch" in said
    assert "'miniature'" in said and "million parameters, runs" in said


def test_without_ros_it_says_so_and_still_looks_at_the_network(checkpoint):
    code = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rclpy" or name.partition(".")[0].endswith(("_msgs", "_srvs", "_interfaces")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from vidllm_ros import cli
sys.exit(cli.main(["doctor", "--checkpoint", sys.argv[1], "--device", "cpu"]))
"""
    command = [sys.executable, "-c", code, str(checkpoint)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    said = " ".join(result.stdout.split())
    assert result.returncode == 1, result.stderr
    assert "FAIL ROS 2 is not here (No module named" in said and "source your ROS 2 installation" in said
    assert "ok device cpu" in said and "'miniature'" in said
    assert said.endswith("1 problem that would keep the node from working")


@pytest.mark.parametrize(
    ("name", "device", "dtype", "words"),
    [
        ("no/such/folder", "cpu", "auto", "neither a folder"),
        ("nano", "cuda:77", "auto", "CUDA devices here; set device to cpu"),
        ("nano", "toaster", "auto", "must be auto, cpu, cuda or cuda:N"),
        ("nano", "cpu", "float3", "dtype 'float3'"),
    ],
)
def test_a_model_that_cannot_run_is_a_problem(name, device, dtype, words):
    found = examine_checkpoint(name, device, dtype)
    assert found[-1].is_problem and words in found[-1].text


def test_a_frame_with_two_parents_is_a_problem():
    links = {("odom", "base"): Link(False, [0.0, 0.5]), ("map", "base"): Link(False), ("base", "camera"): Link(True)}
    found = frames(links, NodeConfig(), "camera")
    assert [f.text for f in found if f.is_problem] == [
        "frame 'base' has 2 parents (map, odom) and may have one: stop one of the publishers; of this node it is "
        "publish_tf, or use invert_tf"
    ]
    assert "odom -> base (2.0 Hz)" in found[0].text


def test_names_stay_whole_where_they_do_not_fit_the_line():
    long = "/" + "x" * 200
    assert long in Section("a", [problem(f"{long} is long")]).text()
    assert len(Section("a", [note("word " * 60)]).text().splitlines()) > 2


@pytest.mark.parametrize("seconds", ["0", "nan", "ages"])
def test_seconds_are_checked(seconds, capsys):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--seconds", seconds])
    assert "no number of seconds from 0.5 to 600" in capsys.readouterr().err
