"""A room video as files: a folder of frames, and its ground truth for scoring.

``ground_truth`` holds ``trajectory.tum`` (``stamp tx ty tz qx qy qz qw``, T_world_camera), ``boxes.json`` (``{"boxes":
[{"label", "colour", "center", "size", "rotation", "pixels"}]}`` in world, ``pixels`` being the most that one frame
shows) and ``questions.json`` (``{"questions": [{"kind", "question", "answer", "box_ids"}]}``, about everything the
video shows, in the scene frame of its first camera).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.evaluation.recordings.trajectory_files import write_tum
from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.generate import RoomFrame, RoomVideo, random_stream
from vidllm_ros.training.rooms.layout import PlacedObject
from vidllm_ros.training.rooms.tasks import room_tasks
from vidllm_ros.training.rooms.visibility import visibility
from vidllm_ros.training.sample import Sample, TextTask

#: Nanoseconds of the first frame: some time in 2023. Zero means "unknown" to ROS.
FIRST_STAMP_NS = 1_700_000_000_000_000_000

DEPTH_SCALE = 1000.0


@dataclass
class VideoRecord:
    """What ground truth needs to remember of a video's frames while they go by.

    Attributes:
        video: the video.
        stamps_ns: stamps of the frames so far.
        instances: their instance images.
    """

    video: RoomVideo
    stamps_ns: list[int] = field(default_factory=list)
    instances: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: RoomFrame) -> int:
        """Note a frame; its stamp in the recording, in nanoseconds but whole microseconds, which survive as a float."""
        self.stamps_ns.append(FIRST_STAMP_NS + round(frame.stamp_ns / 1000) * 1000)
        self.instances.append(frame.instances)
        return self.stamps_ns[-1]

    def sample(self) -> Sample:
        """The whole video without its pictures: enough to tell what it shows."""
        count, (height, width) = len(self.stamps_ns), self.video.image_size
        return Sample(
            name=f"rooms/{self.video.split}/{self.video.seed}",
            rgb=np.zeros((0, height, width, 3), np.uint8),
            depth=np.zeros((0, height, width), np.float32),
            T_world_camera=self.video.T_world_camera[:count],
            intrinsics=np.repeat(self.video.intrinsics[None], count, axis=0),
            boxes=self.video.boxes,
            instances=np.stack(self.instances),
            tasks=(),
        )


def new_folder(path: str | Path) -> Path:
    """An output folder that is not there yet, so that nothing is ever overwritten.

    Raises:
        RoomError: when it exists.
    """
    path = Path(path)
    if path.exists():
        raise RoomError(f"{path} exists already; remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def box_row(thing: PlacedObject, pixels: int) -> dict[str, object]:
    """One entry of ``boxes.json``."""
    return {
        "label": thing.label,
        "colour": thing.colour,
        "center": thing.box.center.round(4).tolist(),
        "size": thing.box.size.round(4).tolist(),
        "rotation": thing.box.rotation.round(8).tolist(),
        "pixels": pixels,
    }


def write_ground_truth(record: VideoRecord, folder: Path, questions: int) -> tuple[TextTask, ...]:
    """Write ``trajectory.tum``, ``boxes.json`` and ``questions.json``; the questions."""
    folder.mkdir(parents=True)
    video, sample = record.video, record.sample()
    write_tum(folder / "trajectory.tum", np.array(record.stamps_ns), sample.T_world_camera)
    most = visibility(sample).pixels.max(axis=1, initial=0)
    rows = [box_row(thing, int(count)) for thing, count in zip(video.room.objects, most, strict=True)]
    _write_json(folder / "boxes.json", {"boxes": rows})
    tasks = room_tasks(sample, video.room.objects, random_stream(video.split, video.seed, "tasks"), questions)
    asked = [{"kind": t.kind, "question": t.question, "answer": t.answer, "box_ids": t.box_ids} for t in tasks]
    _write_json(folder / "questions.json", {"questions": asked})
    return tasks


def write_folder(
    video: RoomVideo, path: str | Path, questions: int = 40, on_frame: Callable[[int], None] | None = None
) -> Path:
    """Write a folder of PNG images with ``frames.json``, ``intrinsics.json``, depth in millimetres and ground truth.

    Args:
        video: what to write.
        path: a folder that does not exist yet.
        questions: how many questions to ask.
        on_frame: told the number of frames written so far.
    """
    folder = new_folder(path)
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    record, entries = VideoRecord(video), []
    for k, frame in enumerate(video):
        stamp = record.add(frame)
        rgb, depth = f"rgb/{k:06d}.png", f"depth/{k:06d}.png"
        cv2.imwrite(str(folder / rgb), frame.rgb[..., ::-1])
        cv2.imwrite(str(folder / depth), depth_millimetres(frame.depth))
        pose = frame.T_world_camera.round(9).tolist()
        entries.append({"stamp": stamp / 1e9, "rgb": rgb, "depth": depth, "T_world_cam": pose, "pose_ok": True})
        if on_frame:
            on_frame(k + 1)
    (fx, _, cx), (_, fy, cy) = video.intrinsics[:2].tolist()
    height, width = video.image_size
    camera = {"width": width, "height": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    _write_json(folder / "intrinsics.json", {**camera, "distortion": [0.0] * 5, "depth_scale": DEPTH_SCALE})
    _write_json(folder / "frames.json", {"frames": entries})
    write_ground_truth(record, folder / "ground_truth", questions)
    return folder


def depth_millimetres(depth: np.ndarray) -> np.ndarray:
    """Metres to the uint16 millimetres of depth images; 0 where unknown or too far."""
    millimetres = np.nan_to_num(depth * DEPTH_SCALE, nan=0.0, posinf=0.0)
    return np.where(millimetres < 65535.0, millimetres.round(), 0.0).astype(np.uint16)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
