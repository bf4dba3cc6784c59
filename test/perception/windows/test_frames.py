"""Checks of one frame, and the account of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.frames import FrameCounts, FrameLedger, check_frame

IMAGE = np.zeros((48, 64, 3), np.uint8)
K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])


def changed(row, column, value):
    matrix = K.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize("frame", [Frame(IMAGE, 0), Frame(IMAGE, -5, intrinsics=K), Frame(IMAGE[:, ::-1], 1)])
def test_good_frames_pass(frame):
    check_frame(frame)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.zeros((0, 64, 3), np.uint8), "64 x 0"),
        (np.zeros((48, 0, 3), np.uint8), "0 x 48"),
        (np.zeros((8, 64, 3), np.uint8), "64 x 8; sides must be from 16"),
        (np.zeros((48, 64), np.uint8), r"uint8 \[48, 64\]; it must be uint8"),
        (np.zeros((48, 64, 4), np.uint8), r"uint8 \[48, 64, 4\]"),
        (np.zeros((48, 64, 3), np.float32), r"float32 \[48, 64, 3\]"),
        (None, "NoneType"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_a_bad_image_is_refused_with_what_it_is(image, text):
    with pytest.raises(FrameRejected, match=text) as caught:
        check_frame(Frame(image, 0))
    assert caught.value.reason is DropReason.BAD_IMAGE


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (changed(0, 0, np.nan), "not finite"),
        (changed(1, 2, np.inf), "not finite"),
        (changed(0, 0, 0.0), "focal length"),
        (changed(1, 1, -3.0), "focal length"),
        (np.zeros((3, 3)), "focal length"),
        (changed(2, 2, 2.0), "form"),
        (changed(1, 0, 1.0), "form"),
        (changed(0, 2, 1000.0), "64 x 48 image"),
        (np.eye(4), "3 x 3"),
        (np.array([["a"] * 3] * 3), "3 x 3"),
    ],
)
def test_a_bad_camera_matrix_is_refused_with_its_values(matrix, text):
    with pytest.raises(FrameRejected, match=text) as caught:
        check_frame(Frame(IMAGE, 0, intrinsics=matrix))
    assert caught.value.reason is DropReason.BAD_INTRINSICS
    assert "the camera matrix K [[" in str(caught.value)


def test_the_ledger_counts_each_frame_once():
    ledger = FrameLedger()
    frames = [Frame(IMAGE, index) for index in range(5)]
    for frame in frames:
        ledger.keep(frame)
    ledger.reject(DropReason.BAD_IMAGE)
    ledger.use(frames[:2])
    ledger.use(frames[:2])
    ledger.drop(frames[1:3], DropReason.GAP)
    ledger.drop(frames[2:3], DropReason.RESET)
    counts = ledger.counts()
    assert counts == FrameCounts(6, 2, 2, {DropReason.BAD_IMAGE: 1, DropReason.GAP: 1})
    assert counts.dropped_total == 2 and ledger.waiting() == tuple(frames[3:])
