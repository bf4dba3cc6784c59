"""The arrows between the rooms of the package point one way only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vidllm_ros"

# Each room and the rooms it may import: node -> perception -> model; evaluation -> perception; training -> model,
# evaluation; and what these reach.
MAY_IMPORT = {
    "model": {"model"},
    "checkpoints": set(),
    "perception": {"perception", "model", "checkpoints"},
    "node": {"node", "perception", "model", "checkpoints"},
    "evaluation": {"evaluation", "perception", "model", "checkpoints"},
    "training": {"training", "evaluation", "perception", "model", "checkpoints"},
}
# `vidllm replay` drives the node over ROS, so it lives in node/; what it measures and draws comes from evaluation.
REPLAY = "vidllm_ros.node.replay"
GENERATED = {"action", "msg", "srv"}
ROS_PACKAGES = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_updater",
    "launch",
    "launch_ros",
    "message_filters",
    "rcl_interfaces",
    "rclpy",
    "ros2cli",
    "rosbag2_py",
    "rosidl_runtime_py",
    "sensor_msgs_py",
    "tf2_py",
    "tf2_ros",
}

# Imports every module outside node/ in an interpreter in which no ROS package can be found.
IMPORT_WITHOUT_ROS = """
import importlib, importlib.abc, sys

GENERATED = ("vidllm_ros.msg", "vidllm_ros.srv", "vidllm_ros.action")

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ROS or top.endswith(("_msgs", "_srvs")) or name in GENERATED:
            raise ImportError("ROS is not here: " + name)

sys.meta_path.insert(0, Refuse())
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    names = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def imports(name: str, source: str, is_package: bool = False) -> Iterator[str]:
    """The dotted names a module imports, wherever in it the import stands; `from a import b` gives a.b."""
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant))


def is_ros(imported: str) -> bool:
    """Whether this name belongs to ROS, the generated half of this package included."""
    top, _, rest = imported.partition(".")
    if top == "vidllm_ros":
        return rest.partition(".")[0] in GENERATED
    return top in ROS_PACKAGES or top.endswith(("_msgs", "_srvs"))


def violations(name: str, imported: str) -> str | None:
    """Why module ``name`` must not import ``imported``; None when it may."""
    room = (name.split(".") + [""])[1]
    if is_ros(imported):
        return None if room == "node" else f"{name} imports {imported}: only node/ may import ROS"
    target = (imported.split(".") + [""])[1] if imported.startswith("vidllm_ros.") else ""
    if target == "evaluation" and name.startswith(REPLAY):
        return None
    if target in MAY_IMPORT and target not in MAY_IMPORT.get(room, set()):
        return f"{name} imports {imported}: {room or 'the package itself'} may not import {target}"
    return None


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=modules())
def test_arrows_point_one_way(name, file):
    found = [violations(name, i) for i in imports(name, file.read_text(encoding="utf-8"), file.name == "__init__.py")]
    assert not [v for v in found if v]


@pytest.mark.parametrize(
    ("name", "source", "allowed"),
    [
        ("vidllm_ros.perception.pipeline", "from vidllm_ros.model import VidLLM", True),
        ("vidllm_ros.training.loop", "from ..model import losses", True),
        ("vidllm_ros.node.main", "def f():\n    import rclpy", True),
        ("vidllm_ros.node.main", "from vidllm_ros.msg import WindowInfo", True),
        ("vidllm_ros.evaluation.bags", "from rosbags.highlevel import AnyReader", True),
        ("vidllm_ros.node.replay_player", "from vidllm_ros.evaluation.bags import Bag", True),
        ("vidllm_ros.node.session", "from vidllm_ros.evaluation.bags import Bag", False),
        ("vidllm_ros.model.encoder", "from ..perception import types", False),
        ("vidllm_ros.model.encoder", "from vidllm_ros import perception", False),
        ("vidllm_ros.perception.pipeline", "def f():\n    from vidllm_ros.training.sample import Sample", False),
        ("vidllm_ros.node.main", "import vidllm_ros.training.loop", False),
        ("vidllm_ros.evaluation.replay", "from vidllm_ros.node import client", False),
        ("vidllm_ros.evaluation.replay", "from sensor_msgs.msg import Image", False),
        ("vidllm_ros.perception.pipeline", "from vidllm_ros.srv import Query", False),
        ("vidllm_ros.perception.pipeline", "import importlib\nimportlib.import_module('rclpy')", False),
        ("vidllm_ros.cli", "from vidllm_ros.node.main import main", False),
    ],
)
def test_the_check_itself_tells_right_from_wrong(name, source, allowed):
    assert all(violations(name, imported) is None for imported in imports(name, source)) == allowed


def test_everything_but_the_node_imports_without_ros():
    wanted = [name for name in modules() if name.split(".")[1:2] != ["node"] and not name.endswith("__main__")]
    code = f"ROS = {sorted(ROS_PACKAGES)!r}\n{IMPORT_WITHOUT_ROS}"
    result = subprocess.run(
        [sys.executable, "-c", code, *wanted], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_names_of_generated_modules_stay_free():
    taken = [PACKAGE / name for name in GENERATED] + [PACKAGE / f"{name}.py" for name in GENERATED]
    assert not [path for path in taken if path.exists()]


def test_tests_are_not_packages():
    # A test package would put the repository first on sys.path and hide the installed half of vidllm_ros.
    assert not list((ROOT / "test").rglob("__init__.py"))
