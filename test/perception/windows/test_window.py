"""The window buffer: order, overlap, cuts, overload, and the account of every frame."""

from __future__ import annotations

import threading
from dataclasses import replace

from streams import CONFIG, balanced, feed, frame, indices, process

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import DropReason
from vidllm_ros.perception.types import Window
from vidllm_ros.perception.windows.window import Outcome, WindowBuffer


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
    assert any(8 <= index < 12 for index in indices(window)), "frames of the rejected window bridge the way"
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


def test_frames_of_windows_made_elsewhere_are_nobodys_business():
    buffer = WindowBuffer(CONFIG)
    window = Window(tuple(frame(number) for number in range(8)))
    buffer.begin(window)
    assert buffer.finish(window, Outcome.PLACED)
    assert buffer.counts.received == buffer.counts.used == 0
