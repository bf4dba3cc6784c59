"""Odd frames and streams that break: what is left out, what cuts, and what survives a cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from streams import CONFIG, balanced, feed, frame, indices, process

from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.windows.window import WindowBuffer


def rejected(buffer, *frames):
    reasons = []
    for item in frames:
        with pytest.raises(FrameRejected) as caught:
            buffer.add(item)
        reasons.append(caught.value.reason)
    return reasons


@pytest.mark.parametrize(
    ("number", "reason"),
    [(4, DropReason.EQUAL_STAMP), (2, DropReason.REVERSED_STAMP), (40, DropReason.GAP), (-40, DropReason.CLOCK_JUMP)],
)
def test_one_odd_stamp_is_left_out_and_harms_nothing(number, reason):
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(5))
    assert rejected(buffer, frame(number)) == [reason]
    (window,) = feed(buffer, range(5, 8))
    assert indices(window) == list(range(8))
    assert buffer.counts.dropped == {reason: 1} and balanced(buffer)


def test_one_frame_of_another_size_or_camera_is_left_out():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(5))
    other_size = frame(4.5, rgb=np.zeros((32, 32, 3), np.uint8))
    assert rejected(buffer, other_size, frame(4.7, frame_id="other")) == [
        DropReason.SIZE_CHANGED,
        DropReason.CAMERA_CHANGED,
    ]
    assert len(feed(buffer, range(5, 8))) == 1


@pytest.mark.parametrize(
    ("first", "rest", "reason"),
    [
        (frame(40), [frame(41 + i) for i in range(8)], DropReason.GAP),
        (frame(-40), [frame(-39 + i) for i in range(8)], DropReason.CLOCK_JUMP),
        (
            frame(6, rgb=np.zeros((32, 32, 3), np.uint8)),
            [frame(7 + i, rgb=np.zeros((32, 32, 3), np.uint8)) for i in range(8)],
            DropReason.SIZE_CHANGED,
        ),
        (frame(6, frame_id="b"), [frame(7 + i, frame_id="b") for i in range(8)], DropReason.CAMERA_CHANGED),
    ],
)
def test_a_lasting_change_cuts_the_stream(first, rest, reason):
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(6))
    assert rejected(buffer, first) == [reason]
    windows = [window for window in map(buffer.add, rest) if window is not None]
    assert len(windows) == 1 and windows[0].frames == tuple(rest) and windows[0].shared == 0
    assert buffer.counts.dropped == {reason: 7} and balanced(buffer)


def test_a_complete_window_survives_a_cut():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(9))
    rejected(buffer, frame(100))
    feed(buffer, [101, 102])
    assert indices(process(buffer)) == list(range(8))
    assert buffer.counts.dropped == {DropReason.GAP: 2} and balanced(buffer)
    (window,) = feed(buffer, range(103, 109))
    assert indices(window) == list(range(101, 109)) and window.shared == 0


def test_a_newer_window_replaces_the_one_that_survived_a_cut():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    rejected(buffer, frame(100))
    feed(buffer, range(101, 109))
    assert indices(process(buffer)) == list(range(101, 109))
    assert buffer.take() is None
    assert buffer.counts.dropped == {DropReason.GAP: 1, DropReason.WINDOW_REPLACED: 8} and balanced(buffer)


def test_a_gap_is_counted_between_frames_that_come_not_between_those_that_are_taken():
    buffer = WindowBuffer(replace(CONFIG, sample_rate=0.5))
    feed(buffer, range(0, 60, 2))
    assert set(buffer.counts.dropped) == {DropReason.SAMPLE_RATE}


def test_the_same_frame_object_twice_is_counted_twice():
    buffer = WindowBuffer(CONFIG)
    first, second = frame(0), frame(1)
    for item in (first, second):
        buffer.add(item)
    rejected(buffer, frame(100))
    buffer.add(frame(101))
    rejected(buffer, first)
    buffer.add(second)
    assert balanced(buffer) and buffer.counts.received == 6
