"""What every test shares: recorded data, where a machine has it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
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
