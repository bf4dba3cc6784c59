"""A node in its own process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class NodeProcess:
    """A started node. What it prints is in ``log``."""

    def __init__(
        self,
        folder: Path,
        parameters: dict[str, object],
        arguments: list[str],
        script: Path | None,
        environment: dict[str, str],
    ) -> None:
        self.log_path = folder / "log.txt"
        command = [sys.executable, "-X", "faulthandler", *([str(script)] if script else ["-m", "vidllm_ros.node"])]
        command += ["--ros-args", *arguments, *parameter_arguments(parameters)]
        fixed = {"PYTHONUNBUFFERED": "1", "RCUTILS_COLORIZED_OUTPUT": "0", "ROS_LOG_DIR": str(folder)}
        environment = {**os.environ, **fixed, **environment}
        with self.log_path.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_log(self, pattern: str, timeout: float = 60.0) -> re.Match:
        return wait_for(lambda: re.search(pattern, self.log), timeout, lambda: f"'{pattern}' in:\n{self.log}")

    def stop(self, number: int = signal.SIGINT, timeout: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def kill(self) -> None:
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def parameter_arguments(parameters: dict[str, object]) -> list[str]:
    """For the command line of a node."""
    return [word for name, value in parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f"'{item}'" for item in value) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)


def wait_for(condition: Callable[[], object], timeout: float = 30.0, what: Callable[[], str] | None = None):
    """The first true value of ``condition``."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s: {what() if what else condition}"
        time.sleep(0.02)
