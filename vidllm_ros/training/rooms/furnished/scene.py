"""A furnished room as triangles: shell, windows, pictures, furniture on a floor plan, clutter on top."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidllm_ros.training.rooms.furnished.surfaces import SurfaceMaker
from vidllm_ros.training.rooms.layout import CELL

#: Seats and tables in offices, beds in bedrooms: how much likelier a piece of the room's own theme is drawn.
THEME_SHARE, SAME_AGAIN = 0.7, 0.35
THEMES = ("Living room", "Kitchen", "Office", "Bedroom", "Office", "Living room", "Miscellaneous", "Bathroom")
SMALL, FLAT = 0.45, 0.06


@dataclass(frozen=True)
class Piece:
    """A piece of furniture in the catalogue. Metres.

    Attributes:
        file: of its arrays.
        name: in English.
        category: as the catalogue sorts it.
        size: width, depth, height.
        elevation: of its lowest point above the floor.
    """

    file: str
    name: str
    category: str
    size: tuple[float, float, float]
    elevation: float

    @property
    def small(self) -> bool:
        """Whether it lies about on other things."""
        return max(self.size) < SMALL and self.elevation < 0.05


@dataclass
class Scene:
    """Triangles of one room with their materials.

    Attributes:
        size: of the room's bounding box in metres.
        clear: bool [rows, columns] of floor cells of ``CELL`` metres where nothing stands.
        parts: vertices [V, 3], triangles [F, 3], uv [F, 3, 2] and material [F] of each part.
        colours: linear RGB of each material; multiplied by its texture, if it has one.
        textures: index of each material's texture, or -1.
        images: uint8 [S, S, 3] textures.
        glow: light that each material gives off.
    """

    size: tuple[float, float, float]
    clear: np.ndarray
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    colours: list[np.ndarray] = field(default_factory=list)
    textures: list[int] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    glow: list[float] = field(default_factory=list)

    def material(self, colour: np.ndarray, image: np.ndarray | None = None, glow: float = 0.0) -> int:
        """Register a material; its index."""
        self.colours.append(np.asarray(colour, float))
        self.textures.append(-1 if image is None else len(self.images))
        if image is not None:
            self.images.append(image)
        self.glow.append(glow)
        return len(self.colours) - 1

    def quad(self, corner: np.ndarray, along: np.ndarray, up: np.ndarray, material: int, repeat: float | None) -> None:
        """A rectangle; ``repeat`` is the texture's size in metres, None stretches it over the whole."""
        vertices = np.stack([corner, corner + along, corner + along + up, corner + up])
        u, v = (np.linalg.norm(along), np.linalg.norm(up)) if repeat else (1.0, 1.0)
        uv = np.array([[0, 0], [u, 0], [u, v], [0, v]]) / (repeat or 1.0)
        triangles = np.array([[0, 1, 2], [0, 2, 3]])
        self.parts.append((vertices, triangles, uv[triangles], np.full(2, material)))

    def box(self, low: np.ndarray, high: np.ndarray, material: int, repeat: float) -> None:
        """An upright box, such as a column or a partition."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        x, y, z = np.diag(high - low)
        for corner, along, up in (
            (low, x, z),
            (low + x, y, z),
            (low + x + y, -x, z),
            (low + y, -y, z),
            (low + z, x, y),
        ):
            self.quad(corner, along, up, material, repeat)


class Furnisher:
    """Draws furnished rooms from a folder of fetched pieces."""

    def __init__(self, folder: Path) -> None:
        entries = json.loads((folder / "catalogue.json").read_text())
        self.folder = folder / "pieces"
        self.pieces = [
            Piece(e["file"], e["name"], e["category"], tuple(e["size"]), e["elevation"])
            for e in entries
            if e["category"] != "Doors and windows"
        ]
        self.openings = [
            Piece(e["file"], e["name"], e["category"], tuple(e["size"]), e["elevation"])
            for e in entries
            if e["category"] == "Doors and windows" and 0.5 < e["size"][0] < 2.5 and e["size"][2] > 0.8
        ]
        self.large = [p for p in self.pieces if not p.small and 0.03 < p.size[2] < 2.3 and max(p.size[:2]) < 3.2]
        self.clutter = [p for p in self.pieces if p.small]
        self.surfaces = SurfaceMaker(folder)
        self._arrays: dict[str, dict[str, np.ndarray]] = {}

    def draw(self, rng: np.random.Generator) -> Scene:
        """A room."""
        length, width = rng.uniform(2.4, 9.0), rng.uniform(2.4, 6.5)
        if rng.random() < 0.5:
            length, width = width, length
        size = (float(length), float(width), float(rng.uniform(2.2, 3.2)))
        scene = Scene(size, np.ones((int(np.ceil(width / CELL)), int(np.ceil(length / CELL))), bool))
        self._shell(scene, rng)
        theme = THEMES[rng.integers(len(THEMES))]
        own = [p for p in self.large if p.category == theme]
        wanted = round(length * width * rng.uniform(0.4, 1.2)) + 3
        tops: list[tuple[float, float, float, float, float]] = []
        piece: Piece | None = None
        for _ in range(wanted):
            choice = own if own and rng.random() < THEME_SHARE else self.large
            # Rooms have several of one kind: chairs, lockers, desks.
            if piece is None or rng.random() > SAME_AGAIN:
                piece = choice[rng.integers(len(choice))]
            placed = self._place(scene, piece, rng)
            if placed is not None and piece.elevation < 0.05 and 0.3 < piece.size[2] < 1.2:
                tops.append((*placed, *piece.size[:2], piece.size[2]))
        for x, y, across, deep, top in tops:
            for _ in range(rng.poisson(1.2)):
                item = self.clutter[rng.integers(len(self.clutter))]
                spot = (x + rng.uniform(-0.35, 0.35) * across, y + rng.uniform(-0.35, 0.35) * deep, top)
                self._add(scene, item, spot, rng.uniform(-np.pi, np.pi), 1.0, rng)
        for _ in range(rng.poisson(1.5)):
            item = self.clutter[rng.integers(len(self.clutter))]
            spot = (rng.uniform(0.2, length - 0.2), rng.uniform(0.2, width - 0.2), 0.0)
            self._add(scene, item, spot, rng.uniform(-np.pi, np.pi), 1.0, rng)
        return scene

    def _shell(self, scene: Scene, rng: np.random.Generator) -> None:
        (length, width, height), make = scene.size, self.surfaces
        floor, walls, ceiling = make.floor(scene, rng), make.wall(scene, rng), make.ceiling(scene, rng)
        x, y, z = np.diag([length, width, height])
        origin = np.zeros(3)
        scene.quad(origin, x, y, *floor)
        scene.quad(z, x, y, *ceiling)
        accent = rng.integers(8)
        sides = ((origin, x), (x, y), (x + y, -x), (y, -y))
        for k, (corner, along) in enumerate(sides):
            scene.quad(corner, along, z, *(make.wall(scene, rng) if k == accent else walls))
            inward = np.cross(z, along) / np.linalg.norm(np.cross(z, along))
            self._hangings(scene, corner, along, inward, rng)
        for _ in range(rng.poisson(0.5)):
            # Columns, chimneys and half walls break the box.
            low = np.array([rng.choice([0.0, rng.uniform(0, length)]), rng.choice([0.0, rng.uniform(0, width)]), 0.0])
            high = low + [rng.uniform(0.2, 1.2), rng.uniform(0.2, 1.2), rng.choice([height, rng.uniform(0.8, 2.2)])]
            high[:2] = np.minimum(high[:2], [length, width])
            if (high[:2] - low[:2] > 0.1).all():
                scene.box(low, high, *walls)
                rows, columns = (slice(int(low[k] / CELL), int(high[k] / CELL) + 1) for k in (1, 0))
                scene.clear[rows, columns] = False
        for _ in range(rng.integers(1, 5)):
            lamp = scene.material(np.ones(3), glow=float(rng.uniform(2.0, 6.0)))
            across = np.diag(rng.uniform(0.15, 1.2, 3))[:2] * [[1, 1, 0], [1, 1, 0]]
            corner = np.array([rng.uniform(0.1, 0.9) * length, rng.uniform(0.1, 0.9) * width, height - 0.02])
            scene.quad(corner, across[0], across[1], lamp, None)

    def _hangings(
        self, scene: Scene, corner: np.ndarray, along: np.ndarray, inward: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Windows, doors, pictures, a skirting board and sometimes curtains on one wall."""
        span, way = float(np.linalg.norm(along)), along / np.linalg.norm(along)
        up, height = np.array([0.0, 0.0, 1.0]), scene.size[2]
        if rng.random() < 0.7:
            board = scene.material(rng.uniform(0.1, 0.9) * np.ones(3))
            scene.quad(corner + 0.012 * inward, along, up * rng.uniform(0.05, 0.15), board, None)
        yaw = float(np.arctan2(-inward[0], inward[1])) + np.pi
        for _ in range(rng.poisson(0.7)):
            piece = self.openings[rng.integers(len(self.openings))]
            if piece.size[0] + 0.1 > span or piece.elevation + piece.size[2] > height:
                continue
            middle = corner + way * rng.uniform(piece.size[0] / 2, span - piece.size[0] / 2)
            if piece.elevation > 0.3:
                # A window: what shines in stands behind its frame.
                pane = scene.material(rng.uniform(0.7, 1.0, 3), self.surfaces.view(rng), float(rng.uniform(1.0, 6.0)))
                start = middle - way * piece.size[0] / 2 + up * piece.elevation + 0.01 * inward
                scene.quad(start, way * piece.size[0], up * piece.size[2], pane, None)
            spot = middle + inward * min(piece.size[1] / 2, 0.04)
            self._add(scene, piece, (float(spot[0]), float(spot[1]), piece.elevation), yaw, 1.0, rng)
        for _ in range(rng.poisson(0.9)):
            wide, high = rng.uniform(0.2, min(1.6, 0.6 * span)), rng.uniform(0.2, 1.1)
            low = rng.uniform(0.5, max(0.55, height - high - 0.2))
            start = corner + way * rng.uniform(0, span - wide) + up * low + rng.uniform(0.01, 0.04) * inward
            screen = float(rng.uniform(0.5, 2.0)) if rng.random() < 0.15 else 0.0
            scene.quad(start, way * wide, up * high, scene.material(np.ones(3), self.surfaces.view(rng), screen), None)

    def _place(self, scene: Scene, piece: Piece, rng: np.random.Generator) -> tuple[float, float] | None:
        """Put a piece where nothing stands; its position, or None when no place was found."""
        (length, width, height), factor = scene.size, float(rng.uniform(0.95, 1.05))
        across, deep, high = (side * factor for side in piece.size)
        if piece.elevation + high > height:
            return None
        for _ in range(12):
            against_wall = rng.random() < 0.7
            turn = int(rng.integers(4))
            # The back of a piece is at +y of its own frame.
            yaw = turn * np.pi / 2 + (rng.normal(0, 0.04) if against_wall else rng.uniform(-np.pi, np.pi))
            c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
            wide, long = c * across + s * deep, s * across + c * deep
            if wide > length - 0.1 or long > width - 0.1:
                continue
            x, y = rng.uniform(wide / 2, length - wide / 2), rng.uniform(long / 2, width - long / 2)
            if against_wall:
                x, y = ((x, width - long / 2), (wide / 2, y), (x, long / 2), (length - wide / 2, y))[turn]
            rows, columns = (
                slice(int(max(m - side / 2, 0) / CELL), int((m + side / 2) / CELL) + 1)
                for m, side in ((y, long), (x, wide))
            )
            rug = high < FLAT
            if piece.elevation < 1.0 and not rug:
                if not scene.clear[rows, columns].all():
                    continue
                trial = scene.clear.copy()
                trial[rows, columns] = False
                # Enough floor must stay for a camera.
                if trial.mean() < 0.3:
                    continue
                scene.clear = trial
            self._add(scene, piece, (x, y, piece.elevation), yaw, factor, rng)
            return x, y
        return None

    def _add(
        self,
        scene: Scene,
        piece: Piece,
        spot: tuple[float, float, float],
        yaw: float,
        factor: float,
        rng: np.random.Generator,
    ) -> None:
        """Add a piece's triangles; now and then in other colours or another texture."""
        if piece.file not in self._arrays:
            with np.load(self.folder / piece.file) as stored:
                self._arrays[piece.file] = dict(stored)
        model = self._arrays[piece.file]
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        mirror = np.array([rng.choice([-1.0, 1.0]), 1.0, 1.0])
        vertices = (model["vertices"] * factor * mirror) @ turn.T + spot
        first, tint = len(scene.colours), np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.1, 3))
        recolour = rng.random() < 0.35
        for colour, texture in zip(model["colours"], model["texture"], strict=True):
            image = model["textures"][texture] if texture >= 0 else None
            if recolour:
                scene.material(*self.surfaces.cover(rng))
            else:
                scene.material(np.ones(3) * tint if image is not None else colour * tint, image)
        scene.parts.append((vertices, model["triangles"], model["uv"], first + model["material"].astype(np.int64)))
