"""A furnished room: what stands where, without anything standing in anything else."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.training.rooms.furniture import LABELS, build_object, draw_colour, local_bounds
from vidllm_ros.training.rooms.materials import Material
from vidllm_ros.training.rooms.solids import Solid, SolidBatch
from vidllm_ros.training.rooms.structure import Light, build_structure
from vidllm_ros.training.rooms.style import RoomStyle

#: Metres per cell of the floor plan on which placement and paths are planned.
CELL = 0.05

_MAX_COUNT = {
    "chair": 5,
    "stool": 4,
    "box": 4,
    "bin": 3,
    "plant": 3,
    "lamp": 3,
    "cabinet": 3,
    "bookshelf": 3,
    "table": 2,
}
_CHANCE = {"bed": 0.3, "sofa": 0.35, "desk": 0.35, "refrigerator": 0.35, "chair": 0.7}
_ORDER = ("bed", "sofa", "refrigerator", "bookshelf", "cabinet", "desk", "television", "table")
_AT_WALL = {"bed", "sofa", "refrigerator", "bookshelf", "cabinet", "desk", "television"}
_MARGIN = 0.06
_WALL_GAP = 0.03
_MIN_FREE_AREA = 1.6
_FREE_CLEARANCE = 0.35


@dataclass(frozen=True)
class PlacedObject:
    """One piece of furniture.

    Attributes:
        label: class name.
        colour: colour name of its main part.
        box: tight oriented box in world.
        on: index of the object that carries it, or -1 for the floor.
    """

    label: str
    colour: str
    box: Box3D
    on: int = -1


@dataclass(eq=False)
class Room:
    """A room with one floor corner at the world's origin, z up and the floor at z = 0.

    Attributes:
        size: extents along x, y and z in metres.
        objects: the furniture; an object's index is its instance id.
        batch: all solids, furniture and structure.
        materials: what the solids' material indices mean.
        lights: the lamps and the window.
        occupied: bool [rows, columns], floor cells covered by furniture; row is y / CELL, column x / CELL.
    """

    size: tuple[float, float, float]
    objects: list[PlacedObject] = field(default_factory=list)
    batch: SolidBatch = field(default_factory=SolidBatch)
    materials: list[Material] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    occupied: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))

    def clearance(self) -> np.ndarray:
        """Metres from each floor cell to the nearest furniture or wall, float32 [rows, columns]."""
        free = np.pad((~self.occupied).astype(np.uint8), 1)
        return cv2.distanceTransform(free, cv2.DIST_L2, 5)[1:-1, 1:-1] * CELL


def _footprint(x: float, y: float, yaw: float, low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """Corners [4, 2] of a rectangle around the object, in world metres."""
    corners = np.array(
        [
            [low[0] - margin, low[1] - margin],
            [high[0] + margin, low[1] - margin],
            [high[0] + margin, high[1] + margin],
            [low[0] - margin, high[1] + margin],
        ]
    )
    c, s = np.cos(yaw), np.sin(yaw)
    return corners @ np.array([[c, s], [-s, c]]) + (x, y)


class _Planner:
    """Places objects one after the other on the floor plan."""

    def __init__(
        self, room: Room, keep_clear: np.ndarray, window: np.ndarray, rng: np.random.Generator, style: RoomStyle
    ) -> None:
        self.window = window
        self.room, self.rng, self.style = room, rng, style
        self.shape = room.occupied.shape
        self.blocked = keep_clear.copy()

    def _covered(self, corners: np.ndarray) -> tuple[np.ndarray, slice, slice] | None:
        """The cells under a polygon, or None when it leaves the room."""
        length, width, _ = self.room.size
        if corners.min() < 0 or corners[:, 0].max() > length or corners[:, 1].max() > width:
            return None
        cells = corners / CELL
        x0, y0 = np.floor(cells.min(axis=0)).astype(int)
        x1, y1 = np.ceil(cells.max(axis=0)).astype(int) + 1
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(mask, np.round((cells - (x0, y0)) * 16).astype(np.int32), 1, shift=4)
        rows, columns = slice(y0, min(y1, self.shape[0])), slice(x0, min(x1, self.shape[1]))
        return mask[: rows.stop - y0, : columns.stop - x0].astype(bool), rows, columns

    def _fits(self, corners: np.ndarray) -> tuple[np.ndarray, slice, slice] | None:
        # Most candidates fail already at their middle or a corner, and these look-ups cost next to nothing.
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners.tolist()
        rows, columns = self.shape
        for x, y in (((ax + cx) / 2, (ay + cy) / 2), (ax, ay), (bx, by), (cx, cy), (dx, dy)):
            i, j = int(y / CELL), int(x / CELL)
            if x < 0 or y < 0 or i >= rows or j >= columns or self.blocked[i, j]:
                return None
        covered = self._covered(corners)
        if covered is None or (covered[0] & self.blocked[covered[1], covered[2]]).any():
            return None
        return covered

    def _candidate(self, label: str, low: np.ndarray, high: np.ndarray) -> tuple[float, float, float]:
        length, width, _ = self.room.size
        rng = self.rng
        if label in _AT_WALL or (label in ("lamp", "plant", "bin", "box", "stool") and rng.random() < 0.6):
            wall = rng.integers(4)
            inward = (0.0, np.pi / 2, np.pi, -np.pi / 2)[wall]
            run = width if wall % 2 == 0 else length
            along = rng.uniform(0.1, max(0.11, run - 0.1))
            back = _WALL_GAP + _MARGIN - low[0]
            x, y = ((back, along), (along, back), (length - back, along), (along, width - back))[wall]
            turn = 0.0 if label in _AT_WALL else rng.uniform(-np.pi, np.pi)
            if label in ("lamp", "plant", "bin", "box", "stool"):
                shift = float(np.hypot(high[0] - low[0], high[1] - low[1]) / 2 + _MARGIN)
                x, y = np.clip(x, shift, length - shift), np.clip(y, shift, width - shift)
            return float(x), float(y), inward + turn
        if label == "chair":
            hosts = [o.box for o in self.room.objects if o.label in ("table", "desk")]
            if hosts and rng.random() < 0.6:
                return self._seat_at(hosts[rng.integers(len(hosts))], high)
        yaw = rng.uniform(-np.pi, np.pi)
        if label == "table":
            yaw = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.1)
        return float(rng.uniform(0.3, length - 0.3)), float(rng.uniform(0.3, width - 0.3)), float(yaw)

    def _seat_at(self, host: Box3D, high: np.ndarray) -> tuple[float, float, float]:
        """A pose beside a table that faces it."""
        axis, side = self.rng.integers(2), self.rng.choice([-1.0, 1.0])
        away = host.rotation[:2, axis] * side
        along = host.rotation[:2, 1 - axis] * self.rng.uniform(-0.3, 0.3) * host.size[1 - axis]
        gap = host.size[axis] / 2 + high[0] + 2 * _MARGIN + CELL + self.rng.uniform(0.0, 0.12)
        x, y = host.center[:2] + away * gap + along
        return float(x), float(y), float(np.arctan2(-away[1], -away[0]) + self.rng.normal(0, 0.15))

    def _open_enough(self, covered: tuple[np.ndarray, slice, slice]) -> bool:
        """Whether a camera could still walk about if these cells were taken."""
        trial = self.room.occupied.copy()
        trial[covered[1], covered[2]] |= covered[0]
        # Every second cell is enough for a rough area.
        cell = 2 * CELL
        free = np.pad((~trial[::2, ::2]).astype(np.uint8), 1)
        wide = (cv2.distanceTransform(free, cv2.DIST_L2, 3) > _FREE_CLEARANCE / cell).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(wide, connectivity=4)
        return len(stats) > 1 and stats[1:, cv2.CC_STAT_AREA].max() * cell * cell > _MIN_FREE_AREA

    def place(self, label: str, tries: int = 14) -> int | None:
        """Put one object on the floor; its index, or None when no free place was found."""
        colour = draw_colour(label, self.rng)
        count = len(self.room.materials)
        solids = build_object(label, colour, self.rng, self.room.materials, self.style.size_variation)
        low, high = local_bounds(solids)
        for _ in range(tries):
            x, y, yaw = self._candidate(label, low, high)
            covered = self._fits(_footprint(x, y, yaw, low, high, _MARGIN))
            if covered is not None and self._open_enough(covered):
                self.room.occupied[covered[1], covered[2]] |= covered[0]
                self.blocked[covered[1], covered[2]] |= covered[0]
                return self._add(label, colour, solids, (x, y, 0.0), yaw, low, high)
        del self.room.materials[count:]
        return None

    def place_on(self, label: str, host: int, facing: bool) -> int | None:
        """Put one object on top of another; None when it is too large for it."""
        colour = draw_colour(label, self.rng)
        count = len(self.room.materials)
        solids = build_object(label, colour, self.rng, self.room.materials, self.style.size_variation)
        low, high = local_bounds(solids)
        box = self.room.objects[host].box
        room_left = (box.size[:2] - (high - low)[:2]) / 2 - 0.02
        if (room_left < 0).any() or box.center[2] + box.size[2] / 2 + high[2] > self.room.size[2] - 0.3:
            del self.room.materials[count:]
            return None
        offset = box.rotation[:2, :2] @ (room_left * self.rng.uniform(-0.8, 0.8, 2))
        heading = float(np.arctan2(box.rotation[1, 0], box.rotation[0, 0]))
        turn = 0.0 if facing else float(self.rng.integers(2) * np.pi)
        x, y = box.center[:2] + offset
        top = float(box.center[2] + box.size[2] / 2) + 0.001
        return self._add(label, colour, solids, (float(x), float(y), top), heading + turn, low, high, on=host)

    def hang(self, label: str, tries: int = 8) -> int | None:
        """Hang a flat object on a wall above the floor."""
        colour = draw_colour(label, self.rng)
        count = len(self.room.materials)
        solids = build_object(label, colour, self.rng, self.room.materials, self.style.size_variation)
        low, high = local_bounds(solids)
        for _ in range(tries):
            x, y, yaw = self._candidate(label, low, high)
            covered = self._fits(_footprint(x, y, yaw, low, high, _MARGIN))
            if covered is not None and not (covered[0] & self.window[covered[1], covered[2]]).any():
                # Nothing may stand under it later: a cabinet there could reach into it.
                self.room.occupied[covered[1], covered[2]] |= covered[0]
                self.blocked[covered[1], covered[2]] |= covered[0]
                return self._add(label, colour, solids, (x, y, float(self.rng.uniform(0.9, 1.2))), yaw, low, high)
        del self.room.materials[count:]
        return None

    def _add(
        self,
        label: str,
        colour: str,
        solids: list[Solid],
        position: tuple[float, float, float],
        yaw: float,
        low: np.ndarray,
        high: np.ndarray,
        on: int = -1,
    ) -> int:
        c, s = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        box = Box3D(rotation @ ((low + high) / 2) + np.asarray(position), high - low, rotation, label)
        index = len(self.room.objects)
        self.room.objects.append(PlacedObject(label, colour, box, on))
        self.room.batch.add(solids, index, position, yaw)
        return index


def build_room(rng: np.random.Generator, style: RoomStyle) -> Room:
    """Draw a room: its shell, its lights and its furniture."""
    sides = rng.uniform(style.room_side[0], style.room_side[1], 2)
    size = (float(sides[0]), float(sides[1]), float(rng.uniform(*style.room_height)))
    shape = (int(np.ceil(size[1] / CELL)), int(np.ceil(size[0] / CELL)))
    room = Room(size, occupied=np.zeros(shape, bool))
    keep_clear, window = build_structure(room.size, shape, CELL, rng, style, room.batch, room.materials, room.lights)
    planner = _Planner(room, keep_clear, window, rng, style)

    wanted: list[str] = []
    for label in LABELS:
        if rng.random() < _CHANCE.get(label, 0.5):
            wanted += [label] * int(rng.integers(1, _MAX_COUNT.get(label, 1) + 1))
    rest = [label for label in wanted if label not in _ORDER]
    rng.shuffle(rest)
    limit = round(4 + 0.45 * size[0] * size[1])
    for label in [name for name in _ORDER for _ in range(wanted.count(name))] + rest:
        if len(room.objects) >= limit:
            break
        if label == "television":
            stands = [
                i for i, o in enumerate(room.objects) if o.label in ("cabinet", "desk", "table") and o.box.size[2] < 1
            ]
            taken = {o.on for o in room.objects}
            stands = [i for i in stands if i not in taken]
            if (
                stands
                and rng.random() < 0.6
                and planner.place_on(label, stands[rng.integers(len(stands))], True) is not None
            ):
                continue
            planner.hang(label)
        elif label == "box" and rng.random() < 0.35:
            taken = {o.on for o in room.objects}
            tops = ("table", "desk", "cabinet")
            hosts = [
                i for i, o in enumerate(room.objects) if o.label in tops and o.box.size[2] < 1.1 and i not in taken
            ]
            if not hosts or planner.place_on(label, hosts[rng.integers(len(hosts))], False) is None:
                planner.place(label)
        else:
            planner.place(label)
    return room
