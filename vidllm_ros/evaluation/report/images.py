"""Pictures of results: coloured depth, and the map from above with the camera's way and the boxes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidllm_ros.model.outputs import Box3D

ABOVE_CAMERA = 0.3  # metres; what lies higher would hide the room in a view from above
MAX_POINTS = 300_000  # drawn from above; more would only cover each other
PALETTE = ("#0b6e4f", "#b3261e", "#5b3fa8", "#9a5b00", "#00639a", "#8f1d63", "#4d6b00", "#6b4f3a", "#006a6a", "#7a2e8e")
PREDICTED_PATH, TRUE_PATH = "#1f4fd8", "#6b7280"
_NO_DEPTH = (224, 224, 224)
_OVERSAMPLING = 2


def colorize_depth(depth: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """Depth as colours (Turbo, near is red), uint8 [H, W, 3]; grey where unknown.

    Args:
        depth: [H, W] metres; 0 or not finite where unknown.
        nearest: metres shown in the first colour.
        farthest: metres shown in the last.
    """
    known = np.isfinite(depth) & (depth > 0)
    share = (np.where(known, depth, farthest) - nearest) / max(farthest - nearest, 1e-6)
    scaled = (255 * (1 - share.clip(0, 1))).astype(np.uint8)
    colors = np.ascontiguousarray(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)[..., ::-1])
    colors[~known] = _NO_DEPTH
    return colors


def label_color(label: str, labels: Sequence[str]) -> str:
    """A fixed colour for each label of a list."""
    order = sorted(set(labels))
    return PALETTE[order.index(label) % len(PALETTE)] if label in order else PALETTE[0]


def below_ceiling(points: np.ndarray, T_map_camera: np.ndarray) -> np.ndarray:
    """Which points [P, 3] a view from above should show: those not higher than the cameras and a little."""
    if not len(T_map_camera):
        return np.ones(len(points), dtype=bool)
    return points[:, 2] <= np.median(T_map_camera[:, 2, 3]) + ABOVE_CAMERA


@dataclass(frozen=True)
class _View:
    """Metres to pixels: x to the right, y up."""

    left: float
    top: float
    pixels_per_metre: float

    def __call__(self, xy: np.ndarray) -> np.ndarray:
        x, y = np.asarray(xy)[..., 0], np.asarray(xy)[..., 1]
        return np.stack([(x - self.left), (self.top - y)], axis=-1) * self.pixels_per_metre


def top_down(
    points: np.ndarray,
    colors: np.ndarray,
    T_map_camera: np.ndarray,
    boxes: Sequence[Box3D] = (),
    truth: np.ndarray | None = None,
    true_boxes: Sequence[Box3D] = (),
    width: int = 1000,
) -> np.ndarray:
    """The map seen from above, uint8 [H, width, 3], with a scale bar.

    Args:
        points: [P, 3] metres in map, z up.
        colors: uint8 [P, 3].
        T_map_camera: [K, 4, 4], drawn as a line with the first and last viewing direction.
        boxes: in map, drawn solid.
        truth: true positions in map [M, 3], drawn grey.
        true_boxes: in map, drawn dashed.
        width: pixels.
    """
    shown = np.flatnonzero(below_ceiling(points, T_map_camera))
    if len(shown) > MAX_POINTS:
        shown = np.random.default_rng(0).choice(shown, MAX_POINTS, replace=False)
    points, colors = points[shown], colors[shown]
    view, size = _fit_view(points, T_map_camera, [*boxes, *true_boxes], truth, width * _OVERSAMPLING)
    canvas = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    _splat(canvas, view, points, colors)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    names = [box.label for box in (*boxes, *true_boxes)]
    for box in true_boxes:
        _draw_box(draw, view, box, label_color(box.label, names), dashed=True)
    for box in boxes:
        _draw_box(draw, view, box, label_color(box.label, names), dashed=False)
    if truth is not None and len(truth) > 1:
        draw.line(_flat(view(truth[:, :2])), fill=TRUE_PATH, width=2 * _OVERSAMPLING)
    if len(T_map_camera):
        draw.line(_flat(view(T_map_camera[:, :2, 3])), fill=PREDICTED_PATH, width=3 * _OVERSAMPLING, joint="curve")
        for pose, filled in ((T_map_camera[0], False), (T_map_camera[-1], True)):
            _draw_camera(draw, view, pose, filled)
    _draw_scale_bar(draw, view, size)
    return np.asarray(picture.resize((size[0] // _OVERSAMPLING, size[1] // _OVERSAMPLING), Image.Resampling.LANCZOS))


def resize(image: np.ndarray, width: int) -> np.ndarray:
    """A picture of another width, same aspect."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def encode(image: np.ndarray, kind: str = "png") -> bytes:
    """A picture uint8 [H, W, 3] as a "png" or "jpeg" file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return buffer.getvalue()


def data_uri(image: np.ndarray, kind: str = "png") -> str:
    """A picture as text that a page can hold."""
    return f"data:image/{kind};base64,{base64.b64encode(encode(image, kind)).decode('ascii')}"


def _fit_view(
    points: np.ndarray, poses: np.ndarray, boxes: Sequence[Box3D], truth: np.ndarray | None, width: int
) -> tuple[_View, tuple[int, int]]:
    # a few stray points must not shrink the room, so the cloud counts by its quantiles
    corners = [np.quantile(points[:, :2], [0.005, 0.995], axis=0)] if len(points) else []
    corners += [poses[:, :2, 3]] if len(poses) else []
    corners += [box.corners()[:, :2] for box in boxes]
    corners += [truth[:, :2]] if truth is not None and len(truth) else []
    everything = np.concatenate(corners) if corners else np.zeros((1, 2))
    everything = everything[np.isfinite(everything).all(axis=1)]
    low, high = everything.min(axis=0) - 0.3, everything.max(axis=0) + 0.3
    extent = np.maximum(high - low, 1.0)
    scale = min(width / extent[0], 0.8 * width / extent[1])
    height = max(int(extent[1] * scale), width // 4)
    centre = (low + high) / 2
    return _View(centre[0] - width / 2 / scale, centre[1] + height / 2 / scale, scale), (width, height)


def _splat(canvas: np.ndarray, view: _View, points: np.ndarray, colors: np.ndarray) -> None:
    """Squares of about 3 cm, the highest on top."""
    order = np.argsort(points[:, 2], kind="stable") if len(points) else []
    pixels = np.round(view(points[order, :2])).astype(int) if len(points) else np.zeros((0, 2), int)
    radius = int(np.clip(round(0.015 * view.pixels_per_metre), 1, 8))
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            x, y = pixels[:, 0] + dx, pixels[:, 1] + dy
            inside = (x >= 0) & (x < canvas.shape[1]) & (y >= 0) & (y < canvas.shape[0])
            canvas[y[inside], x[inside]] = colors[order][inside]


def _draw_box(draw: ImageDraw.ImageDraw, view: _View, box: Box3D, color: str, dashed: bool) -> None:
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * np.asarray(box.size)[:2]
    corners = view(np.asarray(box.center)[:2] + half @ np.asarray(box.rotation)[:2, :2].T)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        pieces = max(int(np.linalg.norm(b - a) / (8 * _OVERSAMPLING)), 1) if dashed else 1
        for k in range(pieces):
            end = (k + (0.55 if dashed else 1.0)) / pieces
            draw.line(_flat([a + (b - a) * k / pieces, a + (b - a) * end]), fill=color, width=2 * _OVERSAMPLING)
    if not dashed:
        font = _font(13)
        middle = corners.mean(axis=0)
        outline = draw.textbbox(tuple(middle), box.label, font=font, anchor="mm")
        draw.rounded_rectangle(
            _grown(outline, 3 * _OVERSAMPLING), radius=4 * _OVERSAMPLING, fill="white", outline=color
        )
        draw.text(tuple(middle), box.label, fill=color, font=font, anchor="mm")


def _draw_camera(draw: ImageDraw.ImageDraw, view: _View, pose: np.ndarray, filled: bool) -> None:
    """A triangle that opens towards where the camera looks; empty at the start, filled at the end."""
    forward = pose[:2, 2] / max(np.linalg.norm(pose[:2, 2]), 1e-9)
    aside = np.array([-forward[1], forward[0]])
    reach = 22 * _OVERSAMPLING / view.pixels_per_metre
    tip = pose[:2, 3]
    corners = view(np.stack([tip, tip + reach * (forward + 0.5 * aside), tip + reach * (forward - 0.5 * aside)]))
    draw.polygon(_flat(corners), fill=PREDICTED_PATH if filled else "white", outline=PREDICTED_PATH, width=4)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, view: _View, size: tuple[int, int]) -> None:
    length = next((m for m in (5.0, 2.0, 1.0, 0.5, 0.2) if m * view.pixels_per_metre < size[0] / 4), 0.1)
    x, y = 16 * _OVERSAMPLING, size[1] - 18 * _OVERSAMPLING
    end = x + length * view.pixels_per_metre
    text = f"{length:g} m"
    outline = draw.textbbox((end + 8 * _OVERSAMPLING, y), text, font=_font(13), anchor="lm")
    draw.rectangle(
        (x - 8 * _OVERSAMPLING, y - 11 * _OVERSAMPLING, outline[2] + 8, y + 11 * _OVERSAMPLING), fill="white"
    )
    draw.line([(x, y), (end, y)], fill="#111827", width=3 * _OVERSAMPLING)
    draw.text((end + 8 * _OVERSAMPLING, y), text, fill="#111827", font=_font(13), anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _OVERSAMPLING)


def _grown(outline: tuple[float, float, float, float], by: int) -> tuple[float, float, float, float]:
    return outline[0] - by, outline[1] - by, outline[2] + by, outline[3] + by


def _flat(points: Sequence[np.ndarray] | np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]
