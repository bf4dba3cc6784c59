"""Frames to windows to reconstruction to map to answers: the whole story."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from vidllm_ros.model import VidLLM
from vidllm_ros.perception.adjustment.refine import refine
from vidllm_ros.perception.adjustment.tracks import Tracks
from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.errors import DropReason, NoWindowError, StaleWindowError, StampNotHeldError
from vidllm_ros.perception.geometry.features import FeatureCache, FrameFeatures
from vidllm_ros.perception.geometry.reconstruct import reconstruct
from vidllm_ros.perception.mapping.anchoring import check_poses
from vidllm_ros.perception.mapping.builder import Decision, MapBuilder
from vidllm_ros.perception.mapping.cloud import PointCloud
from vidllm_ros.perception.mapping.stitching import Placement
from vidllm_ros.perception.out_of_memory import Attempt, attempts, free_memory
from vidllm_ros.perception.scenes.answers import SceneReader
from vidllm_ros.perception.scenes.scene import remembered_scene, window_scene
from vidllm_ros.perception.stopwatch import Stopwatch
from vidllm_ros.perception.types import (
    Answer,
    Box3D,
    Frame,
    Reconstruction,
    Scene,
    Timings,
    Window,
    WindowResult,
    WindowStatus,
)
from vidllm_ros.perception.windows.frames import FrameCounts
from vidllm_ros.perception.windows.window import Outcome, WindowBuffer


class Pipeline:
    """Perception as one object.

    ``accept`` may be called from callbacks, and ``reset``, ``configure``, ``map_points``, ``path`` and ``stats`` from
    any thread; they never wait for the network. What runs the network (``prepare_pending``, ``process``, ``scene``,
    ``ask``, ``locate``) belongs to one worker thread.

    Args:
        model: the network, on its device.
        config: everything that can be set.
    """

    def __init__(self, model: VidLLM, config: PerceptionConfig | None = None) -> None:
        self.model = model
        self.config = config or PerceptionConfig()
        self._lock = threading.RLock()
        self._buffer = WindowBuffer(self.config.window)
        self._features = FeatureCache(model, self.config.camera.use_known_intrinsics)
        self._tracks = Tracks()
        self._map = MapBuilder(model, self.config)
        self._reader = SceneReader(model)
        self._scenes: dict[int | str, tuple[object, Scene]] = {}  # with what each was made from
        self._next_id = 0

    def accept(self, frame: Frame) -> Window | None:
        """Stores a frame; the window that it completes, if any, which waits for ``next_window`` or ``process``.

        Raises:
            FrameRejected: the frame cannot be used.
        """
        return self._buffer.add(frame)

    def next_window(self, timeout: float | None = 0.0) -> Window | None:
        """The newest complete window, to be processed next; None after ``timeout`` seconds (None: never)."""
        return self._buffer.take(timeout)

    def flush(self) -> Window | None:
        """The frames that still wait, as a last window to be processed next; for the end of a recording, until None."""
        return self._buffer.flush()

    def prepare_pending(self) -> int:
        """Does what can be done for accepted frames before their window is full; how many were encoded.

        They are encoded, points are followed through them, and what is known of frames of no more use is freed.
        """
        frames = self._buffer.frames()
        self._keep_only(frames)
        if self.config.refine.enabled:
            self._tracks.follow(frames, self.config.refine)
        return self._features.encode(frames)

    def process(
        self, window: Window, T_map_camera: np.ndarray | None = None, up_camera: np.ndarray | None = None
    ) -> WindowResult:
        """Reconstructs a window and places it in the map.

        A window for which the memory does not suffice is tried once more with half of its frames; the result says so.

        Args:
            window: from ``next_window``, ``flush`` or ``accept``.
            T_map_camera: outside pose [4, 4] of the first frame's camera, when known; or [S, 4, 4] of all frames, rows
                of NaN where unknown, and then the scale comes from them too.
            up_camera: upward direction [3] in the first camera's optical frame, when known without a pose (a static
                TF).

        Raises:
            InferenceError: the network returned no geometry.
            StaleWindowError: a reset came in between.
            ValueError: ``T_map_camera`` is no pose.
        """
        with self._accounted(window):
            poses = None if T_map_camera is None else check_poses(T_map_camera, len(window.frames))
            for attempt in attempts(window, self.free_memory):
                clock = Stopwatch()
                with attempt:
                    seen = self._look(attempt.window)
                    clock.lap("encode")
                    reconstruction = self._reconstruct(attempt.window, seen)
                    reconstruction = self._adjust(attempt.window, reconstruction)
                    clock.lap("reconstruct")
            self._buffer.leave_out(attempt.left_out, DropReason.OUT_OF_MEMORY)
            window_id, decision, cloud = self._place(window, attempt, reconstruction, poses, up_camera)
            clock.lap("fuse")
            return _describe(window_id, attempt, reconstruction, decision, cloud, Timings(**clock.seconds))

    def _look(self, window: Window) -> FrameFeatures:
        """What the network finds in each frame alone."""
        return self._features.get(window.frames)

    def _reconstruct(self, window: Window, seen: FrameFeatures) -> Reconstruction:
        """The network's geometry of all frames together."""
        return reconstruct(self.model, window, seen, self.config.camera)

    def _adjust(self, window: Window, reconstruction: Reconstruction) -> Reconstruction:
        """Its cameras adjusted to points that the images share."""
        if not self.config.refine.enabled:
            return reconstruction
        return refine(reconstruction, self._tracks.find(window.frames, self.config.refine))

    def _place(
        self,
        whole: Window,
        attempt: Attempt,
        reconstruction: Reconstruction,
        poses: np.ndarray | None,
        up_camera: np.ndarray | None,
    ) -> tuple[int, Decision, PointCloud]:
        """Its place in the map, which it becomes a part of."""
        if poses is not None:
            poses = poses[attempt.indices]
            poses = poses if np.isfinite(poses).all(axis=(1, 2)).any() else None
        with self._lock:
            if not self._buffer.is_in_process(whole):
                raise StaleWindowError("the pipeline was reset while this window was processed; its result is void")
            decision = self._map.place(attempt.window, reconstruction, poses, up_camera)
            window_id, self._next_id = self._next_id, self._next_id + 1
            cloud = self._map.add(window_id, attempt.window, decision)
            held = dict(self._map.history)
            self._scenes = {key: scene for key, scene in self._scenes.items() if key in held}
            rejected = decision.status is WindowStatus.REJECTED
            self._buffer.finish(whole, Outcome.REJECTED if rejected else Outcome.PLACED)
        return window_id, decision, cloud

    @contextmanager
    def _accounted(self, window: Window) -> Iterator[None]:
        """Keeps the account of a window's frames while it is processed, whatever becomes of it."""
        self._buffer.begin(window)
        try:
            yield
        except BaseException:
            self._buffer.finish(window, Outcome.FAILED)
            raise
        finally:
            self._keep_only(self._buffer.frames())

    def discard(self, window: Window, reason: DropReason) -> None:
        """Leaves a window from ``next_window`` out; its frames that no other window held are dropped for ``reason``."""
        self._buffer.finish(window, Outcome.FAILED, reason)
        self._keep_only(self._buffer.frames())

    def free_memory(self) -> None:
        """Frees what can be made again: scenes, and what the language model has read of them."""
        with self._lock:
            self._scenes = {}
        self._reader.forget()
        free_memory()

    def locate(self, labels: Sequence[str] | None = None, window_id: int | str | None = None) -> list[Box3D]:
        """Boxes in map of ``labels`` (None: the configured ones) in the newest placed window, another one, or "all".

        Raises:
            NoWindowError, StampNotHeldError: as ``scene``.
        """
        wanted = self.config.detection.labels if labels is None else labels
        return self._reader.locate(self.scene(window_id), wanted, self.config.detection.min_score)

    def ask(
        self,
        question: str,
        *,
        window_id: int | str | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        on_text: Callable[[str], bool] | None = None,
    ) -> Answer:
        """Answers a question about a scene; boxes in map.

        Args:
            question: plain language.
            window_id: as ``scene``.
            max_new_tokens: None for ``query.max_new_tokens``.
            temperature: None for ``query.temperature``.
            on_text: gets the text that each token completes, "" when none; returning False stops the reply.

        Raises:
            NoWindowError, StampNotHeldError: as ``scene``.
            QuestionError: the question is empty or too long.
        """
        query = self.config.query
        tokens = query.max_new_tokens if max_new_tokens is None else max_new_tokens
        heat = query.temperature if temperature is None else temperature
        return self._reader.ask(self.scene(window_id), question, tokens, heat, on_text)

    def scene(self, window_id: int | str | None = None) -> Scene:
        """The scene of the newest placed window (None), of a window by its id, or of everything seen ("all").

        Raises:
            NoWindowError: nothing is in the map yet.
            StampNotHeldError: that window is not, or no longer, in the history.
        """
        with self._lock:
            history = dict(self._map.history)
            if not history:
                raise NoWindowError("no window has been placed in the map yet; wait for window.size frames")
            key = max(history) if window_id is None else window_id
            if key != "all" and key not in history:
                held = ", ".join(map(str, history))
                raise StampNotHeldError(f"window {key} is not held; the history holds windows {held}")
            source = self._map.memory.held if key == "all" else history[key]  # type: ignore[index]
            known = self._scenes.get(key)
        if known is None or known[0] is not source:
            if isinstance(source, Placement):
                known = (source, window_scene(self.model, source, int(key)))
            elif source is not None:
                known = (source, remembered_scene(self.model, source))
            else:
                raise NoWindowError("this checkpoint only reconstructs; it keeps no scene to ask about")
            self._scenes[key] = known
        return known[1]

    def window_at(self, stamp_ns: int) -> int:
        """The id of the newest held window that spans a time.

        Raises:
            NoWindowError: nothing is in the map yet.
            StampNotHeldError: no held window spans ``stamp_ns``.
        """
        with self._lock:
            spans = [(key, placed.reconstruction.stamps_ns) for key, placed in self._map.history]
        if not spans:
            raise NoWindowError("no window has been placed in the map yet; wait for window.size frames")
        for key, stamps in reversed(spans):
            if stamps[0] <= stamp_ns <= stamps[-1]:
                return key
        oldest, newest = spans[0][1][0], spans[-1][1][-1]
        raise StampNotHeldError(f"no held window spans {stamp_ns} ns; the history goes from {oldest} to {newest} ns")

    def map_points(self) -> tuple[np.ndarray, np.ndarray]:
        """The accumulated map: points float32 [P, 3] metres and colours uint8 [P, 3]."""
        with self._lock:
            cloud = self._map.voxels.cloud()
        return cloud.points, cloud.colors

    @property
    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps int64 [K] in nanoseconds and T_map_camera float64 [K, 4, 4]."""
        with self._lock:
            return self._map.path.poses()

    @property
    def stats(self) -> FrameCounts:
        """What became of every frame received since the pipeline was made, resets included."""
        return self._buffer.counts

    def configure(self, config: PerceptionConfig) -> None:
        """Other values from the next frame and the next window on."""
        with self._lock:
            self.config = config
            self._buffer.configure(config.window)
            self._map.configure(config)

    def reset(self) -> None:
        """Forgets frames, windows, map and path; the next window has id 0. The counts go on."""
        with self._lock:
            self._buffer.reset()
            self._map.clear()
            self._scenes = {}
            self._next_id = 0
        self._keep_only(())
        self._reader.forget()

    def _keep_only(self, frames: Sequence[Frame]) -> None:
        """Frees what was computed of other frames."""
        self._features.keep_only(frames)
        self._tracks.keep_only(frames)


def _describe(
    window_id: int,
    attempt: Attempt,
    reconstruction: Reconstruction,
    decision: Decision,
    cloud: PointCloud,
    timings: Timings,
) -> WindowResult:
    """Everything there is to publish about a window."""
    return WindowResult(
        window_id=window_id,
        window=attempt.window,
        reconstruction=reconstruction,
        T_map_window=decision.placement.T_map_window,
        status=decision.status,
        reason=decision.reason,
        scale_source=decision.scale_source,
        scale_ratio=decision.placement.scale_ratio,
        gravity_source=decision.gravity_source,
        points=cloud.points,
        colors=cloud.colors,
        point_confidence=cloud.confidence,
        timings=timings,
        warnings=attempt.warnings + decision.warnings,
    )
