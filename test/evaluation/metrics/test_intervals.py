import numpy as np
import pytest

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.intervals import bootstrap, bootstrap_difference


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rooms = [rng.normal(rng.normal(), 0.2, size=8) for _ in range(40)]  # rooms differ more than items do
        interval = bootstrap(rooms, confidence=0.9, resamples=400, seed=seed)
        covered += interval.low <= 0.0 <= interval.high
    assert 0.82 <= covered / 200 <= 0.96


def test_rooms_and_not_items_are_drawn():
    rng = np.random.default_rng(0)
    rooms = [np.full(100, value) for value in rng.normal(size=10)]
    by_rooms = bootstrap(rooms)
    by_items = bootstrap(np.concatenate(rooms)[:, None])
    assert by_rooms.high - by_rooms.low > 5 * (by_items.high - by_items.low)


def test_mean_is_over_items_and_nan_and_empty_rooms_are_left_out():
    interval = bootstrap([[1.0, 1.0, 1.0], [5.0], [], [np.nan]])
    assert (interval.mean, interval.rooms, interval.items) == (2.0, 2, 4)
    assert interval.low == 1.0 and interval.high == 5.0


def test_same_seed_same_interval():
    rooms = np.random.default_rng(1).normal(size=(20, 3))
    assert bootstrap(rooms, seed=3) == bootstrap(rooms, seed=3)
    assert bootstrap(rooms, seed=3) != bootstrap(rooms, seed=4)


def test_a_paired_difference_sees_through_the_spread_of_rooms():
    rng = np.random.default_rng(2)
    baseline = [rng.normal(10 * rng.normal(), 1, size=5) for _ in range(30)]
    ours = [room - 0.5 + 0.1 * rng.normal(size=5) for room in baseline]
    interval = bootstrap_difference(ours, baseline)
    assert interval.low < -0.5 < interval.high < 0
    with pytest.raises(EvaluationError, match="same items"):
        bootstrap_difference(ours, baseline[:-1])


def test_bad_input_says_so():
    with pytest.raises(EvaluationError, match="no scores"):
        bootstrap([[], [np.nan]])
    with pytest.raises(EvaluationError, match="confidence = 95"):
        bootstrap([[1.0]], confidence=95)
