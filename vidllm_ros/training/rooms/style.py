"""How rooms and cameras vary: the two presets and their knobs."""

from __future__ import annotations

from dataclasses import dataclass

from vidllm_ros.training.rooms.errors import RoomError


@dataclass(frozen=True)
class RoomStyle:
    """The ranges that rooms and camera paths are drawn from. Lengths in metres, angles in degrees.

    Attributes:
        name: ``robot``, ``varied`` or a name of your own.
        camera_height: lowest and highest mean height of the camera above the floor.
        height_bob: largest change of height along a path, either way.
        pitch: lowest and highest mean pitch; negative looks down.
        pitch_wander: largest change of pitch along a path, either way.
        roll: largest roll, either way.
        horizontal_fov: smallest and largest horizontal field of view.
        floors: names of the floor textures (``materials.FLOORS``).
        room_side: shortest and longest side of a room.
        room_height: lowest and highest ceiling.
        size_variation: relative standard-size variation of furniture, either way.
        sensor_noise: standard deviation of the image noise, in 8-bit grey levels.
        shadows: whether the main light casts shadows.
    """

    name: str = "robot"
    camera_height: tuple[float, float] = (1.2, 1.2)
    height_bob: float = 0.02
    pitch: tuple[float, float] = (-12.0, -8.0)
    pitch_wander: float = 2.0
    roll: float = 1.0
    horizontal_fov: tuple[float, float] = (66.0, 66.0)
    floors: tuple[str, ...] = ("tiles",)
    room_side: tuple[float, float] = (3.0, 7.0)
    room_height: tuple[float, float] = (2.4, 2.8)
    size_variation: float = 0.06
    sensor_noise: float = 2.0
    shadows: bool = True


#: A wheeled robot's camera: fixed height, small pitch, fixed lens, and a floor of 0.5 m tiles. Strong metric cues.
ROBOT = RoomStyle()

#: A hand-held camera: height, pitch, lens and floor vary from room to room.
VARIED = RoomStyle(
    name="varied",
    camera_height=(0.8, 1.7),
    height_bob=0.05,
    pitch=(-16.0, 6.0),
    pitch_wander=5.0,
    roll=3.0,
    horizontal_fov=(55.0, 75.0),
    floors=("tiles", "grid", "wood", "carpet", "speckle"),
    size_variation=0.12,
    sensor_noise=3.0,
)

#: Rooms for single views from anywhere, where views, not paths, say what cameras do; no preset for paths.
WIDE = RoomStyle(
    name="wide",
    camera_height=(0.2, 2.2),
    height_bob=0.05,
    pitch=(-60.0, 40.0),
    pitch_wander=8.0,
    roll=8.0,
    horizontal_fov=(48.0, 100.0),
    floors=("tiles", "grid", "wood", "carpet", "speckle"),
    room_side=(2.4, 9.0),
    room_height=(2.2, 3.4),
    size_variation=0.15,
    sensor_noise=3.0,
)

STYLES = {style.name: style for style in (ROBOT, VARIED)}


def style_named(style: str | RoomStyle) -> RoomStyle:
    """The preset of that name, or the style itself.

    Raises:
        RoomError: when no preset has that name.
    """
    if isinstance(style, RoomStyle):
        return style
    if style not in STYLES:
        raise RoomError(f"room style {style!r} is unknown; choose one of {', '.join(STYLES)} or pass a RoomStyle")
    return STYLES[style]
