"""A node of our own for a replay: its own process, its own ROS domain, on this machine only."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.node.input.watch import profile_path

_PATIENCE = 30.0  # seconds a node may take to end before it is killed
_LAST_LINES = 12


class ReplayError(EvaluationError):
    """The node did not start, died, or did not answer."""


def free_domain() -> int:
    """A random domain other than the one this process is in."""
    ours = os.environ.get("ROS_DOMAIN_ID", "0")
    return random.SystemRandom().choice([domain for domain in range(1, 101) if str(domain) != ours])


def private_environment(domain: int | None = None) -> dict[str, str]:
    """Environment variables of a ROS domain that nobody else uses, on loopback, with shared memory for whole images."""
    values = {
        "ROS_DOMAIN_ID": str(free_domain() if domain is None else domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOCALHOST_ONLY": "1",  # what Humble reads instead
    }
    return {**values, **shared_memory()}


def shared_memory() -> dict[str, str]:
    """Environment variables that keep Fast DDS from losing large images; empty where the user has a profile."""
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    profile = profile_path()
    if profile is None or any(os.environ.get(name) for name in names):
        return {}
    # the second is what Humble reads; later ones read both and complain about it
    return {names[os.environ.get("ROS_DISTRO") == "humble"]: str(profile)}


class NodeProcess:
    """``python -m vidllm_ros.node`` with a parameter file; a context manager that ends it.

    Args:
        folder: gets ``node.yaml`` (the parameters) and ``node.log`` (what it says).
        parameters: of the node, by full name.
        name: of the node, with its namespace.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], name: str) -> None:
        self.log = folder / "node.log"
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
        file = folder / "node.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}, sort_keys=True), encoding="utf-8")
        command = [sys.executable, "-m", "vidllm_ros.node", "--ros-args", "--params-file", str(file.resolve())]
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [*command, "-r", f"__ns:={name.rpartition('/')[0]}", "-r", f"__node:={name.rpartition('/')[2]}"],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def __enter__(self) -> NodeProcess:
        """The running node."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    def check(self) -> None:
        """Raises ReplayError with the node's last words when it has ended."""
        if (code := self._process.poll()) is not None:
            raise ReplayError(f"the node ended with code {code}. The end of {self.log}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:]) or "  (it said nothing)"

    def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These environment variables while it lasts: the middleware of this process and of its child read them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
