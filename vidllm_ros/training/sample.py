"""The one typed training sample that every data source yields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.model.outputs import Box3D


@dataclass(frozen=True)
class TextTask:
    """A question about a scene and its answer.

    Every length, direction and coordinate in the text is metric and in the scene frame: z up, origin at the first
    camera's
    centre, x along its horizontal viewing direction, y to its left.

    Attributes:
        kind: count, existence, colour, size, distance, relation, location, describe_object, describe_room, coordinates
            or locate; for free questions of published data sets question or situated_question.
        question: plain English.
        answer: the reference answer.
        box_ids: indices into ``Sample.boxes`` of the objects the answer is about (the targets of ``locate``).
        other_answers: further answers that people gave and that are as right.
    """

    kind: str
    question: str
    answer: str
    box_ids: tuple[int, ...] = ()
    other_answers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """``S`` posed RGB-D frames of one scene with its objects and text tasks.

    Attributes:
        name: where it came from, enough to make or find it again (``rooms/train/123``).
        rgb: uint8 [S, H, W, 3].
        depth: float32 [S, H, W] metres along the optical axis, 0 where unknown.
        T_world_camera: float64 [S, 4, 4], OpenCV optical camera to a world with z up and the floor at z = 0.
        intrinsics: float64 [S, 3, 3] pixels.
        boxes: labelled oriented boxes in world.
        colors: a colour name for each box, or empty where the source has none.
        instances: int16 [S, H, W], index into ``boxes``; -1 wall, -2 floor, -3 ceiling, -4 unknown.
        tasks: questions that these frames can answer.
    """

    name: str
    rgb: np.ndarray
    depth: np.ndarray
    T_world_camera: np.ndarray
    intrinsics: np.ndarray
    boxes: tuple[Box3D, ...]
    instances: np.ndarray
    tasks: tuple[TextTask, ...]
    colors: tuple[str, ...] = ()
