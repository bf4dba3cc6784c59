import pytest

from vidllm_ros.node.input.input_monitor import InputMonitor

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def feed(rate: float, seconds: float, keep=lambda index: True, info: bool = False) -> InputMonitor:
    clock = Clock()
    monitor = InputMonitor(clock)
    for index in range(int(rate * seconds)):
        clock.now = 100.0 + index / rate
        if info:
            monitor.info()
        if keep(index):
            monitor.image(round(index / rate * SECOND), 921_600, 0.05)
    return monitor


def test_rate_age_size_and_silence():
    state = feed(30, 3).state
    assert state.rate == pytest.approx(30, rel=0.01)
    assert (state.images, state.age, state.bytes, state.silence) == (90, 0.05, 921_600, 0.0)


def test_nothing_came():
    state = InputMonitor(Clock()).state
    assert (state.images, state.rate, state.silence, state.loss) == (0, 0.0, None, None)


@pytest.mark.parametrize("info", [False, True])
def test_a_whole_stream_loses_nothing(info):
    assert feed(30, 4, info=info).state.loss == pytest.approx(0, abs=0.02)


def test_loss_shows_against_camera_info():
    assert feed(30, 4, keep=lambda i: i % 10 == 0, info=True).state.loss == pytest.approx(0.9, abs=0.02)


def test_loss_shows_in_the_gaps_between_stamps():
    assert feed(30, 4, keep=lambda i: i % 10 in (0, 1)).state.loss > 0.5


def test_a_slow_camera_is_not_a_torn_stream():
    assert feed(2, 30).state.loss == pytest.approx(0, abs=0.02)


def test_a_clock_jump_is_not_loss():
    clock = Clock()
    monitor = InputMonitor(clock)
    for stamp in [*range(20), *range(20)]:
        clock.now += 0.1
        monitor.image(stamp * SECOND // 10, 1, None)
    assert monitor.state.loss == pytest.approx(0, abs=0.02)


def test_a_new_subscription_starts_at_zero():
    monitor = feed(30, 1)
    monitor.clear()
    assert monitor.state.images == 0


def test_a_clock_jump_on_is_not_loss():
    clock = Clock()
    monitor = InputMonitor(clock)
    for stamp in [*range(20), *range(1000, 1020), *range(2000, 2020)]:
        clock.now += 0.1
        monitor.image(stamp * SECOND // 10, 1, None)
    assert monitor.state.loss == pytest.approx(0, abs=0.02)
