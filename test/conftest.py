"""What every test shares: recorded data, where a machine has it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from places import REPOSITORY

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # processes side by side have a core each; PyTorch reads this when it is imported
    os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ["ros_fixtures"]

DATA_VARIABLE = "VIDLLM_ROS_TEST_DATA"


@pytest.fixture(scope="session")
def recorded_data() -> Callable[[str], Path]:
    """Path of a named recording; skips the test where it is absent.

    Recordings are looked for in $VIDLLM_ROS_TEST_DATA, by default in shared/data beside the repository.
    """
    root = Path(os.environ.get(DATA_VARIABLE) or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"no recording {name!r} in {root}; set {DATA_VARIABLE} to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A whole network of random weights that runs in milliseconds."""
    from miniature import vidllm

    folder = tmp_path_factory.mktemp("tiny")
    vidllm(seed=3).save_pretrained(folder, dtype="float32")
    return folder


@pytest.fixture
def evaluate(tiny_checkpoint, tmp_path, capsys):
    """Runs `vidllm evaluate` with that network; exit code, output and folder."""
    from vidllm_ros import cli

    def run(name, *arguments):
        out = tmp_path / "out"
        given = ["evaluate", name, "--checkpoint", str(tiny_checkpoint), "--out", str(out), *map(str, arguments)]
        return cli.main(given), capsys.readouterr(), out

    return run
