"""Procedural indoor rooms: seeded, furnished, lit, filmed, with exact ground truth and questions."""

from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.furniture import LABELS
from vidllm_ros.training.rooms.generate import SPLITS, RoomFrame, RoomVideo, room, room_sample, room_video
from vidllm_ros.training.rooms.layout import PlacedObject, Room
from vidllm_ros.training.rooms.materials import COLOURS
from vidllm_ros.training.rooms.phrases import split_words, vocabulary, vocabulary_texts
from vidllm_ros.training.rooms.style import ROBOT, STYLES, VARIED, RoomStyle
from vidllm_ros.training.rooms.tasks import KINDS, room_tasks
from vidllm_ros.training.rooms.visibility import (
    Visibility,
    axis_aligned,
    box_in_scene,
    scene_from_world,
    visibility,
    visible_boxes,
)

__all__ = [
    "COLOURS",
    "KINDS",
    "LABELS",
    "ROBOT",
    "SPLITS",
    "STYLES",
    "VARIED",
    "PlacedObject",
    "Room",
    "RoomError",
    "RoomFrame",
    "RoomStyle",
    "RoomVideo",
    "Visibility",
    "axis_aligned",
    "box_in_scene",
    "room",
    "room_sample",
    "room_tasks",
    "room_video",
    "scene_from_world",
    "split_words",
    "visibility",
    "visible_boxes",
    "vocabulary",
    "vocabulary_texts",
]
