"""The launch file: what can be told without launch, and a real start where launch is installed."""

import ast
import signal
import subprocess
import time

import pytest
import yaml
from places import REPOSITORY

LAUNCH_FILE = REPOSITORY / "launch" / "vidllm.launch.py"


def literal(name: str) -> list:
    """The value of a list that stands in the launch file."""
    tree = ast.parse(LAUNCH_FILE.read_text())
    (value,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == name]
    return ast.literal_eval(value)


def test_every_argument_has_a_description_and_a_default_among_its_choices():
    names = [name for name, *_ in literal("ARGUMENTS")]
    assert len(set(names)) == len(names)
    for _, default, choices, description in literal("ARGUMENTS"):
        assert description.endswith(".") and isinstance(default, str)
        assert choices is None or default in choices


def test_every_argument_is_used():
    text = LAUNCH_FILE.read_text()
    for name, *_ in literal("ARGUMENTS"):
        assert f'given["{name}"]' in text or f"given['{name}']" in text or name in literal("PARAMETERS"), name


def test_arguments_that_are_parameters_offer_what_the_parameters_take():
    pytest.importorskip("rclpy")
    from vidllm_ros.node.parameters.config import NodeConfig

    parameters = {parameter.name: parameter for parameter in NodeConfig.parameters()}
    arguments = {name: choices for name, _, choices, _ in literal("ARGUMENTS")}
    for name in literal("PARAMETERS"):
        if parameters[name].choices:
            assert arguments[name] == ["", *parameters[name].choices]


def test_what_it_names_exists():
    text = LAUNCH_FILE.read_text()
    assert (REPOSITORY / "scripts" / "vidllm_node").stat().st_mode & 0o111
    for name in ("vidllm.yaml", "vidllm.rviz", "fastdds.xml"):
        assert f'"{name}"' in text and (REPOSITORY / "config" / name).exists()


def test_rviz_shows_topics_that_the_node_has():
    displays = yaml.safe_load((REPOSITORY / "config" / "vidllm.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"]: display["Topic"] for display in displays if "Topic" in display}
    text = (REPOSITORY / "vidllm_ros" / "node" / "output" / "publishers.py").read_text()
    for topic, settings in topics.items():
        name = topic.removeprefix("/vidllm/")
        (line,) = [line for line in text.splitlines() if f'"~/{name}"' in line]
        assert (settings["Durability Policy"] == "Transient Local") == ("LATCHED" in line)
    assert {"/vidllm/map", "/vidllm/points", "/vidllm/path", "/vidllm/markers"} <= set(topics)


def test_the_launch_file_starts_the_node(tmp_path):
    pytest.importorskip("launch_ros", reason="launch_ros is not installed; it comes with ROS 2 itself, not from PyPI")
    from miniature import vidllm

    vidllm().save_pretrained(tmp_path / "checkpoint")
    command = ["ros2", "launch", str(LAUNCH_FILE), f"checkpoint:={tmp_path / 'checkpoint'}", "device:=cpu"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "namespace:=robot1"], stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while "questions on '/robot1/vidllm/query'" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
    assert "process has finished cleanly" in log.read_text()
