"""Questions to the pipeline: which scene they are about, and where the boxes lie; the real network, random weights."""

from __future__ import annotations

import numpy as np
import pytest

from vidllm_ros.model import QuestionError
from vidllm_ros.perception.errors import (
    NoWindowError,
    StampNotHeldError,
)
from vidllm_ros.perception.pipeline import Pipeline

STEP = 250_000_000


def test_a_scene_of_before_the_reset_is_not_reused(pipeline, run):
    run(pipeline, range(6))
    before = pipeline.scene()
    pipeline.reset()
    run(pipeline, range(100, 106))
    assert pipeline.scene() is not before and pipeline.scene().stamps_ns[0] == 100 * STEP


def test_the_memory_of_everything_begins_anew_after_a_reset(pipeline, run):
    run(pipeline, range(6))
    pipeline.reset()
    run(pipeline, range(100, 106))
    scene = pipeline.scene("all")
    assert scene.stamps_ns == (100 * STEP, 105 * STEP)
    other = Pipeline(pipeline.model, pipeline.config)
    run(other, range(100, 106))
    np.testing.assert_array_equal(scene.tokens.positions, other.scene("all").tokens.positions)


def test_a_scene_follows_when_the_map_is_rescaled(pipeline, run, small_config):
    pipeline.configure(small_config.replace({"scale.max_spread": 0.0}))
    run(pipeline, range(6))
    before = pipeline.scene(0)
    pipeline.configure(small_config.replace({"scale.max_spread": 10.0}))
    (result,) = run(pipeline, range(6, 9))
    assert any("rescaled" in warning for warning in result.warnings)
    assert pipeline.scene(0) is not before and pipeline.scene(0) is pipeline.scene(0)


def test_questions_before_any_window_say_so(pipeline):
    for call in (
        lambda: pipeline.ask("How many chairs?"),
        pipeline.locate,
        pipeline.scene,
        lambda: pipeline.scene("all"),
    ):
        with pytest.raises(NoWindowError, match="no window"):
            call()
    with pytest.raises(NoWindowError, match="no window"):
        pipeline.window_at(0)


def test_windows_are_found_by_id_and_by_time_while_they_are_held(pipeline, run):
    run(pipeline, range(12))  # windows 0, 1, 2; two are held
    assert pipeline.scene().window_id == 2 and pipeline.scene(1).window_id == 1
    assert pipeline.window_at(11 * STEP) == 2 and pipeline.window_at(4 * STEP) == 1
    assert pipeline.window_at(7 * STEP) == 2, "the newest of two that span it"
    with pytest.raises(StampNotHeldError, match="window 0 is not held; the history holds windows 1, 2"):
        pipeline.scene(0)
    for stamp in (0, 12 * STEP):
        with pytest.raises(StampNotHeldError, match="the history goes from"):
            pipeline.window_at(stamp)


def test_an_answer_names_its_window(pipeline, run):
    run(pipeline, range(9))
    answer = pipeline.ask("How many chairs are there?")
    assert answer.window_id == 1 and 0 <= answer.confidence <= 1 and answer.token_count <= 6
    assert pipeline.ask("How many chairs are there?", window_id=0).window_id == 0
    assert pipeline.ask("How many chairs are there?", window_id="all").window_id is None


def test_the_configured_length_and_the_asked_one(pipeline, run):
    run(pipeline, range(6))
    assert pipeline.ask("chairs?", max_new_tokens=2).token_count <= 2
    with pytest.raises(QuestionError):
        pipeline.ask("   ")


def test_an_answer_can_be_stopped(pipeline, run):
    run(pipeline, range(6))
    pieces = []
    answer = pipeline.ask(
        "How many?", max_new_tokens=50, temperature=1.0, on_text=lambda text: pieces.append(text) or False
    )
    assert not answer.finished and len(pieces) == 1


def test_a_scene_is_read_once_for_many_questions(pipeline, run, monkeypatch):
    run(pipeline, range(6))
    reads = []
    original = pipeline.model.read_scene
    monkeypatch.setattr(pipeline.model, "read_scene", lambda scene: reads.append(1) or original(scene))
    for question in ("How many chairs?", "Where is the table?"):
        pipeline.ask(question)
    pipeline.locate(["chair"])
    assert len(reads) == 1
    run(pipeline, range(6, 9))
    pipeline.ask("How many chairs?")
    assert len(reads) == 2


def test_boxes_are_in_map(pipeline, run):
    run(pipeline, range(9))
    scene = pipeline.scene()
    found = pipeline.locate(["chair"])
    raw = pipeline.model.locate(scene.tokens, ["chair"], min_score=0.0)
    assert len(found) == len(raw) > 0
    for box, expected in zip(found, raw, strict=True):
        corners = expected.corners() @ scene.T_map_scene[:3, :3].T + scene.T_map_scene[:3, 3]
        np.testing.assert_allclose(box.corners(), corners, atol=1e-4)
        assert box.label == "chair"


def test_labels_come_from_the_configuration(model, run, small_config):
    pipeline = Pipeline(model, small_config.replace({"detection.labels": ["plant"]}))
    run(pipeline, range(6))
    assert {box.label for box in pipeline.locate()} == {"plant"}
    assert pipeline.locate([]) == []


def test_a_checkpoint_that_only_reconstructs_still_maps(make_frame, run, small_config):
    from dataclasses import replace

    from vidllm_ros.model import VidLLM
    from vidllm_ros.model.sizes import nano

    pipeline = Pipeline(VidLLM(replace(nano(), patches=None, language=None, grounding=None)), small_config)
    results = run(pipeline, range(9))
    assert len(results) == 2 and len(pipeline.map_points()[0]) > 0
    for window_id in (None, "all"):
        with pytest.raises(Exception, match="only reconstructs|reconstructs only"):
            pipeline.ask("What is here?", window_id=window_id)
