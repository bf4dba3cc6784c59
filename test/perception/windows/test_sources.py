"""Frames from folders and videos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidllm_ros.perception.errors import SourceError
from vidllm_ros.perception.windows.sources import read_frames

RED, BLUE = (200, 10, 10), (10, 10, 200)


def write(path, color, size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), color[::-1], np.uint8))


def test_images_come_in_natural_order_as_rgb(tmp_path):
    for number in (1, 2, 10):
        write(tmp_path / f"frame{number}.png", (number, 0, 0))
    (tmp_path / "notes.txt").write_text("not an image")
    frames = list(read_frames(tmp_path, 4.0))
    assert [frame.rgb[0, 0].tolist() for frame in frames] == [[1, 0, 0], [2, 0, 0], [10, 0, 0]]
    assert [frame.stamp_ns for frame in frames] == [0, 250_000_000, 500_000_000]


def test_names_that_are_seconds_are_stamps(tmp_path):
    for name in ("1305031102.175304", "1305031102.211214"):
        write(tmp_path / "rgb" / f"{name}.png", RED)
    write(tmp_path / "depth" / "1.png", BLUE)
    frames = list(read_frames(tmp_path, 4.0))
    assert [frame.stamp_ns for frame in frames] == [1305031102_175304000, 1305031102_211214000]
    assert frames[0].rgb[0, 0].tolist() == list(RED)


def test_intrinsics_go_with_every_frame(tmp_path):
    write(tmp_path / "a.png", RED)
    assert next(read_frames(tmp_path, 4.0, np.eye(3))).intrinsics is not None


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    write(tmp_path / "a.png", RED)
    (tmp_path / "b.png").write_bytes(b"\x89PNG broken")
    write(tmp_path / "c.png", RED)
    assert [frame.stamp_ns for frame in read_frames(tmp_path, 4.0)] == [0, 500_000_000]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV build cannot write MJPG")
    for index in range(12):
        writer.write(np.full((48, 64, 3), (20 * index, 0, 0), np.uint8))
    writer.release()
    return path


def test_a_video_gives_its_frames_at_its_rate(video):
    frames = list(read_frames(video, 4.0))
    assert len(frames) == 12
    stamps = np.array([frame.stamp_ns for frame in frames])
    np.testing.assert_allclose(np.diff(stamps), 1e8, atol=2e6)
    blues = [int(frame.rgb[..., 2].mean()) for frame in frames]
    np.testing.assert_allclose(blues, [20 * index for index in range(12)], atol=8)
    assert all(frame.rgb[..., 0].mean() < 12 for frame in frames)


@pytest.mark.parametrize("content", [None, b"", b"no video at all", b"RIFF0000AVI broken"])
def test_what_holds_no_frame_is_named(tmp_path, content):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4' (does not exist|holds no readable frame)"):
        list(read_frames(path, 4.0))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(SourceError, match="holds no readable frame"):
        list(read_frames(tmp_path, 4.0))
