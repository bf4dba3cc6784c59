import numpy as np
import pytest

from vidllm_ros.evaluation.recordings.pacing import EVERY_FRAME, LockStep, sampling_for
from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.types import Frame


def stamps(count: int, rate: float) -> list[int]:
    return [round(i / rate * 1e9) for i in range(count)]


def frames(count: int, rate: float = 10.0) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [Frame(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), stamp) for stamp in stamps(count, rate)]


def test_a_long_recording_keeps_the_node_as_it_is():
    assert sampling_for(stamps(600, 30.0), WindowConfig()) == {}


@pytest.mark.parametrize(("count", "rate"), [(64, 15.0), (58, 1.5), (10, 30.0), (120, 8.0), (300, 30.0)])
def test_a_short_one_fills_enough_windows_or_gives_every_frame(count, rate):
    config = WindowConfig()
    changes = sampling_for(stamps(count, rate), config)
    assert changes["window.min_motion"] == 0.0
    step = LockStep(WindowConfig(sample_rate=changes["window.sample_rate"], min_motion=0.0))
    windows = 0
    for frame in frames(count, rate):
        if step.send(frame):
            step.finish(placed=True)
            windows += 1
    assert step.accepted == count if count <= 64 else windows >= 3


def test_one_frame_or_equal_stamps_do_not_divide_by_zero():
    assert sampling_for([5], WindowConfig()) == {}
    assert sampling_for([5, 5, 5], WindowConfig())["window.sample_rate"] == EVERY_FRAME


def test_windows_are_waited_for_at_the_right_frames():
    step = LockStep(WindowConfig(size=8, stride=3, sample_rate=60.0, min_motion=0.0))
    complete = []
    for index, frame in enumerate(frames(20)):
        if step.send(frame):
            step.finish(placed=True)
            complete.append(index)
    assert complete == [7, 10, 13, 16, 19]
    assert (step.accepted, step.waiting) == (20, 0)


def test_a_rejected_window_keeps_its_fresh_frames():
    config = WindowConfig(size=8, stride=4, sample_rate=60.0, min_motion=0.0)
    step, waiting = LockStep(config), []
    for index, frame in enumerate(frames(20)):
        if step.send(frame):
            step.finish(placed=index != 11)
            waiting.append(index)
    assert waiting[:3] == [7, 11, 15]


def test_frames_that_the_node_would_refuse_are_not_waited_for():
    step = LockStep(WindowConfig(size=2, stride=2, sample_rate=60.0, min_motion=0.0))
    good = frames(3)
    assert not step.send(good[0])
    assert not step.send(good[0])  # the same stamp again
    assert step.send(good[1])
    assert step.accepted == 2
