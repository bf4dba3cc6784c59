"""``vidllm ask`` over a folder of images, with a checkpoint of random weights."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from vidllm_ros.cli import main
from vidllm_ros.perception.cli import parse_settings
from vidllm_ros.perception.errors import ConfigError

SMALL = [
    "--set",
    "window.size=6",
    "--set",
    "window.stride=3",
    "--set",
    "window.min_motion=0",
    "--set",
    "cloud.min_confidence=0",
    "--set",
    "query.max_new_tokens=4",
    "--set",
    "detection.min_score=0.0",
]


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path, make_frame):
    source = tmp_path / "images"
    source.mkdir()
    for index in range(10):
        cv2.imwrite(str(source / f"{index}.png"), make_frame(index).rgb)
    return source


def test_it_reconstructs_locates_answers_and_writes(checkpoint, folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["ask", str(folder), "How many chairs?", "What is this?", "--checkpoint", str(checkpoint)]
    assert main([*command, *SMALL, "--locate", "chair", "--out", str(out), "--everything"]) == 0
    printed = capsys.readouterr().out
    assert "window 0: 6 frames, first" in printed and "window 2: 6 frames, stitched" in printed
    assert "frames: 10 received, 10 used, 0 waiting, dropped: none" in printed
    assert printed.count("Q: ") == printed.count("A: ") == 2
    assert sorted(path.name for path in out.iterdir()) == ["answers.json", "map.ply", "trajectory.tum"]
    assert len((out / "trajectory.tum").read_text().splitlines()) == 10
    header = (out / "map.ply").read_bytes()[:4000]
    assert b"comment frame: map (z up, metres)" in header and b"comment window.size: 6" in header
    content = json.loads((out / "answers.json").read_text())
    assert [entry["question"] for entry in content["answers"]] == ["How many chairs?", "What is this?"]
    assert content["boxes"] and np.isfinite(content["boxes"][0]["center"]).all()
    assert {box["label"] for box in content["boxes"]} == {"chair"}


def test_known_intrinsics_are_used(checkpoint, folder, capsys):
    command = ["ask", str(folder), "--checkpoint", str(checkpoint), *SMALL, "--intrinsics", "900", "900", "32", "24"]
    assert main(command) == 0
    assert "camera.max_focal_error" in capsys.readouterr().out


def test_frames_that_cannot_be_used_are_told_and_left_out(checkpoint, folder, capsys):
    cv2.imwrite(str(folder / "5b.png"), np.zeros((20, 20, 3), np.uint8))
    assert main(["ask", str(folder), "--checkpoint", str(checkpoint), *SMALL]) == 0
    captured = capsys.readouterr()
    assert "frame left out: the image size changed from 64 x 48 to 20 x 20" in captured.err
    assert "dropped: 1 size_changed" in captured.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["nowhere", "--set", "window.size"], "not of the form name=value"),
        (["nowhere", "--set", "window.sise=3"], "the nearest known one is 'window.size'"),
        (["nowhere", "--set", "window.size=many"], "window.size is 'many'"),
        (["nowhere", "--set", "window.size=900"], "window.size is 900; it must be from 2 to 64"),
        (["nowhere", "--checkpoint", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(checkpoint, arguments, text, capsys):
    if "--checkpoint" not in arguments:
        arguments = [*arguments, "--checkpoint", str(checkpoint)]
    assert main(["ask", *arguments]) == 1
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_settings_have_the_types_of_their_parameters():
    config = parse_settings(["detection.labels=chair,plant", "map.enabled=false", "cloud.max_range=5"])
    assert config.detection.labels == ("chair", "plant")
    assert config.map.enabled is False and config.cloud.max_range == 5.0
    with pytest.raises(ConfigError, match="must be true or false"):
        parse_settings(["map.enabled=5"])
