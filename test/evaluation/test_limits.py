import math

import pytest
import replay_maker

from vidllm_ros.evaluation import limits
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.scores import figure_names, score
from vidllm_ros.evaluation.timing import latency, timing

NAMES = ["trajectory.ate_se3", "map.f_score", "boxes_found.IoU>=0.25"]


@pytest.mark.parametrize(
    ("text", "value", "kept"),
    [
        ("trajectory.ate_se3<0.1", 0.05, True),
        ("trajectory.ate_se3<0.1", 0.1, False),
        ("trajectory.ate_se3 <= 0.1", 0.1, True),
        ("map.f_score>5e-1", 0.5, False),
        ("map.f_score>=0.5", 0.5, True),
        ("boxes_found.IoU>=0.25>=0.5", 0.6, True),
        ("boxes_found.IoU>=0.25>=0.5", 0.4, False),
        ("map.f_score>=0", math.nan, False),
        ("map.f_score>=0", None, False),
    ],
)
def test_limits(text, value, kept):
    limit = limits.parse(text, NAMES)
    sentence = limit.missed({limit.name: value})
    assert (sentence == "") == kept
    assert kept or sentence.startswith(f"{limit} is missed")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trajectory.ate_se3", "not of the form NAME<VALUE"),
        ("trajectory.ate_se3=1", "not of the form"),
        ("", "not of the form"),
        ("trajectory.ate<1", "the nearest is 'trajectory.ate_se3'"),
        ("map.f_score>high", "'high' is no number"),
        ("map.f_score>nan", "'nan' is no number"),
    ],
)
def test_limits_that_cannot_be_read(text, problem):
    with pytest.raises(EvaluationError, match=problem):
        limits.parse(text, NAMES)


def test_every_figure_of_a_full_evaluation_can_be_limited():
    figures = score(replay_maker.replay(), replay_maker.truth(cloud=lambda: replay_maker.replay().points)).figures()
    known = set(figure_names())
    assert {name for name, value in figures.items() if value is not None} <= known | {
        name for name in figures if name.startswith(("answers.matched", "timing.dropped"))
    }
    assert figures["trajectory.ate_se3"] < 1e-6 and "map.f_score" in known and "timing.windows.p99" in known
    nothing = score(
        replay_maker.replay(T_map_camera=replay_maker.camera_path()[:0], stamps_ns=[]), replay_maker.truth()
    )
    assert nothing.figures()["trajectory.ate_se3"] is None


def test_latencies_and_losses():
    windows = (
        replay_maker.window(0, latency=1.0),
        replay_maker.window(1, latency=3.0, status="rejected", dropped="too fast=2 not in order=1"),
    )
    found = timing(replay_maker.replay(windows=windows, published=12, used_frames=9, wall_time=1.5))
    assert (found.windows.count, found.windows.p50, found.windows.max) == (2, 2.0, 3.0)
    assert found.windows.p90 == pytest.approx(2.8) and found.windows.p99 == pytest.approx(2.98)
    assert (found.answers.count, found.answers.p50) == (1, 0.2)
    assert (found.frames_unused, found.windows_rejected, found.real_time_factor) == (3, 1, 2.0)
    assert found.dropped == {"too fast": 2, "not in order": 1}
    assert math.isnan(latency([]).p50) and latency([math.nan, 1.0]).count == 1
    assert timing(replay_maker.replay(windows=(), asked=(), wall_time=0.0)).windows.count == 0
