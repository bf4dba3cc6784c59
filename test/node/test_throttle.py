from vidllm_ros.node.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_goes_through_and_the_rest_is_counted():
    clock, said = Clock(), []
    throttle = Throttle(5.0, clock=clock)
    for index in range(10):
        throttle(said.append, f"frame {index} is bad")
        throttle(said.append, "something else")
        clock.now += 1.0
    assert said == [
        "frame 0 is bad",
        "something else",
        "frame 5 is bad (4 more like this since the last report)",
        "something else (4 more like this since the last report)",
    ]


def test_without_count_and_after_clear():
    clock, said = Clock(), []
    throttle = Throttle(5.0, count=False, clock=clock)
    assert throttle(said.append, "a") and not throttle(said.append, "a")
    throttle.clear()
    assert throttle(said.append, "a")
    clock.now = 6.0
    assert throttle(said.append, "a")
    assert said == ["a", "a", "a"]


def test_it_remembers_a_bounded_number_of_kinds():
    clock, said = Clock(), []
    throttle = Throttle(5.0, clock=clock)
    for index in range(2000):
        clock.now += 1e-6
        throttle(said.append, "x" * index)
    assert len(said) == 2000 and len(throttle._last) <= 200
