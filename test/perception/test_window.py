"""The window buffer: order, overlap, cuts, overload, and the account of every frame."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import DropReason, FrameRejected
from vidllm_ros.perception.types import Frame, Window
from vidllm_ros.perception.window import Outcome, WindowBuffer

STEP = 250_000_000
CONFIG = WindowConfig(size=8, stride=4, min_motion=0.0, sample_rate=4.0, max_frame_gap=1.0)
IMAGE = np.zeros((16, 16, 3), np.uint8)


def frame(index, **values):
    return Frame(values.pop("rgb", IMAGE), round(index * STEP), **values)


def indices(window):
    return [round(f.stamp_ns / STEP) for f in window.frames]


def feed(buffer, numbers):
    """Feeds frames; the windows that were completed."""
    windows = [buffer.add(frame(number)) for number in numbers]
    return [window for window in windows if window is not None]


def process(buffer, outcome=Outcome.PLACED):
    window = buffer.take()
    assert buffer.finish(window, outcome)
    return window


def balanced(buffer):
    counts = buffer.counts
    return counts.received == counts.used + counts.waiting + sum(counts.dropped.values())


def test_consecutive_windows_share_size_minus_stride_frames():
    buffer = WindowBuffer(CONFIG)
    windows = []
    for number in range(20):
        if buffer.add(frame(number)) is not None:
            windows.append(process(buffer))
    assert [indices(w) for w in windows] == [list(range(start, start + 8)) for start in (0, 4, 8, 12)]
    assert [w.shared for w in windows] == [0, 4, 4, 4]
    assert windows[1].frames[:4] == windows[0].frames[4:]
    assert buffer.counts.used == 20 and buffer.counts.waiting == 0 and not buffer.counts.dropped


def test_the_default_window_has_32_frames():
    buffer = WindowBuffer(WindowConfig(min_motion=0.0))
    (window,) = feed(buffer, range(33))
    assert len(window.frames) == 32


def test_stride_equal_to_size_shares_nothing():
    buffer = WindowBuffer(replace(CONFIG, stride=8))
    for number in range(16):
        if buffer.add(frame(number)) is not None:
            window = process(buffer)
    assert indices(window) == list(range(8, 16)) and window.shared == 0


def test_a_window_from_add_can_be_processed_without_take():
    buffer = WindowBuffer(CONFIG)
    (window,) = feed(buffer, range(8))
    buffer.begin(window)
    assert buffer.take() is None
    assert buffer.finish(window, Outcome.PLACED)
    (second,) = feed(buffer, range(8, 12))
    assert indices(second) == list(range(4, 12))


def test_frames_that_come_late_wait_for_the_next_window():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 15))  # complete at 11; 12 to 14 come before the worker looks
    assert indices(process(buffer)) == list(range(4, 12))
    feed(buffer, [15])
    assert indices(process(buffer)) == list(range(8, 16))
    assert not buffer.counts.dropped


def test_a_busy_worker_gets_the_newest_window_that_still_overlaps_the_map():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 28))
    window = process(buffer)
    assert window.shared == 4 and indices(window)[:4] == [4, 5, 6, 7]
    assert indices(window)[-1] == 27
    assert indices(window) == sorted(indices(window))
    assert buffer.counts.dropped == {DropReason.WINDOW_REPLACED: 16}
    assert buffer.counts.used == 12 and balanced(buffer)


def test_before_the_first_window_the_newest_frames_win():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(20))
    assert indices(process(buffer)) == list(range(12, 20))
    assert buffer.counts.dropped == {DropReason.WINDOW_REPLACED: 12}


def test_frames_that_come_while_a_window_is_in_process_overlap_it():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    window = buffer.take()
    feed(buffer, range(8, 12))
    assert buffer.counts.waiting == 12
    buffer.finish(window, Outcome.PLACED)
    assert indices(process(buffer)) == list(range(4, 12))


def test_after_a_rejection_the_next_window_overlaps_the_last_placed_one():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 12))
    assert indices(process(buffer, Outcome.REJECTED)) == list(range(4, 12))
    assert buffer.take() is None, "the same frames again would be rejected again"
    (window,) = feed(buffer, range(12, 16))
    assert indices(window)[:4] == [4, 5, 6, 7] and indices(window)[-1] == 15
    assert buffer.counts.used == 12
    assert indices(process(buffer)) == indices(window)
    assert balanced(buffer) and buffer.counts.waiting == 0


def test_a_rejection_that_comes_after_the_next_window_was_complete():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 12))
    window = buffer.take()
    feed(buffer, range(12, 16))
    buffer.finish(window, Outcome.REJECTED)
    following = process(buffer)
    assert indices(following)[:4] == [4, 5, 6, 7] and indices(following)[-1] == 15


def test_frames_of_a_window_that_failed_are_dropped_and_the_stream_goes_on():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 12))
    process(buffer, Outcome.FAILED)
    assert buffer.counts.dropped == {DropReason.INFERENCE_FAILED: 4}
    (window,) = feed(buffer, range(12, 16))
    assert indices(window) == [4, 5, 6, 7, 12, 13, 14, 15]


def test_a_worker_that_never_finished_its_window_does_not_block_the_next():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    lost = buffer.take()
    feed(buffer, range(8, 16))
    assert buffer.take() is None, "what waits overlapped the lost window only"
    assert not buffer.finish(lost, Outcome.PLACED)
    assert buffer.counts.dropped[DropReason.INFERENCE_FAILED] == 8
    feed(buffer, range(16, 20))
    window = process(buffer)
    assert window.shared == 0 and indices(window)[-1] == 19
    assert balanced(buffer) and buffer.counts.waiting == 0


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


def test_flush_gives_what_is_left_and_then_nothing():
    buffer = WindowBuffer(CONFIG)
    for number in range(14):
        if buffer.add(frame(number)) is not None:
            process(buffer)
    window = buffer.flush()
    assert indices(window) == list(range(6, 14)) and window.shared == 6
    buffer.finish(window, Outcome.PLACED)
    assert buffer.flush() is None
    assert buffer.counts.used == 14 and balanced(buffer)


def test_flush_of_a_short_recording_gives_a_short_window():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(3))
    window = buffer.flush()
    assert indices(window) == [0, 1, 2] and window.shared == 0


def test_flush_gives_a_complete_window_first():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(9))
    seen = []
    while (window := buffer.flush()) is not None:
        buffer.finish(window, Outcome.PLACED)
        seen.append(indices(window))
    assert seen == [list(range(8)), list(range(1, 9))]


def test_flush_of_nothing_and_after_a_rejection_ends():
    buffer = WindowBuffer(CONFIG)
    assert buffer.flush() is None
    feed(buffer, range(8))
    process(buffer)
    feed(buffer, range(8, 12))
    process(buffer, Outcome.REJECTED)
    assert buffer.flush() is None


def test_reset_forgets_frames_and_voids_the_window_in_process():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    window = buffer.take()
    feed(buffer, range(8, 10))
    buffer.reset()
    assert not buffer.is_in_process(window) and not buffer.finish(window, Outcome.PLACED)
    assert buffer.frames() == () and buffer.counts.dropped == {DropReason.RESET: 10}
    (fresh,) = feed(buffer, range(0, 8))  # a reset also forgets the clock
    assert fresh.shared == 0


def test_take_waits_for_a_window():
    buffer = WindowBuffer(CONFIG)
    taken = []
    worker = threading.Thread(target=lambda: taken.append(buffer.take(timeout=30)))
    worker.start()
    feed(buffer, range(8))
    worker.join(30)
    assert indices(taken[0]) == list(range(8))
    assert buffer.take(timeout=0.01) is None


def test_other_sizes_from_the_next_frame_on():
    buffer = WindowBuffer(CONFIG)
    feed(buffer, range(8))
    process(buffer)
    buffer.configure(replace(CONFIG, size=6, stride=3))
    (window,) = feed(buffer, range(8, 11))
    assert indices(window) == list(range(5, 11)) and window.shared == 3


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


def test_frames_of_windows_made_elsewhere_are_nobodys_business():
    buffer = WindowBuffer(CONFIG)
    window = Window(tuple(frame(number) for number in range(8)))
    buffer.begin(window)
    assert buffer.finish(window, Outcome.PLACED)
    assert buffer.counts.received == buffer.counts.used == 0


OPERATIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(-3, 12), st.sampled_from([16, 24]), st.sampled_from("ab")),
    st.tuples(st.just("add"), st.just(1), st.just(16), st.just("a")),
    st.tuples(st.just("jump"), st.integers(-50, 50)),
    st.tuples(st.just("bad")),
    st.tuples(st.just("take")),
    st.tuples(st.just("begin")),
    st.tuples(st.just("finish"), st.sampled_from(list(Outcome))),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reset")),
    st.tuples(st.just("configure"), st.integers(2, 10), st.integers(1, 10)),
    st.tuples(st.just("burst"), st.integers(1, 30)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(OPERATIONS, max_size=60))
def test_every_frame_is_accounted_for_whatever_happens(operations):
    buffer = WindowBuffer(CONFIG)
    clock, sent, offered, current = 0, 0, None, None
    largest = CONFIG.size

    def send(item):
        nonlocal sent, offered
        sent += 1
        try:
            window = buffer.add(item)
        except FrameRejected:
            return
        if window is not None:
            offered = window
            stamps = [f.stamp_ns for f in window.frames]
            assert stamps == sorted(set(stamps)), "frames of a window are in order, none twice"
            assert len({(f.rgb.shape, f.frame_id) for f in window.frames}) == 1, "a window has one camera"

    for name, *values in operations:
        if name == "add":
            step, side, camera = values
            clock += step
            send(frame(clock, rgb=np.zeros((side, side, 3), np.uint8), frame_id=camera))
        elif name == "burst":
            for _ in range(values[0]):
                clock += 1
                send(frame(clock))
        elif name == "jump":
            clock += values[0]
        elif name == "bad":
            send(Frame(np.zeros((0, 5, 3), np.uint8), clock * STEP))
        elif name == "take":
            current = buffer.take() or current
        elif name == "begin" and offered is not None:
            buffer.begin(offered)
            current = offered
        elif name == "flush":
            current = buffer.flush() or current
        elif name == "finish" and current is not None:
            buffer.finish(current, values[0])
        elif name == "reset":
            buffer.reset()
        elif name == "configure":
            size, stride = max(values), min(values)
            largest = max(largest, size)
            buffer.configure(replace(CONFIG, size=size, stride=stride))
        counts = buffer.counts
        assert counts.received == sent
        assert counts.received == counts.used + counts.waiting + counts.dropped_total
        held = buffer.frames()
        assert counts.waiting <= len(held), "a frame that waits can still be reached"
        assert len(held) <= 6 * largest, "memory is bounded"
