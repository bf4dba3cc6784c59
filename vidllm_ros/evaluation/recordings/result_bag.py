"""Writes what the node published into a bag that Foxglove and RViz open, our own message types described in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vidllm_ros.evaluation.errors import BagError

FORMAT = 8  # of the metadata: read by Humble and everything since


def message_types(packages: Mapping[str, Path]) -> Typestore:
    """The types of ROS itself and those of more packages.

    Args:
        packages: for each package name the folder of its ``.msg`` files.
    """
    types = get_typestore(Stores.ROS2_JAZZY)
    for package, folder in packages.items():
        found = {}
        for file in sorted(folder.glob("*.msg")):
            name = f"{package}/msg/{file.stem}"
            if name not in types.types:
                found.update(get_types_from_msg(file.read_text(encoding="utf-8"), name))
        types.register(found)
    return types


class ResultBag:
    """A bag (mcap) that is written message by message; a context manager.

    Args:
        path: a folder that does not exist yet.
        types: describes every type that will be written.

    Raises:
        BagError: the folder exists or cannot be made.
    """

    def __init__(self, path: str | Path, types: Typestore) -> None:
        self._types = types
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(path, version=FORMAT, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise BagError(f"the result bag {path} cannot be written: {error}") from error

    def __enter__(self) -> ResultBag:
        """The bag itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        self._writer.close()

    def write(self, topic: str, kind: str, log_time_ns: int, data: bytes) -> None:
        """Add one serialised message (CDR)."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._types)
        self._writer.write(self._connections[topic], log_time_ns, data)
