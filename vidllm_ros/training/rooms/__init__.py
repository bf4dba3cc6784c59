"""Procedural indoor rooms: seeded, furnished, lit, filmed, with exact ground truth and questions."""

from .generate import RoomFrame, RoomVideo, room, room_sample, room_video
from .style import ROBOT, STYLES, VARIED, RoomStyle

__all__ = ["ROBOT", "STYLES", "VARIED", "RoomFrame", "RoomStyle", "RoomVideo", "room", "room_sample", "room_video"]
