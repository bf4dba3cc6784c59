"""Whatever happens to the window buffer, every frame is accounted for and nothing grows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import FrameRejected
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.window import Outcome, WindowBuffer

STEP = 250_000_000
CONFIG = WindowConfig(size=8, stride=4, min_motion=0.0, sample_rate=4.0, max_frame_gap=1.0)


def frame(index, side=16, **values):
    return Frame(np.zeros((side, side, 3), np.uint8), index * STEP, **values)


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
            send(frame(clock, side, frame_id=camera))
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
