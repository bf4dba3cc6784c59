"""The package as it is built, installed and released."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest import mock

import pytest
from places import REPOSITORY

INTERFACES = sorted(
    p.relative_to(REPOSITORY).as_posix() for kind in ("msg", "srv", "action") for p in REPOSITORY.glob(f"{kind}/*")
)

# Import name -> name on PyPI, where they differ.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python", "yaml": "PyYAML"}


def setup_arguments() -> dict:
    """What setup.py hands to setuptools."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(REPOSITORY / "setup.py"))
    return setup.call_args.kwargs


def distribution(requirement: str) -> str:
    """The normalised name in a requirement line."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def prefix() -> Path:
    """Where colcon installed this package; skips without a built workspace."""
    for folder in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if folder and Path(folder, "share/vidllm_ros/package.xml").is_file():
            return Path(folder)
    pytest.skip("vidllm_ros is not built: run `make build` and source tools/env.sh")


def test_one_version_everywhere():
    version = ET.parse(REPOSITORY / "package.xml").getroot().findtext("version")
    assert setup_arguments()["version"] == version
    changelog = (REPOSITORY / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(version)} \(.+\)\n-+$", changelog, re.MULTILINE)


def test_package_xml_is_valid_and_belongs_to_the_interface_packages():
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg comes with colcon")
    package = catkin_pkg.parse_package(str(REPOSITORY))
    warnings: list[str] = []
    package.validate(warnings)
    assert warnings == []
    assert package.get_build_type() == "ament_cmake"
    assert [group.name for group in package.member_of_groups] == ["rosidl_interface_packages"]
    assert package.licenses == ["Apache-2.0"]


def test_every_interface_is_built():
    cmake = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^  ((?:msg|srv|action)/\S+)$", cmake, re.MULTILINE)) == INTERFACES


@pytest.mark.parametrize("interface", INTERFACES)
def test_interface_parses(interface):
    parser = pytest.importorskip("rosidl_adapter.parser", reason="rosidl_adapter comes with ROS 2")
    kind = interface.partition("/")[0]
    parse = {
        "msg": parser.parse_message_file,
        "srv": parser.parse_service_file,
        "action": parser.parse_action_file,
    }[kind]
    specification = parse("vidllm_ros", str(REPOSITORY / interface))
    name = (
        getattr(specification, "msg_name", None)
        or getattr(specification, "srv_name", None)
        or specification.action_name
    )
    assert name == Path(interface).stem


def test_a_question_alone_is_a_full_request(prefix):
    from vidllm_ros.action import Query as QueryAction
    from vidllm_ros.srv import Query

    request = Query.Request(question="How many chairs are in the room?")
    assert (request.task, request.scope, request.max_new_tokens) == (
        Query.Request.TASK_AUTO,
        Query.Request.SCOPE_WINDOW,
        0,
    )
    assert (request.frame_id, request.timeout, request.stamp.sec, request.stamp.nanosec) == ("", 0.0, 0, 0)
    goal = QueryAction.Goal(question="How many chairs are in the room?")
    assert (goal.task, goal.scope, goal.frame_id, goal.max_new_tokens) == (0, 0, "", 0)


def test_query_error_codes_are_distinct(prefix):
    from vidllm_ros.srv import Query

    lines = (REPOSITORY / "srv/Query.srv").read_text(encoding="utf-8").partition("---")[2]
    codes = {name: int(value) for name, value in re.findall(r"^uint16 ([A-Z_]+)=(\d+)", lines, re.MULTILINE)}
    assert len(codes) == 11
    assert len(set(codes.values())) == len(codes)
    assert all(getattr(Query.Response, name) == value for name, value in codes.items())


@pytest.mark.parametrize("name", ["vidllm_node", "vidllm"])
def test_scripts_can_be_executed(name, prefix):
    for file in (REPOSITORY / "scripts" / name, prefix / "lib/vidllm_ros" / name):
        assert os.access(file, os.X_OK), f"{file} is not executable: `ros2 run` would not find it"
    assert (REPOSITORY / "scripts" / name).read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


def test_command_runs_from_the_installation(prefix, tmp_path):
    result = subprocess.run(
        [sys.executable, str(prefix / "lib/vidllm_ros/vidllm"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "replay" in result.stdout


def test_everything_is_installed(prefix):
    site_packages = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    if not site_packages.is_dir():
        site_packages = next(prefix.glob("**/vidllm_ros/msg")).parents[1]
    wanted = [
        (file, site_packages / file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "vidllm_ros").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    for folder in ("launch", "config", "msg", "srv", "action"):
        wanted += [
            (file, prefix / "share/vidllm_ros" / file.relative_to(REPOSITORY))
            for file in (REPOSITORY / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        ]
    missing = [str(source.relative_to(REPOSITORY)) for source, installed in wanted if not installed.is_file()]
    assert not missing, f"not installed: {missing}"
    # Of the two __init__.py of that name, ours must be the one that stays.
    init = (site_packages / "vidllm_ros/__init__.py").read_text(encoding="utf-8")
    assert init == (REPOSITORY / "vidllm_ros/__init__.py").read_text(encoding="utf-8")


def test_source_and_built_halves_are_one_package(prefix):
    code = "import vidllm_ros.cli as a, vidllm_ros.msg as b; print(a.__file__); print(b.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    source, built = result.stdout.splitlines()
    assert Path(source).parent == REPOSITORY / "vidllm_ros"
    assert prefix in Path(built).parents


def test_every_third_party_import_is_declared():
    arguments = setup_arguments()
    declared = {distribution(r) for r in arguments["install_requires"]}
    declared |= {
        distribution(r) for extra in ("train", "eval", "nyu", "viz") for r in arguments["extras_require"][extra]
    }
    imported = set()
    for file in (REPOSITORY / "vidllm_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                # PyTorch's writer of TensorBoard files needs the package of that name, and does not bring it.
                module = node.module.removeprefix("torch.utils." if "tensorboard" in node.module else "")
                imported.add(module.partition(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "resources.files":
                imported.add(ast.literal_eval(node.args[0]).partition(".")[0])
    ros = re.compile(r"rclpy|tf2_.*|cv_bridge|ament_.*|launch.*|.*_(msgs|msgs_py|srvs|interfaces)")
    third_party = {name for name in imported - set(sys.stdlib_module_names) - {"vidllm_ros"} if not ros.fullmatch(name)}
    assert {distribution(DISTRIBUTIONS.get(name, name)) for name in third_party} == declared


def test_pinned_versions_lie_in_the_declared_ranges():
    requirements = pytest.importorskip("packaging.requirements")
    arguments = setup_arguments()
    # The captions extra is a hundred megabytes of Java archives under other licences: nobody gets it unasked.
    extras = [ranges for name, ranges in arguments["extras_require"].items() if name != "captions"]
    ranges = [*arguments["install_requires"], *(wanted for extra in extras for wanted in extra)]
    lines = (REPOSITORY / "tools/requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [requirements.Requirement(line) for line in lines if "==" in line and not line.startswith("#")]
    for wanted in map(requirements.Requirement, ranges):
        found = [pin for pin in pins if pin.name.lower() == wanted.name.lower()]
        assert found, f"tools/requirements.txt does not pin {wanted.name}"
        for pin in found:
            version = next(iter(pin.specifier)).version
            assert version in wanted.specifier, f"{pin} is outside {wanted}"


def test_plain_colcon_build_does_not_see_the_stand_ins():
    colcon = shutil.which("colcon")
    if colcon is None:
        pytest.skip("colcon is not installed")
    command = [colcon, "--log-base", os.devnull, "list", "--names-only"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["vidllm_ros"]
    assert {path.parent.name for path in REPOSITORY.glob("tools/*/package.xml")} == {"tf2_msgs", "vision_msgs"}
