"""From a seed to a training sample or to a long video of one room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vidllm_ros.training.rooms.camera_path import NOMINAL_RATE_HZ, camera_path, intrinsic_matrix
from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.layout import Room, build_room
from vidllm_ros.training.rooms.renderer import Renderer
from vidllm_ros.training.rooms.shading import Exposure, develop
from vidllm_ros.training.rooms.style import RoomStyle, style_named
from vidllm_ros.training.rooms.tasks import room_tasks
from vidllm_ros.training.sample import Sample

#: A split's number is the first word of every random seed, so that rooms of two splits can never be the same.
SPLITS = {"train": 1, "val": 2, "test": 3}

_STREAMS = {"room": 0, "path": 1, "camera": 2, "noise": 3, "tasks": 4}


def random_stream(split: str, seed: int, stream: str) -> np.random.Generator:
    """An independent random stream of one room: ``room``, ``path``, ``camera``, ``noise`` or ``tasks``."""
    if split not in SPLITS:
        raise RoomError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    if seed < 0:
        raise RoomError(f"seed {seed} is negative; room seeds start at 0")
    return np.random.default_rng(np.random.SeedSequence((SPLITS[split], seed), spawn_key=(_STREAMS[stream],)))


def room(seed: int, split: str = "train", style: str | RoomStyle = "robot") -> Room:
    """The room of a seed, without any picture of it."""
    return build_room(random_stream(split, seed, "room"), style_named(style))


def _exposure(rng: np.random.Generator, style: RoomStyle) -> Exposure:
    tint = rng.uniform(0.95, 1.05, 3)
    gain = rng.uniform(1.2, 1.65) * tint
    return Exposure(tuple(gain), float(rng.uniform(0.05, 0.25)), style.sensor_noise)


def _check(frames: int, image_size: tuple[int, int]) -> None:
    if frames < 1:
        raise RoomError(f"frames is {frames}; at least 1 is needed")
    if min(image_size) < 8:
        raise RoomError(f"image size {image_size} is too small; height and width must be at least 8 pixels")


@dataclass(frozen=True, eq=False)
class RoomFrame:
    """One frame of a room video.

    Attributes:
        stamp_ns: nanoseconds since the start.
        rgb: uint8 [H, W, 3].
        depth: float32 [H, W] metres along the optical axis.
        instances: int16 [H, W], as in ``Sample``.
        T_world_camera: float64 [4, 4].
    """

    stamp_ns: int
    rgb: np.ndarray
    depth: np.ndarray
    instances: np.ndarray
    T_world_camera: np.ndarray


class RoomVideo:
    """A long camera path through one room, rendered frame by frame while it is iterated."""

    def __init__(
        self,
        seed: int,
        split: str = "test",
        frames: int = 96,
        image_size: tuple[int, int] = (480, 640),
        rate_hz: float = NOMINAL_RATE_HZ,
        *,
        style: str | RoomStyle = "robot",
        threads: int = 1,
    ) -> None:
        """See ``room_video``."""
        _check(frames, image_size)
        if not rate_hz > 0:
            raise RoomError(f"rate_hz is {rate_hz}; it must be positive")
        self.style = style_named(style)
        self.seed, self.split, self.image_size, self.rate_hz = seed, split, image_size, rate_hz
        self.room = room(seed, split, self.style)
        camera = random_stream(split, seed, "camera")
        self.intrinsics = intrinsic_matrix(image_size, float(camera.uniform(*self.style.horizontal_fov)))
        self._exposure = _exposure(camera, self.style)
        self.T_world_camera = camera_path(self.room, self.style, frames, random_stream(split, seed, "path"), rate_hz)
        self.boxes = tuple(thing.box for thing in self.room.objects)
        self._threads = threads

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.T_world_camera)

    def __iter__(self) -> Iterator[RoomFrame]:
        """Render the frames in order."""
        renderer = Renderer(self.room, self.style.shadows, self._threads)
        noise = random_stream(self.split, self.seed, "noise")
        for k, pose in enumerate(self.T_world_camera):
            linear, depth, instances = renderer.render(pose, self.intrinsics, self.image_size)
            stamp = round(k * 1e9 / self.rate_hz)
            yield RoomFrame(stamp, develop(linear, self._exposure, noise), depth, instances, pose)


def room_video(
    seed: int,
    split: str = "test",
    frames: int = 96,
    image_size: tuple[int, int] = (480, 640),
    rate_hz: float = NOMINAL_RATE_HZ,
    *,
    style: str | RoomStyle = "robot",
    threads: int = 1,
) -> RoomVideo:
    """A video of one room: poses, intrinsics, boxes and room at once, frames while it is iterated.

    Args:
        seed: which room of the split.
        split: train, val or test.
        frames: how many frames.
        image_size: (H, W) pixels.
        rate_hz: frames per second; the camera moves at the same speed whatever the rate.
        style: a preset's name or a ``RoomStyle``.
        threads: cores for ray casting.
    """
    return RoomVideo(seed, split, frames, image_size, rate_hz, style=style, threads=threads)


def room_sample(
    seed: int,
    split: str = "train",
    frames: int = 4,
    image_size: tuple[int, int] = (84, 112),
    *,
    style: str | RoomStyle = "robot",
    stride: int = 1,
    rate_hz: float = NOMINAL_RATE_HZ,
    tasks: int = 12,
    threads: int = 1,
) -> Sample:
    """A window of posed RGB-D frames of the seed's room; the same arguments always give the same sample.

    Args:
        seed: which room of the split, 0 or more.
        split: train, val or test; their rooms never coincide.
        frames: consecutive frames in the window.
        image_size: (H, W) pixels.
        style: a preset's name or a ``RoomStyle``.
        stride: take every ``stride``-th frame of the path.
        rate_hz: frame rate of the path; 4 Hz gives steps of 0.02 to 0.12 m and about 1 to 6 degrees.
        tasks: number of questions wanted; fewer when the frames show too little.
        threads: cores for ray casting.

    Raises:
        RoomError: for an unknown split or style, or a number out of range.
    """
    if stride < 1:
        raise RoomError(f"stride is {stride}; it must be at least 1")
    video = RoomVideo(seed, split, (frames - 1) * stride + 1, image_size, rate_hz, style=style, threads=threads)
    video.T_world_camera = video.T_world_camera[::stride]
    shots = list(video)
    sample = Sample(
        name=f"rooms/{split}/{seed}",
        rgb=np.stack([shot.rgb for shot in shots]),
        depth=np.stack([shot.depth for shot in shots]),
        T_world_camera=np.stack([shot.T_world_camera for shot in shots]),
        intrinsics=np.repeat(video.intrinsics[None], frames, axis=0),
        boxes=video.boxes,
        colors=tuple(thing.colour for thing in video.room.objects),
        instances=np.stack([shot.instances for shot in shots]),
        tasks=(),
    )
    if tasks < 1:
        return sample
    return replace(sample, tasks=room_tasks(sample, video.room.objects, random_stream(split, seed, "tasks"), tasks))
