"""Scenes shared among real processes, started as `accelerate launch` and `torchrun` start them."""

import json
import os
import socket
import subprocess
import sys

import pytest
from test_image_benchmarks import picture

from vidllm_ros.evaluation.benchmarks import benchmark, sharding
from vidllm_ros.evaluation.errors import EvaluationError

SCENES = [f"scene{k}" for k in range(5)]


def write_clips(root):
    for clip in ("aaa", "bbb", "ccc"):
        rows = [f"{1000 * k} 0.9 1.6 0.5 0.5 0 0 1 0 0 {k} 0 1 0 0 0 0 1 0" for k in range(12)]
        (root / f"{clip}.txt").write_text("address\n" + "\n".join(rows))
        for k in range(12):
            picture(root / "images" / clip / f"{1000 * k}.png")
    return root


def launched(rank: int, size: int, port: int, arguments):
    environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vidllm_ros.cli", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_write_the_report_of_one(evaluate, tiny_checkpoint, tmp_path):
    data = write_clips(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = tmp_path / "shared"
    arguments = ["evaluate", "re10k", "--data", data, "--images", data / "images", "--checkpoint", tiny_checkpoint]
    processes = [launched(rank, 2, port, [*arguments, "--out", shared]) for rank in range(2)]
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    code, output, out = evaluate(*arguments[1:6])
    assert code == 0, output.err
    assert (shared / "summary.json").read_text() == (out / "summary.json").read_text()
    assert (shared / "summary.md").read_text() == (out / "summary.md").read_text()
    counts = [len(benchmark.read_results(shared / f"results.{k}-of-2.jsonl")) for k in range(2)]
    assert counts == [2, 1] and not (shared / "results.jsonl").exists()
    assert "AUC@30" in outputs[0][0] and outputs[1][0] == ""  # the first one reports


def test_shards_by_hand_meet_in_one_folder(tmp_path, capsys):
    calls = []

    def score(scene):
        calls.append(scene)
        return {"value": len(scene)}

    first = sharding.run(SCENES, str, score, tmp_path, sharding.share((0, 2)))
    assert [row["scene"] for row in first] == SCENES[::2]
    both = sharding.run(SCENES, str, score, tmp_path, sharding.share((1, 2)))
    assert [row["scene"] for row in both] == SCENES and len(calls) == 5
    assert sharding.run(SCENES, str, score, tmp_path, sharding.share()) == both and len(calls) == 5
    # what another process is writing just now is left alone
    other = tmp_path / "results.2-of-3.jsonl"
    other.write_text('{"scene": "scene9", "value"')
    sharding.run([*SCENES, "scene5"], str, score, tmp_path, sharding.share())
    assert calls[5:] == ["scene5"] and other.read_text() == '{"scene": "scene9", "value"'


def test_a_part_without_a_usable_scene_fails_only_alone(tmp_path):
    def load(scene):
        if scene != "scene0":
            raise ValueError("broken")
        return scene

    with pytest.raises(EvaluationError, match="none of 2 scenes could be used"):
        sharding.run(SCENES, load, lambda scene: {}, tmp_path, sharding.Share(1, 2))
    sharding.run(SCENES, load, lambda scene: {}, tmp_path, sharding.Share(0, 2))
    rows = sharding.run(SCENES, load, lambda scene: {}, tmp_path, sharding.Share(1, 2))
    assert [row["scene"] for row in rows] == ["scene0"]


def test_the_environment_of_a_launcher(monkeypatch):
    assert sharding.share() == sharding.Share(0, 1) and sharding.share((1, 4)) == sharding.Share(1, 4)
    assert sharding.share().device("cuda") == "cuda"
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    part = sharding.share()
    assert part == sharding.Share(3, 4, launched=True)
    assert (part.device("cuda"), part.device("cpu"), part.device("cuda:0")) == ("cuda:1", "cpu", "cuda:0")
    with pytest.raises(EvaluationError, match="leave --shard out"):
        sharding.share((0, 2))
    monkeypatch.setenv("RANK", "7")
    with pytest.raises(EvaluationError, match="RANK='7' and WORLD_SIZE='4'"):
        sharding.share()
    monkeypatch.delenv("RANK")
    with pytest.raises(EvaluationError, match="shard 2/2 does not exist"):
        sharding.share((2, 2))


def test_settings_are_checked_by_every_process(tmp_path):
    benchmark.same_run(tmp_path, {"a": 1})
    benchmark.same_run(tmp_path, {"a": 1})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["settings.json"]
    with pytest.raises(EvaluationError, match="choose another --out"):
        benchmark.same_run(tmp_path, {"a": 2})
