"""The arrows between the rooms of the package point one way only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import REPOSITORY

PACKAGE = REPOSITORY / "vidllm_ros"

# Each room and the rooms it may import. Node, replay and doctor are at the top: nothing else imports them.
MAY_IMPORT = {
    "model": {"model"},
    "checkpoints": set(),
    "perception": {"perception", "model", "checkpoints"},
    "node": {"node", "perception", "model", "checkpoints"},
    "replay": {"replay", "node", "evaluation", "perception", "model", "checkpoints"},
    "doctor": {"doctor", "node", "perception", "model", "checkpoints"},
    "evaluation": {"evaluation", "perception", "model", "checkpoints"},
    "training": {"training", "evaluation", "perception", "model", "checkpoints"},
}
# Rooms within rooms, and the siblings each may import. What stands at the door of a room may import all of them, and be
# imported by them.
MAY_IMPORT_SIBLINGS = {
    "model.reconstruction": set(),
    "model.reasoning": set(),
    "model.convert": {"reconstruction", "reasoning"},
    "perception.windows": set(),
    "perception.geometry": set(),
    "perception.adjustment": {"geometry"},
    "perception.registration": {"adjustment", "geometry"},
    "perception.mapping": {"geometry"},
    "perception.scenes": {"geometry", "mapping"},
    "node.parameters": set(),
    "node.input": {"parameters"},
    "node.frames": {"parameters"},
    "node.output": {"input", "parameters"},
    "node.questions": {"frames", "output", "parameters"},
    "evaluation.metrics": set(),
    "evaluation.recordings": {"metrics"},
    "evaluation.benchmarks": {"metrics"},
    "evaluation.report": {"metrics", "recordings"},
    "training.rooms": set(),
    "training.data": {"rooms"},
    "training.losses": {"rooms"},
    "training.metric_depth": {"rooms"},
    "training.stages": {"data", "losses", "rooms"},
    "training.ablation": {"data", "evaluate", "losses", "rooms", "stages"},
    "training.evaluate": {"data", "losses", "rooms", "stages"},
}
WITH_ROS = {"node", "replay", "doctor"}
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

# Imports every module outside WITH_ROS in an interpreter in which no ROS package can be found.
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
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
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


def place(name: str) -> tuple[str, str]:
    """The room a dotted name of ours belongs to and the room within it; "" for none."""
    parts = (name.split(".") + ["", ""])[1:3]
    within = parts[1] if f"{parts[0]}.{parts[1]}" in MAY_IMPORT_SIBLINGS else ""
    return parts[0], within


def violations(name: str, imported: str) -> str | None:
    """Why module ``name`` must not import ``imported``; None when it may."""
    room, within = place(name)
    if is_ros(imported):
        return None if room in WITH_ROS else f"{name} imports {imported}: only {', '.join(WITH_ROS)} may import ROS"
    if not imported.startswith("vidllm_ros."):
        return None
    target, target_within = place(imported)
    if target in MAY_IMPORT and target not in MAY_IMPORT.get(room, set()):
        return f"{name} imports {imported}: {room or 'the package itself'} may not import {target}"
    if target == room and within and target_within not in ("", within, *MAY_IMPORT_SIBLINGS[f"{room}.{within}"]):
        return f"{name} imports {imported}: {room}/{within} may not import {room}/{target_within}"
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
        ("vidllm_ros.evaluation.recordings.bags", "from rosbags.highlevel import AnyReader", True),
        ("vidllm_ros.perception.mapping.builder", "from vidllm_ros.perception.geometry.transforms import invert", True),
        ("vidllm_ros.perception.mapping.builder", "from vidllm_ros.perception.config import MapConfig", True),
        ("vidllm_ros.perception.pipeline", "from vidllm_ros.perception.scenes.scene import window_scene", True),
        ("vidllm_ros.perception.geometry.features", "from vidllm_ros.perception.mapping import cloud", False),
        ("vidllm_ros.model.reasoning.patches", "from vidllm_ros.model.reconstruction.rope import rotate", False),
        ("vidllm_ros.node.session", "from vidllm_ros.replay.client import VidllmClient", False),
        ("vidllm_ros.doctor.graph", "from vidllm_ros.evaluation.recordings.bags import Bag", False),
        ("vidllm_ros.replay.player", "from vidllm_ros.evaluation.recordings.bags import Bag", True),
        ("vidllm_ros.node.session", "from vidllm_ros.evaluation.recordings.bags import Bag", False),
        ("vidllm_ros.model.reconstruction.encoder", "from ...perception import types", False),
        ("vidllm_ros.model.reconstruction.encoder", "from vidllm_ros import perception", False),
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


@pytest.mark.slow
def test_everything_but_node_replay_and_doctor_imports_without_ros():
    wanted = [name for name in modules() if place(name)[0] not in WITH_ROS and not name.endswith("__main__")]
    code = f"ROS = {sorted(ROS_PACKAGES)!r}\n{IMPORT_WITHOUT_ROS}"
    result = subprocess.run(
        [sys.executable, "-c", code, *wanted], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_room_says_what_it_is_for_and_knows_its_siblings():
    folders = {file.parent for file in PACKAGE.rglob("*.py")} - {PACKAGE}
    for folder in folders:
        assert len(ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or "") > 40, (
            folder
        )
        inner = ".".join(folder.relative_to(PACKAGE).parts[:2])
        assert inner in MAY_IMPORT or inner in MAY_IMPORT_SIBLINGS, f"{inner} stands in neither table above"
        assert len(list(folder.glob("*.py"))) <= 21, f"{folder} hides two rooms"


def test_names_of_generated_modules_stay_free():
    taken = [PACKAGE / name for name in GENERATED] + [PACKAGE / f"{name}.py" for name in GENERATED]
    assert not [path for path in taken if path.exists()]


def test_tests_are_not_packages():
    # A test package would put the repository first on sys.path and hide the installed half of vidllm_ros.
    assert not list((REPOSITORY / "test").rglob("__init__.py"))
