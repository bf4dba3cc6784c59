"""The access policy names all that the node uses, the node needs no network, and nothing is unpickled."""

import ast
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from node_process import wait_for
from places import REPOSITORY, SUPPORT
from rclpy.action import get_action_server_names_and_types_by_node
from robot import Robot

from vidllm_ros.replay.client import VidllmClient

POLICY = REPOSITORY / "config" / "sros2_policy.xml"


def allowed(kind: str, verb: str) -> set[str]:
    """Full names that the policy lets the node ``verb``."""
    profile = ElementTree.parse(POLICY).find("enclaves/enclave/profiles/profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", "vidllm")
    names = [e.text for block in profile.findall(f"{kind}s") if block.get(verb) == "ALLOW" for e in block]
    return {
        name if name.startswith("/") else f"/vidllm{name[1:]}" if name.startswith("~") else f"/{name}" for name in names
    }


def names(found: list) -> set[str]:
    return {name for name, _ in found}


# What not every node has at every time: other parameters or other distributions bring them.
SOMETIMES = {
    "publish": {"/tf"},  # publish_tf
    "subscribe": {"/clock", "/image/compressed", "/parameter_events"},  # use_sim_time, image_transport, distribution
    "reply": {"/vidllm/get_type_description"},  # since Jazzy
}


def test_the_access_policy_lists_every_topic_service_and_action_and_no_other(client, robot):
    graph, who = robot.node, ("vidllm", "/")
    robot.windows(1)

    def used() -> dict[str, set[str]]:
        return {
            "publish": names(graph.get_publisher_names_and_types_by_node(*who)),
            "subscribe": names(graph.get_subscriber_names_and_types_by_node(*who)),
            "reply": names(graph.get_service_names_and_types_by_node(*who)),
        }

    def without_action(found: set[str]) -> set[str]:
        return {name for name in found if "/_action/" not in name}

    wait_for(lambda: "/vidllm/window" in used()["publish"] and "/image" in used()["subscribe"], 30)
    for verb, found in used().items():
        permitted = allowed("service" if verb == "reply" else "topic", verb)
        found = without_action(found)
        assert found <= permitted, f"the policy does not let the node {verb} {found - permitted}"
        assert permitted - SOMETIMES[verb] <= found, f"the policy lets it {verb} more than it uses"
    actions = names(get_action_server_names_and_types_by_node(graph, *who))
    assert actions == allowed("action", "execute") == {"/vidllm/query_stream"}


def test_the_node_works_with_every_socket_beyond_this_machine_refused(start_node, small_windows):
    """From loading the checkpoint to an answer; the middleware itself is kept on loopback by the domain's settings."""
    script = SUPPORT / "offline_node.py"
    node = start_node(small_windows, ["-r", "__ns:=/offline"], script)
    with VidllmClient("/offline/vidllm", name="offline_client") as client:
        client.wait_until_active(180)
        robot = Robot("/offline/vidllm", "/offline")
        try:
            assert robot.windows(1, 120)
            assert client.ask("How many chairs are in the room?", max_new_tokens=4, timeout=60).answer
        finally:
            robot.close()
    assert "REFUSED" not in node.log, node.log
    assert node.stop() == 0


def test_the_refusal_itself_works():
    script = SUPPORT / "offline_node.py"
    result = subprocess.run([sys.executable, str(script), "--try"], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "REFUSED" in result.stderr and "Network is unreachable" in result.stderr


FORBIDDEN = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
MODULES = sorted((REPOSITORY / "vidllm_ros").rglob("*.py"))


@pytest.mark.parametrize("room", ["model", "perception", "node", "evaluation", "training"])
def test_nothing_that_the_package_reads_is_unpickled_or_run(room):
    found = []
    for path in (module for module in MODULES if room in module.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN:
                found.append(f"{path}:{node.lineno}: imports from {node.module}")
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in FORBIDDEN:
                # The class of an error that PyTorch raises when it refuses a file may be named.
                found += [f"{path}:{node.lineno}: uses {ast.unparse(node)}"] * (node.attr != "UnpicklingError")
            elif isinstance(node, ast.Call):
                called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                bad = called in ("eval", "exec", "os.system") or called in ("yaml.load", "yaml.unsafe_load")
                bad |= called == "torch.load" and options.get("weights_only") != "True"
                bad |= called == "np.load" and options.get("allow_pickle", "False") != "False"
                bad |= options.get("shell") == "True" or options.get("trust_remote_code") == "True"
                found += [f"{path}:{node.lineno}: calls {called}"] * bad
    assert not found
