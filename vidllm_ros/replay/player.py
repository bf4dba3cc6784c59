"""Plays the frames of a recording into a node, in lock-step or in real time."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidllm_ros.evaluation.recordings.bags import Bag, RecordedFrame
from vidllm_ros.evaluation.recordings.folders import FrameFolder
from vidllm_ros.evaluation.recordings.pacing import LockStep
from vidllm_ros.evaluation.report import images
from vidllm_ros.evaluation.results import SeenFrame
from vidllm_ros.node.input.camera import CameraInfoError, CameraReader
from vidllm_ros.node.input.images import ImageError, rgb_from_compressed, rgb_from_image
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.types import Frame
from vidllm_ros.replay.collector import Collector
from vidllm_ros.replay.link import QUEUE, ReplayLink
from vidllm_ros.replay.node_process import ReplayError

_PICTURES = 6
_KEPT_PICTURES = 200
_PICTURE_WIDTH = 320
_TF_AHEAD_NS = 300_000_000  # TF is sent this much earlier than the frame it is needed for
_ARRIVAL, _LAST_ARRIVAL = 60.0, 10.0  # seconds after which a frame counts as lost, in lock-step and in the end
_SETTLED = 3  # reports in a row in which the node is idle before it counts as done


class Progress:
    """What is being done, on stderr: one line that changes on a terminal, one line for each window elsewhere.

    Args:
        total: frames to play.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()

    def frame(self, sent: int) -> None:
        """So many frames were sent."""
        if self._terminal:
            self.say(f"frame {sent}/{self._total}")

    def window(self, sent: int, row: dict[str, Any]) -> None:
        """A window was finished."""
        seconds = sum(row[step] for step in row if step.endswith("_time"))
        text = f"frame {sent}/{self._total}  window {row['window_id']}: {row['status']}, {row['point_count']} points"
        reason = f"  {row['reason']}" if row["reason"] else ""
        self.say(f"{text}, {seconds:.2f} s{reason}")
        if self._terminal:
            print(file=sys.stderr)

    def say(self, text: str) -> None:
        """Any other step; nothing clears the line."""
        if self._terminal:
            print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)


class Player:
    """Sends frames and waits for windows.

    Args:
        recording: what to play.
        link: to the node.
        collector: sees the windows come.
        parameters: of the node: ``window.*`` and ``use_camera_info``.
        progress: told what happens.
        timeout: seconds one window may take.
    """

    def __init__(
        self,
        recording: Bag | FrameFolder,
        link: ReplayLink,
        collector: Collector,
        parameters: Mapping[str, Any],
        progress: Progress,
        timeout: float,
    ) -> None:
        self._recording = recording
        self._link = link
        self._collector = collector
        self._step = LockStep(PerceptionConfig().replace(_of_window(parameters)).window)
        self._uses_camera_info = parameters["use_camera_info"] != "never"
        self._progress = progress
        self._timeout = timeout
        self._reader = CameraReader(rectified=False)
        self._pictures: list[SeenFrame] = []
        self._newest: SeenFrame | None = None
        self._before = {"received": 0, "used": 0}
        self._expected = 0
        self._shown = 0
        self._every = 2
        self.sent = 0
        self.size = (0, 0)

    def play(self, count: int, rate: float | None, publish_tf: bool) -> None:
        """Send ``count`` frames: in lock-step, or at ``rate`` times the recorded speed.

        Raises:
            ReplayError: the node does not keep up its part.
        """
        self._before = {key: self._link.count(f"frames {key}") for key in ("received", "used")}
        self._every = max(2, count // (2 * _PICTURES))
        transforms = self._transforms() if publish_tf and isinstance(self._recording, Bag) else iter(())
        upcoming = next(transforms, None)
        started, first_log = time.monotonic(), None
        for frame in itertools.islice(self._recording.frames(), count):
            first_log = frame.log_time_ns if first_log is None else first_log
            while upcoming is not None and upcoming[1] <= frame.log_time_ns + _TF_AHEAD_NS:
                self._link.send_transforms(upcoming[0], upcoming[2])
                upcoming = next(transforms, None)
            if not self.sent:
                self._introduce_camera(frame)
            if rate is not None:
                time.sleep(max(0.0, started + (frame.log_time_ns - first_log) / 1e9 / rate - time.monotonic()))
            self._collector.now_ns = frame.stamp_ns
            self._collector.sent_at[frame.stamp_ns] = time.monotonic()
            self._link.send(frame)
            self.sent += 1
            self._progress.frame(self.sent)
            complete = self._follow(frame)
            if rate is None:
                self._keep_step(complete)
            self._show_windows()

    def finish(self) -> None:
        """Wait until the node has used what it accepted; the frames that wait become a last window."""
        if self._received() < self.sent:
            try:
                self._wait_for_arrival(_LAST_ARRIVAL)
            except ReplayError:
                lost = self.sent - self._received()
                print(f"vidllm: {lost} of {self.sent} frames were lost on the way to the node", file=sys.stderr)
        self._settle()
        self._link.client.enable(False)
        self._settle()
        self._show_windows()
        if waiting := self._link.count("frames waiting"):
            print(f"vidllm: {waiting} frames at the end found no place in a window", file=sys.stderr)

    @property
    def used(self) -> int:
        """Frames the node has used in at least one window."""
        return self._link.count("frames used") - self._before["used"]

    def pictures(self) -> tuple[SeenFrame, ...]:
        """A few frames, evenly over the recording; mostly such as the node sent depth of."""
        seen = {f.stamp_ns: f for f in [*self._pictures, *([self._newest] if self._newest else [])]}
        with_depth = [f for stamp, f in seen.items() if stamp in self._collector.depth]
        chosen = _evenly(with_depth, _PICTURES)
        others = [f for f in seen.values() if f not in with_depth]
        chosen += _evenly(others, _PICTURES - len(chosen))
        return tuple(sorted(chosen, key=lambda f: f.stamp_ns))

    def _keep_step(self, complete: bool) -> None:
        if complete:
            self._expected += 1
            self._wait_for_window(self._expected)
            self._step.finish(placed=self._collector.windows[self._expected - 1]["status"] != "rejected")
        elif self.sent - self._received() >= QUEUE // 2:
            self._wait_for_arrival(_ARRIVAL)

    def _wait_for_window(self, count: int) -> None:
        def there() -> bool:
            if failed := self._link.count("failures in a row"):
                raise ReplayError(f"{failed} windows failed in the node: {self._link.value('last error')}")
            return len(self._collector.windows) >= count

        self._wait_for_arrival(_ARRIVAL)
        self._link.wait(there, self._timeout, f"window {count - 1}")

    def _wait_for_arrival(self, patience: float) -> None:
        hint = "a node with image_qos: sensor_data may lose some; set it to default, or play with --rate 1"
        self._link.wait(lambda: self._received() >= self.sent, patience, f"{self.sent} frames to arrive ({hint})")

    def _settle(self) -> None:
        """Until the node has been idle for a while."""
        since = self._link.reports

        def idle() -> bool:
            nonlocal since
            if self._link.value("worker") != "idle":
                since = self._link.reports
            return self._link.reports - since >= _SETTLED

        self._link.wait(idle, self._timeout, "the node to finish")

    def _received(self) -> int:
        return self._link.count("frames received") - self._before["received"]

    def _show_windows(self) -> None:
        for row in self._collector.windows[self._shown :]:
            self._progress.window(self.sent, row)
            self._shown += 1

    def _introduce_camera(self, frame: RecordedFrame) -> None:
        """The calibration ahead of the first frame, so that every frame has it."""
        if frame.camera_info is None:
            return
        before = self._link.count("camera_info")
        self._link.send_camera_info(frame)
        if self._uses_camera_info:
            self._link.wait(lambda: self._link.count("camera_info") > before, self._timeout, "camera_info to arrive")

    def _follow(self, recorded: RecordedFrame) -> bool:
        """Whether this frame completes a window of the node."""
        try:
            frame = self._decode(recorded)
        except (ImageError, CameraInfoError):
            return False  # the node leaves it out and says why
        self.size = (frame.rgb.shape[1], frame.rgb.shape[0])
        accepted = self._step.accepted
        complete = self._step.send(frame)
        picture = SeenFrame(frame.stamp_ns, images.resize(frame.rgb, _PICTURE_WIDTH))
        if self._step.accepted > accepted:
            self._newest = picture  # of the last window, if it is shorter
        if complete or self.sent % self._every == 1:
            self._pictures.append(picture)
            if len(self._pictures) > _KEPT_PICTURES:
                del self._pictures[1::2]
        return complete

    def _decode(self, recorded: RecordedFrame) -> Frame:
        """The frame as the node sees it."""
        message = self._recording.decode(recorded.image, self._recording.image_topic)
        rgb = rgb_from_compressed(message) if hasattr(message, "format") else rgb_from_image(message)
        camera = None
        if recorded.camera_info is not None and self._uses_camera_info:
            camera = self._reader.read(self._recording.decode(recorded.camera_info, self._recording.camera_info_topic))
        if camera is not None:
            rgb = camera.undistort(rgb)
        return Frame(rgb=rgb, stamp_ns=recorded.stamp_ns, frame_id=str(message.header.frame_id) or "camera")

    def _transforms(self) -> Any:
        assert isinstance(self._recording, Bag)
        yield from self._recording.messages("/tf_static", "/tf")


def _evenly(frames: list[SeenFrame], count: int) -> list[SeenFrame]:
    if count <= 0 or not frames:
        return []
    return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, count).astype(int))]


def _of_window(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name.startswith("window.")}
