"""Runs the node for hours with a camera, questions and random faults, and says what it cost and whether it held.

    python benchmarks/soak.py --minutes 60 --rate 30

The node is a process of its own in a ROS domain of its own; everything reaches it through the middleware.
"""

from __future__ import annotations

import argparse
import array
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tables import machine

from vidllm_ros.replay.node_process import NodeProcess, environment, private_environment

NAME = "/soak/vidllm"
_SETTLED = 0.2  # the share of the run after which memory counts: caches fill and the map grows to its cap before


@dataclass
class Record:
    """What was seen; the lists belong to the thread that fills them."""

    sent: dict[int, float] = field(default_factory=dict)  # stamp -> when it was published
    images: int = 0
    latencies: list[float] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    unbalanced: int = 0
    restarts: int = 0
    account: dict[str, int] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    answer_seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    usage: list[tuple[float, int, int, int]] = field(default_factory=list)  # seconds, kilobytes, files, threads


class Camera:
    """Publishes a picture that pans over a texture, at a rate, and misbehaves when it is told to."""

    def __init__(self, client: object, record: Record, size: tuple[int, int], rate: float) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, Image

        self._record, self._rate = record, rate
        self._kind, self._info_kind = Image, CameraInfo
        self._clock = client.node.get_clock()
        self._publisher = client.node.create_publisher(Image, "/soak/image", qos_profile_sensor_data)
        self.info = client.node.create_publisher(CameraInfo, "/soak/camera_info", qos_profile_sensor_data)
        width, height = size
        coarse = np.random.default_rng(0).integers(0, 255, (height // 8 + 1, width // 4 + 1, 3), np.uint8)
        wall = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height]
        steps = range(0, width, max(1, width // 32))
        self._pictures = [np.ascontiguousarray(wall[:, step : step + width]) for step in steps]
        self.shift_ns, self.silent, self.damage, self.frame_id, self.smaller = 0, False, "", "camera", False

    def run(self, done: threading.Event) -> None:
        """Until ``done``."""
        count, following = 0, time.monotonic()
        there_and_back = [*range(len(self._pictures)), *reversed(range(len(self._pictures)))]
        while not done.is_set():
            if not self.silent:
                self._publish(self._pictures[there_and_back[count % len(there_and_back)]])
            count += 1
            following = max(following + 1 / self._rate, time.monotonic() - 0.5)
            done.wait(max(0.0, following - time.monotonic()))

    def _publish(self, rgb: np.ndarray) -> None:
        from vidllm_ros.node.conversions import ns_to_stamp

        rgb = np.ascontiguousarray(rgb[::2, ::2]) if self.smaller else rgb
        stamp = self._clock.now().nanoseconds + self.shift_ns
        height, width = rgb.shape[:2]
        message = self._kind(height=height, width=width, encoding="rgb8", step=3 * width)
        message.header.stamp, message.header.frame_id = ns_to_stamp(stamp), self.frame_id
        message.data = array.array("B")
        message.data.frombytes(memoryview(rgb).cast("B"))
        if self.damage:
            setattr(
                message,
                self.damage,
                {"encoding": "unknown", "step": 1, "height": 0, "data": array.array("B")}[self.damage],
            )
        self._record.sent[stamp] = time.monotonic()
        self._record.images += 1
        self._publisher.publish(message)
        if len(self._record.sent) > 20_000:
            for old in list(self._record.sent)[:10_000]:
                del self._record.sent[old]


class Faults:
    """One fault at random at a time, each ended again."""

    def __init__(self, client: object, camera: Camera, record: Record, seed: int) -> None:
        self._client, self._camera, self._record = client, camera, record
        self._random = random.Random(seed)

    def run(self, done: threading.Event, pause: float) -> None:
        """Until ``done``, with ``pause`` seconds between two on average."""
        faults = (
            self._camera_stops,
            self._stamps_jump,
            self._images_damaged,
            self._size_changes,
            self._frame_id_changes,
            self._camera_info_broken,
            self._question_cancelled,
            self._twenty_questions_at_once,
            self._reset,
            self._paused,
            self._deactivated,
        )
        while not done.wait(self._random.uniform(0.5, 1.5) * pause):
            fault = self._random.choice(faults)
            name = fault.__name__.strip("_").replace("_", " ")
            try:
                fault(done)
                self._record.faults[name] += 1
            except Exception as error:  # a refusal is counted; the run goes on
                self._record.faults[f"{name}: {error}"] += 1

    def _for_a_while(self, done: threading.Event, **values: object) -> None:
        before = {key: getattr(self._camera, key) for key in values}
        vars(self._camera).update(values)
        done.wait(self._random.uniform(0.2, 3.0))
        vars(self._camera).update(before)

    def _camera_stops(self, done: threading.Event) -> None:
        self._for_a_while(done, silent=True)

    def _stamps_jump(self, done: threading.Event) -> None:
        self._for_a_while(done, shift_ns=self._random.randint(-10_000, 10_000) * 1_000_000)

    def _images_damaged(self, done: threading.Event) -> None:
        self._for_a_while(done, damage=self._random.choice(["encoding", "step", "height", "data"]))

    def _size_changes(self, done: threading.Event) -> None:
        self._for_a_while(done, smaller=True)

    def _frame_id_changes(self, done: threading.Event) -> None:
        self._for_a_while(done, frame_id="another_camera")

    def _camera_info_broken(self, done: threading.Event) -> None:
        message = self._camera._info_kind(width=640, height=480)
        message.k = [self._random.uniform(-500.0, 500.0) for _ in range(9)]
        self._camera.info.publish(message)

    def _question_cancelled(self, done: threading.Event) -> None:
        self._client.stream("Describe the room.", lambda _: False, timeout=60.0)

    def _twenty_questions_at_once(self, done: threading.Event) -> None:
        from vidllm_ros.srv import Query

        request = Query.Request(question="How many chairs are in the room?", max_new_tokens=4)
        for reply in [self._client._query.call_async(request) for _ in range(20)]:
            self._client._wait(reply, 120)

    def _reset(self, done: threading.Event) -> None:
        self._client.reset()

    def _paused(self, done: threading.Event) -> None:
        self._client.enable(False)
        done.wait(self._random.uniform(0.2, 2.0))
        self._client.enable(True)

    def _deactivated(self, done: threading.Event) -> None:
        self._client.change_state("deactivate")
        self._client.change_state("activate")


def listen(client: object, record: Record) -> None:
    """Keeps what every window says."""
    from vidllm_ros.msg import WindowInfo
    from vidllm_ros.node.conversions import stamp_to_ns

    status = {getattr(WindowInfo, name): name[7:].lower() for name in dir(WindowInfo) if name.startswith("STATUS_")}

    def on_window(window: WindowInfo) -> None:
        sent = record.sent.get(stamp_to_ns(window.last_stamp))
        if sent is not None:
            record.latencies.append(time.monotonic() - sent)
        record.windows[status[window.status]] += 1
        account = dict(zip(window.drop_reasons, window.drop_counts, strict=True))
        total = window.used_frames + window.waiting_frames + sum(account.values())
        record.unbalanced += total != window.received_frames
        record.account = {"received": window.received_frames, "used": window.used_frames, **account}

    client.node.create_subscription(WindowInfo, f"{NAME}/window", on_window, 50)


def ask(client: object, record: Record, done: threading.Event, pause: float) -> None:
    """A question now and then, as a user would."""
    from vidllm_ros.replay.client import ClientError

    while not done.wait(pause):
        started = time.monotonic()
        try:
            client.ask("How many chairs are in the room?", max_new_tokens=16)
            record.answers["answered"] += 1
            record.answer_seconds.append(time.monotonic() - started)
        except ClientError as error:
            record.answers[f"refused with {error.code}"] += 1


def measure(pid: int, record: Record, done: threading.Event) -> None:
    """Memory, file handles and threads of the node, once a second."""
    started = time.monotonic()
    while not done.wait(1.0):
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes, threads = (int(re.search(rf"{key}:\s+(\d+)", status).group(1)) for key in ("VmRSS", "Threads"))
        record.usage.append((time.monotonic() - started, kilobytes, len(os.listdir(f"/proc/{pid}/fd")), threads))


def report(record: Record, minutes: float, arguments: argparse.Namespace) -> tuple[str, bool]:
    """The table, and whether the node held."""
    usage = np.array(record.usage, dtype=float)
    settled = usage[usage[:, 0] >= _SETTLED * usage[-1, 0]]
    slope = np.polyfit(settled[:, 0] / 3600, settled[:, 1] / 1024, 1)[0] if len(settled) > 2 else float("nan")
    windows = sum(record.windows.values())

    def percentiles(values: list[float]) -> str:
        return " / ".join(f"{v:.2f}" for v in np.percentile(values, [50, 90, 99, 100])) if values else "none"

    def counted(counts: Counter[str] | dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

    rows = [
        ["images sent", f"{record.images} ({record.images / minutes / 60:.1f} Hz for {minutes:.1f} minutes)"],
        ["windows", f"{windows} ({windows / minutes:.1f} a minute): {counted(record.windows)}"],
        ["age of the newest frame in a window, seconds: 50 / 90 / 99 / 100 %", percentiles(record.latencies)],
        ["account of frames since the node was last configured", counted(record.account)],
        ["windows whose account does not add up", str(record.unbalanced)],
        ["questions", counted(record.answers)],
        ["seconds to an answer: 50 / 90 / 99 / 100 %", percentiles(record.answer_seconds)],
        ["faults", counted(record.faults)],
        ["resident memory, MB: start, end, most", _memory(usage)],
        [f"its slope after the first {_SETTLED:.0%}, MB an hour", f"{slope:.1f}"],
        ["file handles: start, end", f"{usage[0, 2]:.0f}, {usage[-1, 2]:.0f}"],
        ["threads: start, end", f"{usage[0, 3]:.0f}, {usage[-1, 3]:.0f}"],
    ]
    title = (
        f"Soak: {arguments.checkpoint}, {arguments.size[0]} x {arguments.size[1]} at {arguments.rate:g} Hz, {machine()}"
    )
    lines = ["| | measured |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([f"{title}:", "", *lines, ""]), not record.unbalanced and windows > 0


def _memory(usage: np.ndarray) -> str:
    return ", ".join(f"{value / 1024:.0f}" for value in (usage[0, 1], usage[-1, 1], usage[:, 1].max()))


def main() -> int:
    """0 when the node lived, every account added up and windows came."""
    arguments = _arguments()
    from vidllm_ros.replay.client import VidllmClient

    record, done = Record(), threading.Event()
    folder = Path(arguments.out or tempfile.mkdtemp(prefix="soak_"))
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"checkpoint": arguments.checkpoint, "device": arguments.device}
    with (
        environment(private_environment()),
        NodeProcess(folder, parameters, NAME) as node,
        VidllmClient(NAME, name="soak") as client,
    ):
        client.wait_until_active(300)
        listen(client, record)
        camera = Camera(client, record, arguments.size, arguments.rate)
        jobs = [(camera.run, (done,)), (measure, (node._process.pid, record, done))]
        jobs.append((ask, (client, record, done, arguments.ask_every)))
        if arguments.fault_every:
            faults = Faults(client, camera, record, arguments.seed)
            jobs.append((faults.run, (done, arguments.fault_every)))
        threads = [threading.Thread(target=job, args=values) for job, values in jobs]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        try:
            while time.monotonic() - started < arguments.minutes * 60:
                node.check()
                time.sleep(1.0)
        finally:
            done.set()
            minutes = (time.monotonic() - started) / 60
            for thread in threads:
                thread.join(180)
    text, held = report(record, minutes, arguments)
    (folder / "soak.md").write_text(text, encoding="utf-8")
    columns = "seconds,resident_kilobytes,file_handles,threads"
    np.savetxt(folder / "usage.csv", record.usage, delimiter=",", header=columns, comments="", fmt="%.0f")
    print(text)
    print(f"node log, this table and usage.csv: {folder}")
    return 0 if held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--rate", type=float, default=30.0, help="images per second (30)")
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="of the images (640x480)")
    parser.add_argument("--fault-every", type=float, default=20.0, metavar="S", help="seconds; 0 for none (20)")
    parser.add_argument("--ask-every", type=float, default=10.0, metavar="S", help="seconds between questions (10)")
    parser.add_argument("--checkpoint", default="nano", help="folder, or nano (nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (0)")
    parser.add_argument("--out", help="folder for the node's log and the table (a temporary one)")
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 640x480")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
