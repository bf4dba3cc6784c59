"""When the memory does not suffice: half a window, an account that stays right, and an error when that is too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidllm_ros.perception.errors import DropReason
from vidllm_ros.perception.out_of_memory import halved, is_out_of_memory
from vidllm_ros.perception.types import Frame, Window, WindowStatus

IMAGE = np.zeros((16, 16, 3), np.uint8)


@given(st.integers(1, 64), st.data())
def test_half_a_window_keeps_its_newest_frame_and_its_tie_to_the_map(count, data):
    shared = data.draw(st.integers(0, count - 1))
    window = Window(tuple(Frame(IMAGE, index) for index in range(count)), shared)
    half = halved(window)
    if count < 4:
        assert half is None
        return
    less, indices = half
    assert len(less.frames) <= (count + 1) // 2 and less.frames[-1] is window.frames[-1]
    assert indices == sorted(set(indices)) and [window.frames[i] for i in indices] == list(less.frames)
    assert shared == 0 or less.frames[less.shared - 1] is window.frames[shared - 1]
    assert less.frames[: less.shared] == tuple(f for f in window.frames[:shared] if f in less.frames)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("a kernel broke"), False),
        (ValueError("allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_processor_s_own_allocator_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.fixture
def starve(pipeline, monkeypatch):
    """Lets the network run out of memory with more frames than ``most``."""
    original = pipeline.model.reconstruct
    tried = []

    def limit(most):
        def reconstruct(*args, tokens=None, **options):
            tried.append(tokens.shape[1])
            if tokens.shape[1] > most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return original(*args, tokens=tokens, **options)

        monkeypatch.setattr(pipeline.model, "reconstruct", reconstruct)
        return tried

    return limit


def test_a_window_is_tried_once_more_with_half_of_its_frames(pipeline, run, starve):
    tried = starve(most=3)
    results = run(pipeline, range(12))
    assert tried == [6, 3] * 3
    assert [result.status for result in results] == [WindowStatus.FIRST] + [WindowStatus.STITCHED] * 2
    for result in results:
        assert len(result.window.frames) == len(result.reconstruction.stamps_ns) == 3
        assert "did not suffice for 6 frames, so 3 of them were used; lower window.size" in result.warnings[0]
    counts = pipeline.stats
    assert counts.dropped[DropReason.OUT_OF_MEMORY] > 0
    assert counts.received == 12 == counts.used + counts.waiting + counts.dropped_total


def test_outside_poses_go_with_the_frames_that_are_left(pipeline, make_frame, starve):
    starve(most=3)
    window = next(w for w in (pipeline.accept(make_frame(number)) for number in range(6)) if w)
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = np.arange(6) * 0.001
    poses[[1, 3, 5]] = np.nan  # just those that are kept have none
    assert pipeline.process(window, poses).status is WindowStatus.FIRST


def test_what_is_too_much_even_then_is_an_error_and_the_next_window_works(pipeline, run, make_frame, starve):
    tried = starve(most=2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(pipeline, range(6))
    assert tried == [6, 3] and pipeline.stats.dropped == {DropReason.INFERENCE_FAILED: 6}
    starve(most=6)
    assert run(pipeline, range(6, 12))[-1].status is WindowStatus.FIRST


def test_a_window_that_is_left_out_is_counted_under_its_reason(pipeline, make_frame):
    for number in range(6):
        pipeline.accept(make_frame(number))
    pipeline.discard(pipeline.next_window(), DropReason.NO_TRANSFORM)
    counts = pipeline.stats
    assert counts.dropped == {DropReason.NO_TRANSFORM: 6} and counts.received == 6
