"""``vidllm evaluate rooms`` with a network of random weights: what it keeps, continues and compares."""

import json

import numpy as np
import pytest

from vidllm_ros import cli
from vidllm_ros.training.evaluate.room_scores import CONSTANTS
from vidllm_ros.training.rooms import room_sample


@pytest.fixture
def two_rooms(evaluate):
    code, said, out = evaluate("rooms", "--rooms", 2, "--frames", 3)
    assert code == 0, said.err
    return out


def summary(out) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((out / "summary.json").read_text())["rows"]}


def test_the_table_is_what_the_rooms_say(two_rooms):
    rows = [json.loads(line) for line in (two_rooms / "results.jsonl").read_text().splitlines()]
    assert [row["scene"] for row in rows] == ["0", "1"]
    table = summary(two_rooms)
    assert table["depth AbsRel"]["value"]["mean"] == pytest.approx(np.mean([row["abs_rel"] for row in rows]))
    pairs = [error for row in rows for error in row["pair_rotation"]]
    assert len(pairs) == 6 and table["rotation error of a pair, degrees"]["value"]["mean"] == pytest.approx(
        np.mean(pairs)
    )
    adjusted = [error for row in rows for error in row["adjusted_pair_rotation"]]
    after = table["rotation error of a pair after bundle adjustment, degrees"]
    assert len(adjusted) == 6 and after["value"]["mean"] == pytest.approx(np.mean(adjusted))
    assert after["baseline"]["mean"] == pytest.approx(np.mean(pairs))
    assert (two_rooms / "summary.csv").read_text().count("\n") == 1 + len(table)
    assert "| depth AbsRel |" in (two_rooms / "summary.md").read_text()


def test_the_best_constant_depth_is_a_baseline(two_rooms, tiny_checkpoint):
    size = tuple(json.loads((tiny_checkpoint / "config.json").read_text())["image_size"])
    frames = [
        depth[depth > 0] for seed in (0, 1) for depth in room_sample(seed, "test", 3, size, stride=1, tasks=0).depth
    ]
    best = min(np.mean([np.mean(np.abs(c - frame) / frame) for frame in frames]) for c in CONSTANTS)
    assert summary(two_rooms)["depth AbsRel"]["baseline"]["mean"] == pytest.approx(best, rel=0.02)


def test_a_run_continues_and_two_are_compared(two_rooms, evaluate, tmp_path, capsys, monkeypatch):
    code, said, out = evaluate("rooms", "--rooms", 3, "--frames", 3)
    assert code == 0 and "2 of 3 scenes are done already" in said.err
    assert len((out / "results.jsonl").read_text().splitlines()) == 3
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "compare", str(out), str(two_rooms)]) == 0
    assert "| depth AbsRel |" in capsys.readouterr().out
    code, said, _ = evaluate("rooms", "--rooms", 2, "--frames", 2)
    assert code == 1 and "choose another --out" in said.err
