"""Markers for RViz and Foxglove: boxes with their words, and the cameras of the newest window."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.node.conversions import pose_message

_EDGES = ((0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7), (6, 7))
_LINE_WIDTH = 0.02  # metres
_TEXT_HEIGHT = 0.12  # metres
_FRUSTUM_DEPTH = 0.15  # metres
_FRUSTUM_COLOR = ColorRGBA(r=0.12, g=0.31, b=0.85, a=1.0)


def scene_markers(
    head: Header,
    boxes: Sequence[Box3D],
    cameras: np.ndarray,
    intrinsics: np.ndarray | None,
    image_size: tuple[int, int],
) -> MarkerArray:
    """Everything to show now; the first marker deletes what was shown before.

    Args:
        head: stamp and frame of boxes and cameras.
        boxes: drawn as edges with label and score.
        cameras: ``T_frame_camera`` [S, 4, 4], drawn as frusta.
        intrinsics: [S, 3, 3] pixels of ``image_size``, None without cameras.
        image_size: (height, width).
    """
    markers = [Marker(header=head, action=Marker.DELETEALL)]
    for index, box in enumerate(boxes):
        markers += [_box_edges(head, index, box), _box_text(head, index, box)]
    if intrinsics is not None and len(cameras):
        markers.append(_frusta(head, cameras, intrinsics, image_size))
    return MarkerArray(markers=markers)


def label_color(label: str) -> ColorRGBA:
    """A fixed, saturated colour for each label."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(label.encode()) % 360 / 360, 0.8, 0.9)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def _box_edges(head: Header, index: int, box: Box3D) -> Marker:
    corners = box.corners()
    marker = _lines(head, "boxes", index, label_color(box.label))
    marker.points = [_point(corners[corner]) for edge in _EDGES for corner in edge]
    return marker


def _box_text(head: Header, index: int, box: Box3D) -> Marker:
    marker = Marker(header=head, ns="labels", id=index, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
    transform = np.eye(4)
    transform[:3, 3] = (*np.asarray(box.center)[:2], box.corners()[:, 2].max() + _TEXT_HEIGHT)
    marker.pose = pose_message(transform)
    marker.scale.z = _TEXT_HEIGHT
    marker.color = label_color(box.label)
    marker.text = f"{box.label} {box.score:.2f}"
    return marker


def _frusta(head: Header, cameras: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int]) -> Marker:
    height, width = image_size
    marker = _lines(head, "cameras", 0, _FRUSTUM_COLOR)
    pixels = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=np.float64)
    for camera, matrix in zip(cameras, intrinsics, strict=True):
        corners = _FRUSTUM_DEPTH * pixels @ np.linalg.inv(matrix).T @ camera[:3, :3].T + camera[:3, 3]
        for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            marker.points += [_point(camera[:3, 3]), _point(corner), _point(corner), _point(following)]
    return marker


def _lines(head: Header, namespace: str, index: int, color: ColorRGBA) -> Marker:
    marker = Marker(header=head, ns=namespace, id=index, type=Marker.LINE_LIST, action=Marker.ADD, color=color)
    marker.pose.orientation.w = 1.0
    marker.scale.x = _LINE_WIDTH
    return marker


def _point(xyz: np.ndarray) -> Point:
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))
