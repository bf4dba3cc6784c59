"""Draws docs/frames.svg: the coordinate frames of frames-and-scale.md.

python docs/draw_frames.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH, HEIGHT, PIXELS_PER_METRE = 860, 400, 150
CENTRE = np.array([185.0, 150.0])  # where the map's origin is drawn
AXES = (("x", "#c0392b"), ("y", "#27823b"), ("z", "#2457a8"))
# Map axes on paper (pixels grow downwards): x to the right and a little down, y (left) back into the picture, z up.
PAPER = np.array([[0.97, 0.06], [0.40, -0.36], [0.0, -1.0]])
# Columns: the optical axes x right, y down, z forward of a level camera that looks along x, in a frame with z up.
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def turn(axis: str, degrees: float) -> np.ndarray:
    """Rotation matrix about an axis of a frame with z up."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def paper(point: np.ndarray) -> np.ndarray:
    """Metres in map to pixels of the picture."""
    return CENTRE + PIXELS_PER_METRE * np.asarray(point, dtype=float) @ PAPER


def line(a: np.ndarray, b: np.ndarray, style: str) -> str:
    """A line between two points of the picture."""
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" {style}/>'


def label(at: np.ndarray, text: str, colour: str = "#222", size: int = 13, weight: str = "normal") -> str:
    """Text that begins at a point of the picture."""
    style = f'font-family="sans-serif" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {style}>{text}</text>'


def axes(rotation: np.ndarray, origin: np.ndarray, length: float = 0.42) -> list[str]:
    """The three axes of a frame, named."""
    parts = []
    for (name, colour), direction in zip(AXES, rotation.T, strict=True):
        tip = paper(origin + length * direction)
        parts.append(line(paper(origin), tip, f'stroke="{colour}" stroke-width="2.5" marker-end="url(#{name})"'))
        parts.append(label(paper(origin + (length + 0.1) * direction) + [-4, 4], name, colour))
    return parts


def camera(rotation: np.ndarray, origin: np.ndarray, depth: float = 0.75) -> list[str]:
    """The pyramid that a camera sees, 4:3, and its axes."""
    corners = [origin + rotation @ (depth * np.array([x, y, 1.0])) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    corners = [origin + (corner - origin) * 0.55 for corner in corners]
    style = 'stroke="#777" stroke-width="1"'
    edges = [line(paper(origin), paper(corner), style) for corner in corners]
    frame = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(paper, corners))
    return [*edges, f'<polygon points="{frame}" fill="#888" fill-opacity="0.10" {style}/>', *axes(rotation, origin)]


def picture() -> str:
    """The whole drawing as SVG."""
    first, later = np.zeros(3), np.array([1.75, -0.45, 0.05])
    looking_down = turn("y", 14) @ OPTICAL
    later_rotation = turn("z", 28) @ turn("y", 8) @ OPTICAL
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for name, colour in AXES
    )
    floor = " ".join(
        f"{x:.1f},{y:.1f}" for x, y in map(paper, ([-0.5, -0.9, -1], [2.9, -0.9, -1], [2.9, 1.0, -1], [-0.5, 1.0, -1]))
    )
    aside = np.array([3.45, 0.2, -0.35])
    parts = [
        f'<polygon points="{floor}" fill="#e9e4d8" stroke="#c9c2b0"/>',
        label(paper([-0.4, -0.85, -1]), "the floor, where there is one", "#8a8370", 12),
        line(paper(first), paper([0, 0, -1]), 'stroke="#bbb" stroke-dasharray="3 4"'),
        *camera(looking_down, first),
        label(paper(first) + [-165, -82], "window = first camera", weight="bold"),
        label(paper(first) + [-165, -66], "optical axes, tilted as the camera is", "#555", 12),
        line(paper(first), paper(later), 'stroke="#222" stroke-width="1.5" stroke-dasharray="7 4"'),
        label((paper(first) + paper(later)) / 2 + [-30, 30], "T_window_camera", "#222", 12),
        *camera(later_rotation, later),
        label(paper(later) + [-50, 112], "a later camera", weight="bold"),
        *axes(np.eye(3), aside, 0.55),
        label(paper(aside) + [-60, 32], "map, scene: z up (REP 103)", weight="bold"),
        label(paper(aside) + [-60, 48], "origin at the first camera,", "#555", 12),
        label(paper(aside) + [-60, 63], "x its horizontal view (drawn aside)", "#555", 12),
    ]
    header = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    )
    body = "\n".join(['<rect width="100%" height="100%" fill="white"/>', f"<defs>{markers}</defs>", *parts])
    return f"{header}\n{body}\n</svg>\n"


if __name__ == "__main__":
    (Path(__file__).parent / "frames.svg").write_text(picture())
