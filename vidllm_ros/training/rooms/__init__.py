"""Procedural indoor rooms: seeded, furnished, lit, filmed, with exact ground truth and questions."""

from .errors import RoomError
from .furniture import LABELS
from .generate import SPLITS, RoomFrame, RoomVideo, room, room_sample, room_video
from .layout import PlacedObject, Room
from .materials import COLOURS
from .phrases import split_words, vocabulary, vocabulary_texts
from .style import ROBOT, STYLES, VARIED, RoomStyle
from .tasks import KINDS, room_tasks
from .visibility import Visibility, axis_aligned, box_in_scene, scene_from_world, visibility, visible_boxes

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
