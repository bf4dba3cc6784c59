"""The end of the process in every state, and many lives of one process."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.srv import ChangeState, GetState
from node_process import parameter_arguments, wait_for
from places import SUPPORT
from rclpy.utilities import get_rmw_implementation_identifier
from robot import Robot

from vidllm_ros.replay.client import ClientError, VidllmClient
from vidllm_ros.srv import Query, SaveMap

SEGMENT_LOCK = r"/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16}_el"
CYCLES = int(os.environ.get("VIDLLM_ROS_TEST_CYCLES", "50"))


class Forked:
    """A node that a ``Nursery`` started."""

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self._nursery, self.pid, self._log = nursery, pid, log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def shared_memory(self) -> set[Path]:
        """The segments of Fast DDS that are the process's own: it holds their locks."""
        targets = (os.readlink(path) for path in Path(f"/proc/{self.pid}/fd").iterdir())
        return {Path(name.removesuffix("_el")) for name in targets if re.fullmatch(SEGMENT_LOCK, name)}

    def end(self, number: int) -> int:
        """Sends a signal; the exit code."""
        os.kill(self.pid, number)
        return self._nursery.request({"wait": self.pid})


class Neighbour(VidllmClient):
    """A client of one more node that shares the context and the thread of another client."""

    def __init__(self, host: VidllmClient, target: str) -> None:
        self.target, self.node = target, host.node
        self._query = host.node.create_client(Query, f"{target}/query")
        self._save_map = host.node.create_client(SaveMap, f"{target}/save_map")
        self._get_state = host.node.create_client(GetState, f"{target}/get_state")
        self._change_state = host.node.create_client(ChangeState, f"{target}/change_state")


class Nursery:
    """A process that forks nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = SUPPORT / "forking_node.py"
        environment = {**os.environ, "ROS_LOG_DIR": str(folder), "RCUTILS_COLORIZED_OUTPUT": "0"}
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._started: list[Forked] = []

    def request(self, values: dict) -> int:
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, parameters: dict[str, object], namespace: str, *arguments: str) -> Forked:
        log = self._folder / f"{namespace.strip('/')}.log"
        arguments = ["-r", f"__ns:={namespace}", *arguments, *parameter_arguments(parameters)]
        self._started.append(Forked(self, self.request({"start": arguments, "log": str(log)}), log))
        return self._started[-1]

    def close(self) -> None:
        for node in self._started:
            try:
                os.kill(node.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


def test_sigint_and_sigterm_end_every_state_with_0_and_a_saved_map(nursery, small_windows, tmp_path):
    """Unconfigured, inactive, active, active in mid-answer and finalized; what has a map leaves it behind."""
    states = ["unconfigured", "inactive", "active", "answering", "finalized"]
    cases = [(state, number) for state in states for number in (signal.SIGINT, signal.SIGTERM)]
    nodes, clients, questions = {}, {}, {}
    for state, number in cases:
        values = small_windows | {
            "map.save_on_shutdown": str(tmp_path / f"{state}{number}.ply"),
            "autostart": state != "unconfigured",
            "detection.labels": [],
        }
        nodes[state, number] = nursery.start(values, f"/{state}{number}", "-r", "image:=/everybody/image")
    robot = Robot("/nobody", "/everybody", listen=False)
    host = VidllmClient("/nobody/vidllm", name="ender")
    try:
        for case in cases:
            clients[case] = Neighbour(host, f"/{case[0]}{case[1]}/vidllm")
            if case[0] == "unconfigured":
                assert clients[case]._get_state.wait_for_service(timeout_sec=120), nodes[case].log
            else:
                clients[case].wait_until_active(120)
        for case in cases:
            state, client = case[0], clients[case]
            if state == "unconfigured":
                continue
            trial = tmp_path / f"trial_{case[0]}{case[1]}.ply"
            wait_for(lambda client=client, trial=trial: robot.send(1) and _saved(client, trial), 60)
            if state == "inactive":
                assert client.change_state("deactivate")
            elif state == "finalized":
                assert client.change_state("shutdown")
            elif state == "answering":
                question = Query.Request(question="long", max_new_tokens=60_000, timeout=300.0)
                questions[case] = client._query.call_async(question)
        segments = {case: nodes[case].shared_memory for case in cases}
        assert all(path.exists() for paths in segments.values() for path in paths)
        if get_rmw_implementation_identifier() == "rmw_fastrtps_cpp":
            assert all(segments.values()), segments
        codes = {case: nodes[case].end(case[1]) for case in cases}
        assert set(codes.values()) == {0}, codes
        assert not {case for case in cases for path in segments[case] if path.exists()}
        for (state, number), node in nodes.items():
            assert "Traceback" not in node.log, node.log
            path = tmp_path / f"{state}{number}.ply"
            assert path.exists() == (state != "unconfigured"), node.log
            assert state == "unconfigured" or path.with_suffix(".tum").read_text()
        for case, reply in questions.items():
            response = clients[case]._wait(reply, 20)
            assert response.error_code == Query.Response.NOT_ACTIVE
    finally:
        host.close()
        robot.close()


def _saved(client, path: Path) -> bool:
    try:
        return client.save_map(str(path), overwrite=True) > 0
    except ClientError:
        return False


def test_a_map_that_cannot_be_saved_at_the_end_is_reported_and_costs_nothing_else(nursery, small_windows):
    node = nursery.start(small_windows | {"map.save_on_shutdown": "/no/such/folder/map.ply"}, "/hopeless")
    wait_for(lambda: "active: images" in node.log, 120, lambda: node.log)
    assert node.end(signal.SIGINT) == 0
    assert re.search(r"map.save_on_shutdown: cannot write '/no/such/folder/map.ply': the map is empty", node.log)


def test_many_lives_leave_threads_files_and_memory_as_they_were(nursery, small_windows):
    """Configure, activate, deactivate, cleanup, again and again; VIDLLM_ROS_TEST_CYCLES says how often."""
    node = nursery.start(small_windows | {"autostart": False}, "/many")
    history = []
    with VidllmClient("/many/vidllm", name="undertaker") as client:
        assert client._get_state.wait_for_service(timeout_sec=120), node.log
        for _ in range(CYCLES):
            for transition in ("configure", "activate", "deactivate", "cleanup"):
                assert client.change_state(transition), node.log
            history.append(_resources(node.pid))
        assert client.state() == "unconfigured"
        # Counted when nothing is on its way: the middleware closes what a transition left after it has answered.
        start, end = (
            history[4],
            wait_for(lambda: _back_to(history[4], node.pid), 60, lambda: f"{_resources(node.pid)} after {history}"),
        )
    assert end["kilobytes"] - start["kilobytes"] < 20_000 + 100 * CYCLES, history
    assert node.end(signal.SIGTERM) == 0
    assert "Traceback" not in node.log


def _resources(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "threads": int(re.search(r"Threads:\s+(\d+)", status).group(1)),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "kilobytes": int(re.search(r"VmRSS:\s+(\d+)", status).group(1)),
    }


def _back_to(start: dict[str, int], pid: int) -> dict[str, int] | None:
    """What is held now, when it is no more than before; the executor may have started its last threads since."""
    now = _resources(pid)
    return now if all(now[kind] <= start[kind] + 3 for kind in ("threads", "files")) else None
