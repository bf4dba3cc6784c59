"""Batches of rooms: repeatable, never twice the same, mixed with those rendered lately."""

from itertools import count, islice
from types import SimpleNamespace

import numpy as np
import pytest

from vidllm_ros.training.data.room_stream import BatchPlan, RoomBatches, batches, replay

SIZE = (28, 42)


def numbered(windows: int):
    """An endless stream of batches of distinct names in place of rooms."""
    numbers = count()
    while True:
        yield [next(numbers) for _ in range(windows)]


def mixed(plan: BatchPlan, steps: int, seed: int = 0, **options) -> list[list[int]]:
    return list(islice(replay(numbered(plan.rendered), plan, np.random.default_rng(seed), **options), steps))


def test_without_replay_every_room_comes_once():
    seen = [room for batch in mixed(BatchPlan(windows=4, frames=2), 10) for room in batch]
    assert seen == list(range(40))


@pytest.mark.parametrize(("windows", "fresh"), [(6, 2), (5, 3), (4, 1), (8, 7)])
def test_batches_are_filled_with_rooms_seen_before(windows, fresh):
    seen: set[int] = set()
    for n, batch in enumerate(mixed(BatchPlan(windows=windows, frames=2, fresh=fresh), 30)):
        assert len(batch) == windows and len(set(batch)) == windows
        new = set(batch) - seen
        assert len(new) == (windows if n == 0 else fresh)
        seen |= new


def test_old_rooms_are_forgotten():
    plan = BatchPlan(windows=4, frames=2, fresh=2)
    for batch in mixed(plan, 100, capacity=10)[10:]:
        assert min(batch) >= max(batch) - 14


def test_the_draw_repeats_itself_under_its_seed():
    plan = BatchPlan(windows=6, frames=2, fresh=2)
    assert mixed(plan, 20, seed=3) == mixed(plan, 20, seed=3) != mixed(plan, 20, seed=4)


def names(stream, steps: int) -> list[list[str]]:
    return [[sample.name for sample in batch] for batch in islice(stream, steps)]


def test_rooms_are_rendered_as_planned():
    plan = BatchPlan(windows=2, frames=3, stride=(1, 2), tasks=2)
    (first, second) = islice(batches(plan, SIZE, first_batch=0, workers=0), 2)
    for batch in (first, second):
        assert len(batch) == 2
        for sample in batch:
            assert sample.rgb.shape == (3, *SIZE, 3) and sample.depth.shape == (3, *SIZE) and len(sample.tasks) <= 2
    assert len({sample.name for sample in first + second}) == 4
    (again,) = islice(batches(plan, SIZE, first_batch=1, workers=0), 1)
    for a, b in zip(again, second, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)


def test_workers_share_the_batches_out(monkeypatch):
    plan, dealt = BatchPlan(windows=1, frames=1), {}
    for worker in range(2):
        info = SimpleNamespace(num_workers=2, id=worker)
        monkeypatch.setattr("vidllm_ros.training.data.room_stream.get_worker_info", lambda info=info: info)
        dealt[worker] = names(RoomBatches(plan, SIZE, first_batch=5), 2)
    monkeypatch.undo()
    alone = names(RoomBatches(plan, SIZE, first_batch=5), 4)
    assert [dealt[0][0], dealt[1][0], dealt[0][1], dealt[1][1]] == alone
