"""A real node in its own process and DDS domain, and something that acts as the robot around it."""

import os
import random
import signal
from pathlib import Path

import pytest
from node_process import NodeProcess
from places import REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def ros_domain():
    """A domain of our own on the loopback interface, for this process and all it starts."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    values = {
        # 1 to 101 may be used on any system; two processes of one run of pytest never draw the same.
        "ROS_DOMAIN_ID": str(2 * random.SystemRandom().randint(0, 49) + 1 + worker % 2),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOCALHOST_ONLY": "1",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(REPOSITORY / "config" / "fastdds.xml"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    yield values["ROS_DOMAIN_ID"]
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The whole network in a size that answers within milliseconds, with random weights."""
    from miniature import vidllm

    folder = tmp_path_factory.mktemp("checkpoint")
    vidllm().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_windows(checkpoint) -> dict[str, object]:
    """Parameters that make the random network give something to publish from four frames."""
    return {
        "checkpoint": str(checkpoint),
        "device": "cpu",
        "window.size": 4,
        "window.stride": 2,
        "window.sample_rate": 60.0,
        "window.min_motion": 0.0,
        "window.max_frame_gap": 1.0,
        "cloud.min_confidence": 0.0,
        "cloud.max_range": 1000.0,
        "detection.labels": ["chair"],
        "detection.min_score": 0.0,
        "stitch.max_residual": 10.0,
        "stitch.max_rotation_residual": 180.0,
        "stitch.max_scale_ratio": 100.0,
        "stitch.min_points": 3,
        "stitch.max_rejections": 0,
        "map.publish_period": 0.0,
    }


@pytest.fixture(scope="session")
def start_node(tmp_path_factory):
    """Starts nodes; those still alive at the end are stopped."""
    started: list[NodeProcess] = []

    def start(
        parameters: dict[str, object],
        arguments: list[str] | None = None,
        script: Path | None = None,
        **environment: str,
    ) -> NodeProcess:
        folder = tmp_path_factory.mktemp("node")
        started.append(NodeProcess(folder, parameters, arguments or [], script, environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def node(start_node, small_windows):
    """The node that most tests share: starting one takes seconds."""
    process = start_node(small_windows | {"query.timeout": 8.0})
    yield process
    assert process.stop(signal.SIGINT) == 0, process.log
    assert "Traceback" not in process.log, process.log


@pytest.fixture(scope="session")
def second(start_node, small_windows):
    """A node of another robot, which does not start itself and has no Fast DDS profile."""
    process = start_node(
        small_windows | {"autostart": False},
        ["-r", "__ns:=/robot1"],
        FASTDDS_DEFAULT_PROFILES_FILE="",
        FASTRTPS_DEFAULT_PROFILES_FILE="",
    )
    from vidllm_ros.replay.client import VidllmClient

    with VidllmClient("/robot1/vidllm", name="waiting_client") as client:
        assert client._get_state.wait_for_service(timeout_sec=120), process.log
    yield process
    assert process.stop(signal.SIGTERM) == 0, process.log
    assert "Traceback" not in process.log, process.log


@pytest.fixture(scope="session")
def robot(node):
    """Camera, transforms and listener for the shared node."""
    from robot import Robot

    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture(scope="session")
def session_client(node):
    from vidllm_ros.replay.client import VidllmClient

    with VidllmClient() as client:
        client.wait_until_active(120)
        yield client


@pytest.fixture
def client(session_client, node):
    """A client of the shared node, which is active before and alive after."""
    if session_client.state() != "active":
        session_client.change_state("configure")
        assert session_client.change_state("activate"), node.log
    yield session_client
    assert node.alive, node.log


@pytest.fixture
def reconfigure(client, small_windows):
    """Gives the shared node other parameters, also those that are fixed once configured, until the end of the test."""
    from robot import set_parameters

    changed: set[str] = set()

    def apply(**values) -> None:
        named = {name.replace("__", "."): value for name, value in values.items()}
        changed.update(named)
        assert client.change_state("deactivate") and client.change_state("cleanup")
        refused = {n: r.reason for n, r in set_parameters(client, named).items() if not r.successful}
        assert not refused
        assert client.change_state("configure") and client.change_state("activate")

    yield apply
    if changed:
        from vidllm_ros.node.parameters.declared import all_parameters

        defaults = {parameter.name: parameter.default for parameter in all_parameters()} | small_windows
        for transition in ("deactivate", "cleanup"):
            client.change_state(transition)
        set_parameters(client, {name: defaults[name] for name in changed})
        assert client.change_state("configure") and client.change_state("activate")
