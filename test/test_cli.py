"""The `vidllm` command: lazy, and clear when something is missing."""

from __future__ import annotations

import argparse
import importlib
import runpy
import subprocess
import sys
import types

import pytest
from places import REPOSITORY

from vidllm_ros import cli

# One full call of each command.
EXAMPLES = {
    "replay": ["replay", "a_bag", "--ask", "How many chairs are in the room?"],
    "ask": ["ask", "a_folder", "How many chairs are in the room?"],
    "evaluate": ["evaluate", "rooms"],
    "train": ["train", "--phase", "geometry", "--out", "a_run"],
    "rooms": ["rooms", "--bag", "a_bag"],
    "convert": ["convert", "--vggt", "model.safetensors", "--out", "a_checkpoint"],
    "doctor": ["doctor", "--node", "/robot1/vidllm"],
}


@pytest.fixture
def command(monkeypatch):
    """Registers a subcommand `try` that does what it is told."""

    def register(run):
        module = types.ModuleType("a_room")

        def add_parser(subparsers):
            parser = subparsers.add_parser("try")
            parser.add_argument("--times", type=int, default=1)
            parser.set_defaults(run=run)

        module.add_parser = add_parser
        monkeypatch.setitem(sys.modules, "a_room", module)
        monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("a_room", "Try."))

    return register


def test_help_lists_every_command_and_imports_none():
    code = "import sys; from vidllm_ros import cli\ntry: cli.main(['--help'])\nfinally: print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    *text, loaded = result.stdout.splitlines()
    words = " ".join(" ".join(text).split())
    for name, entry in cli.COMMANDS.items():
        assert f" {name} {entry.summary}" in words
    assert not {"torch", "numpy", "rclpy"} & set(loaded.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_own_help(name, capsys):
    if name == "replay":
        pytest.importorskip("rclpy", reason="replay drives the node over ROS 2")
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: vidllm {name} [-h]")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_runs(name):
    parser = argparse.ArgumentParser()
    entry = cli.COMMANDS[name]
    getattr(importlib.import_module(entry.module), entry.add_parser)(parser.add_subparsers(required=True))
    assert callable(parser.parse_args(EXAMPLES[name]).run)


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (3, 3)])
def test_runs_the_named_command_with_its_arguments(command, result, status):
    seen = []

    def run(arguments):
        seen.append(arguments.times)
        return result

    command(run)
    assert cli.main(["try", "--times", "4"]) == status
    assert seen == [4]


def test_wrong_use_exits_with_2_and_names_the_choices(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["no_such_command"])
    assert stop.value.code == 2
    assert "replay" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("jinja2", "pip install 'vidllm_ros[viz]'"),
        ("rosbags", "pip install 'vidllm_ros[eval]'"),
        ("rclpy", "source your ROS 2 installation"),
        ("sensor_msgs", "source your ROS 2 installation"),
        ("vidllm_ros.srv", "colcon build"),
        ("scipy", "scipy is not installed"),
    ],
)
def test_missing_package_says_what_to_install(command, capsys, missing, expected):
    def run(_):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    command(run)
    assert cli.main(["try"]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_own_errors_become_one_line_and_bugs_keep_their_traceback(command, capsys):
    class OwnError(ValueError):
        """An error of this package."""

        __module__ = "vidllm_ros.somewhere"

    def raises(error):
        def run(_):
            raise error

        return run

    for error in (OwnError("stride 0 is below 1"), FileNotFoundError(2, "No such file or directory", "a.mcap")):
        command(raises(error))
        assert cli.main(["try"]) == 1
        assert capsys.readouterr().err == f"vidllm: error: {error}\n"
    for error in (KeyError("bug"), ModuleNotFoundError("No module named 'vidllm_ros.gone'", name="vidllm_ros.gone")):
        command(raises(error))
        with pytest.raises(type(error)):
            cli.main(["try"])


def test_interrupt_exits_with_130(command):
    def run(_):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["try"]) == 130


def test_reader_that_has_gone_is_no_error_message():
    code = """
import sys, types
from vidllm_ros import cli

room = types.ModuleType("a_room")
room.add_parser = lambda subparsers: subparsers.add_parser("try").set_defaults(run=lambda _: print("text"))
sys.modules["a_room"] = room
cli.COMMANDS["try"] = cli.Command("a_room", "Try.")
sys.exit(cli.main(["try"]))
"""
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    reader.stdin.close()
    assert (result.returncode, result.stderr) == (1, "")


def test_processes_that_load_data_may_import_the_script():
    """Spawned processes run the main file again, under another name; without a guard they would train too."""
    runpy.run_path(str(REPOSITORY / "scripts" / "vidllm"), run_name="__mp_main__")
