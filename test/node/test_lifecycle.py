"""States, checkpoints that cannot be used, the end of the process, and two nodes side by side."""

import signal
import threading

import pytest
from robot import Robot, set_parameters

from vidllm_ros.node.conversions import stamp_to_ns
from vidllm_ros.replay.client import ClientError, VidllmClient
from vidllm_ros.srv import Query


def test_transitions_can_be_repeated_and_what_was_seen_survives_deactivation(client, robot):
    robot.windows(1)
    for _ in range(10):
        assert client.change_state("deactivate") and client.state() == "inactive"
        assert client.change_state("activate") and client.state() == "active"
    assert client.ask("Still there?", max_new_tokens=2).success
    assert not client.change_state("configure")  # impossible from here, and harmless
    assert client.state() == "active" and robot.windows(1)


def test_cleanup_forgets(client, robot):
    robot.windows(1)
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert client.change_state(transition)
    with pytest.raises(ClientError) as caught:
        client.ask("What was there?")
    assert caught.value.code == Query.Response.NO_WINDOW
    assert robot.windows(1)[0].window_id == 0


def spoil(checkpoint, folder, damage):
    import shutil

    shutil.copytree(checkpoint, folder)
    damage(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "neither a folder"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04 no tensors"), "not a whole safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:9000]), "safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").write_text("x"), "tokenizer"),
    ],
)
def test_a_checkpoint_that_cannot_be_used(client, node, checkpoint, tmp_path, damage, words):
    folder = str(tmp_path / "missing") if damage is None else spoil(checkpoint, tmp_path / "broken", damage)
    assert client.change_state("deactivate") and client.change_state("cleanup")
    try:
        assert set_parameters(client, {"checkpoint": folder})["checkpoint"].successful
        start = len(node.log)
        assert not client.change_state("configure") and client.state() == "unconfigured"
        logged = node.log[start:]
        assert "configure failed" in logged and words in logged and folder in logged and "Traceback" not in logged
        with pytest.raises(ClientError, match="configure failed") as caught:
            client.ask("Is anybody there?")
        assert caught.value.code == Query.Response.NOT_ACTIVE
    finally:
        set_parameters(client, {"checkpoint": str(checkpoint)})
        assert client.change_state("configure") and client.change_state("activate")


def test_a_device_that_is_not_there_is_not_replaced(client, node):
    assert client.change_state("deactivate") and client.change_state("cleanup")
    try:
        set_parameters(client, {"device": "cuda:77"})
        start = len(node.log)
        assert not client.change_state("configure")
        assert "CUDA devices here; set device to cpu" in node.log[start:]
    finally:
        set_parameters(client, {"device": "cpu"})
        assert client.change_state("configure") and client.change_state("activate")


def test_two_nodes_keep_their_topics_apart(second, client, robot):
    other = Robot("/robot1/vidllm", "/robot1")
    try:
        with VidllmClient("/robot1/vidllm", name="client1") as other_client:
            if other_client.state() == "inactive":
                assert other_client.change_state("cleanup")
            with pytest.raises(ClientError, match="robot1/vidllm configure") as caught:
                other_client.ask("Are you there?")
            assert caught.value.code == Query.Response.NOT_ACTIVE
            assert other_client.change_state("configure") and other_client.change_state("activate")
            robot.now_ns += 200 * 10**9
            other.now_ns = robot.now_ns + 10**9 * 10**4
            mine, theirs = robot.windows(1)[-1], other.windows(1)[-1]
            assert stamp_to_ns(mine.last_stamp) < other.now_ns - 10**12 < stamp_to_ns(theirs.last_stamp)
            assert other_client.ask("Which robot is this?", max_new_tokens=2).success
            names = {status.name for status in other.newest("diagnostics").status}
            assert names & {"robot1/vidllm: state", "vidllm: state"}
            assert other_client.change_state("deactivate")
        assert client.ask("And here?", max_new_tokens=2).success
    finally:
        other.close()


def test_sigint_while_it_starts_ends_it_with_0(start_node, small_windows):
    process = start_node(small_windows)
    threading.Event().wait(1.0)
    assert process.stop(signal.SIGINT) == 0
    assert "Traceback" not in process.log, process.log


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("window.size:=100", "window.size is 100; it must be from 2 to 64"),
        ("device:=3", "device is 3; it must be a text"),
        ("publish_tf:=everything", "publish_tf is 'everything'; it must be one of none, map_to_odom"),
        ("cloud.voxel_size:=.nan", "cloud.voxel_size is nan"),
        ("window.stride:=33", "window.stride is 33; it must not be above window.size"),
    ],
)
def test_a_value_out_of_range_at_start_ends_the_process_with_1_and_its_name(setting, words, capfd):
    from vidllm_ros.node.main import run

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert run(["--ros-args", "-p", setting]) == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    assert f"cannot start: {words}" in "".join(capfd.readouterr())
