"""Recordings in ROS 2 bags (mcap or sqlite3), read with ``rosbags`` and therefore without a ROS installation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vidllm_ros.evaluation.errors import BagError

RAW_IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
IMAGE_TYPES = (RAW_IMAGE, COMPRESSED_IMAGE)
_STORAGE = (".mcap", ".db3")
_DEPTH_WORDS = ("depth", "disparity")


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: as recorded.
        type: for example ``sensor_msgs/msg/Image``.
        count: messages.
    """

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class RecordedFrame:
    """One image as it was recorded, with the calibration that goes with it.

    Attributes:
        stamp_ns: acquisition time from the header, nanoseconds.
        log_time_ns: when it was recorded.
        image: the serialised message (CDR).
        camera_info: serialised ``sensor_msgs/msg/CameraInfo``, or None.
    """

    stamp_ns: int
    log_time_ns: int
    image: bytes
    camera_info: bytes | None


class Bag:
    """An open bag and the image topic that was chosen in it; a context manager.

    Args:
        path: the bag's folder, or one ``.mcap`` or ``.db3`` file.
        topic: image topic; empty to choose the only colour image topic. A name without ``/compressed`` finds that too.
        camera_info_topic: empty to take ``camera_info`` from the image topic's namespace, when the bag has it.

    Raises:
        BagError: no bag there, a bag that cannot be read or is empty, or a topic it does not have; the message lists
            what it has.
    """

    def __init__(self, path: str | Path, topic: str = "", camera_info_topic: str = "") -> None:
        self.path = Path(path)
        self.types = get_typestore(Stores.ROS2_JAZZY)
        self._stack = ExitStack()
        try:
            self._reader = self._stack.enter_context(Reader(_storage(self.path)))
            _register(self.types, self._reader.connections)
            self.topics = {
                name: Topic(name, info.msgtype or "of several types", info.msgcount)
                for name, info in sorted(self._reader.topics.items())
            }
        except BagError:
            raise
        except Exception as error:  # the reader raises whatever its storage library does on a damaged file
            raise BagError(f"bag {self.path} cannot be read: {error or type(error).__name__}") from error
        try:
            if not sum(t.count for t in self.topics.values()):
                raise BagError(f"bag {self.path} is empty: it holds no messages.")
            self.image_topic = self._choose_image(topic)
            self.camera_info_topic = self._choose_camera_info(camera_info_topic)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bag:
        """The bag itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @property
    def image_type(self) -> str:
        """Message type of the image topic."""
        return self.topics[self.image_topic].type

    @property
    def frame_count(self) -> int:
        """Images on the image topic."""
        return self.topics[self.image_topic].count

    def messages(
        self, *topics: str, start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Topic, log time in nanoseconds and serialised message, in recorded order; unknown topics give nothing.

        ``start`` (inclusive) and ``stop`` (exclusive) bound the log time.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        try:
            for connection, log_time, data in self._reader.messages(connections, start, stop):
                yield connection.topic, log_time, bytes(data)
        except Exception as error:  # see __init__
            raise BagError(f"bag {self.path} is damaged: {error or type(error).__name__}") from error

    def message_at(self, topic: str, log_time: int) -> bytes:
        """The serialised message that was recorded on ``topic`` at ``log_time``."""
        return next(self.messages(topic, start=log_time, stop=log_time + 1))[2]

    def decode(self, data: bytes, topic: str) -> Any:
        """A message of ``topic`` as an object with the fields of its ROS type and NumPy arrays."""
        try:
            return self.types.deserialize_cdr(data, self.topics[topic].type)
        except Exception as error:  # see __init__
            raise BagError(f"a message on {topic} of bag {self.path} cannot be decoded: {error!r}") from error

    def frames(self) -> Iterator[RecordedFrame]:
        """The images in recorded order, each with the newest calibration that is not younger (else the first)."""
        calibrations = sorted(
            (stamp_ns(self.decode(data, topic)), data)
            for topic, _, data in (self.messages(self.camera_info_topic) if self.camera_info_topic else ())
        )
        stamps = [stamp for stamp, _ in calibrations]
        for topic, log_time, data in self.messages(self.image_topic):
            stamp = stamp_ns(self.decode(data, topic))
            index = max(bisect_right(stamps, stamp) - 1, 0)
            yield RecordedFrame(stamp, log_time, data, calibrations[index][1] if calibrations else None)

    def _choose_image(self, wanted: str) -> str:
        images = [t.name for t in self.topics.values() if t.type in IMAGE_TYPES]
        if wanted:
            name = "/" + wanted.strip("/")
            found = next((n for n in (name, name + "/compressed") if n in self.topics), None)
            if found is None:
                raise BagError(f"bag {self.path} has no topic {name}. {self._listing()}")
            if found not in images:
                raise BagError(
                    f"topic {found} holds {self.topics[found].type}, not {' or '.join(IMAGE_TYPES)}. {self._listing()}"
                )
            if not self.topics[found].count:
                raise BagError(f"topic {found} of bag {self.path} holds no messages. {self._listing()}")
            return found
        colour = [n for n in images if self.topics[n].count and not any(word in n.lower() for word in _DEPTH_WORDS)]
        if not colour:
            raise BagError(f"bag {self.path} has no colour image topic. {self._listing()}")
        # the same camera, raw and compressed: the raw one loses nothing
        cameras = [n for n in colour if not (n.endswith("/compressed") and n.removesuffix("/compressed") in colour)]
        if len(cameras) > 1:
            raise BagError(
                f"bag {self.path} has {len(cameras)} image topics: {', '.join(cameras)}. Choose one with --topic."
            )
        return cameras[0]

    def _choose_camera_info(self, wanted: str) -> str | None:
        if wanted:
            name = "/" + wanted.strip("/")
            if self.topics.get(name, Topic(name, "", 0)).type != CAMERA_INFO:
                raise BagError(f"bag {self.path} has no {CAMERA_INFO} on {name}. {self._listing()}")
            return name
        name = self.image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        found = self.topics.get(name)
        return name if found and found.type == CAMERA_INFO and found.count else None

    def _listing(self) -> str:
        rows = (f"\n  {t.name}  {t.type}  {t.count} messages" for t in self.topics.values())
        return "It has:" + "".join(rows)


def stamp_ns(message: Any) -> int:
    """Header stamp of a message in nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def _register(types: Typestore, connections: Iterable[Connection]) -> None:
    """Teach the store the types that only the bag describes."""
    for connection in connections:
        if connection.msgtype not in types.types and connection.msgdef.format is MessageDefinitionFormat.MSG:
            known = get_types_from_msg(connection.msgdef.data, connection.msgtype)
            types.register({name: fields for name, fields in known.items() if name not in types.types})


def is_bag(path: str | Path) -> bool:
    """Whether a path looks like a bag rather than a folder of frames."""
    path = Path(path)
    return path.suffix in (*_STORAGE, ".bag") or (path / "metadata.yaml").exists() or bool(_loose_storage(path))


def _loose_storage(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("*") if p.suffix in _STORAGE) if path.is_dir() else []


def _storage(path: Path) -> Path:
    """What the reader should open: the folder with its metadata, or a storage file."""
    if not path.exists():
        raise BagError(f"there is no bag at {path}.")
    if path.suffix == ".bag":
        raise BagError(f"{path} is a ROS 1 bag: convert it with 'rosbags-convert --src {path} --dst {path.stem}'.")
    if path.is_file() and path.suffix not in _STORAGE:
        raise BagError(f"{path} is no ROS 2 bag: expected a folder with metadata.yaml, or a .mcap or .db3 file.")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = _loose_storage(path)
        if len(files) != 1:
            raise BagError(f"{path} is no ROS 2 bag: it has no metadata.yaml and {len(files)} .mcap or .db3 files.")
        return files[0]
    return path
