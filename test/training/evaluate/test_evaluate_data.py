"""`vidllm evaluate` on miniatures of data sets and a real clip, with a small network of random weights."""

import json

import pytest
from scan_maker import SCENE, write_scan
from test_tum_source import write_sequence


def test_tum_sequences_are_scored_and_kept(evaluate, tmp_path):
    for name in ("rgbd_dataset_freiburg1_desk", "rgbd_dataset_freiburg1_room"):
        write_sequence(tmp_path / "data", name)
    code, output, out = evaluate("tum", "--data", tmp_path / "data", "--frames", 3, "--limit-scenes", 1)
    assert code == 0, output.err
    assert "depth AbsRel (metric)" in output.out and "1 scenes, one window each" in output.out
    code, output, out = evaluate("tum", "--data", tmp_path / "data", "--frames", 3)
    assert code == 0 and "1 of 2 scenes are done already" in output.err and "scene 1 of 1" in output.err
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["frames"] for row in rows] == [3, 3] and len(rows[0]["rotation"]) == 3
    assert all(row["depth_none"]["abs_rel"] > 0 and row["seconds"] > 0 for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["frames"] == 3 and summary["benchmark"] == "tum"
    code, output, _ = evaluate("tum", "--data", tmp_path / "data", "--frames", 2)
    assert code == 1 and "holds results of another checkpoint or other data" in output.err


def test_a_real_clip_is_scored(evaluate, recorded_data):
    code, output, out = evaluate("clips", "--data", recorded_data("tum_fr3_cabinet"))
    assert code == 0, output.err
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert row["frames"] == 4 and 0 < row["ate_se3"] < 3 and row["depth_median"]["abs_rel"] > 0


@pytest.mark.filterwarnings("ignore:Not computed")
def test_scanqa_is_asked_and_scored_in_several_dialects(evaluate, tmp_path):
    write_scan(tmp_path / "scans")
    rows = [
        {"scene_id": SCENE, "question_id": "q0", "question": "What is red?", "answers": ["table", "a table"]},
        {"scene_id": SCENE, "question_id": "q1", "question": "How many chairs?", "answers": ["1"]},
    ]
    annotations = tmp_path / "ScanQA_v1.0_val.json"
    annotations.write_text(json.dumps([{**row, "object_ids": [3], "object_names": ["coffee table"]} for row in rows]))
    data = ["--data", annotations, "--scans", tmp_path / "scans", "--frames", 2]
    code, output, out = evaluate("scanqa", *data, "--dialects", "leo,video3dllm")
    assert code == 0, output.err
    assert "2 questions in 1 scenes" in output.out and "| EM@1 (leo) |" in output.out and "| 27.6 |" in output.out
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [answer["question"] for answer in row["answers"]] == ["What is red?", "How many chairs?"]
    assert row["answers"][0]["accepted"] == ["table", "a table"]


def test_sqa3d_is_scored_by_kind_of_question(evaluate, tmp_path):
    write_scan(tmp_path / "scans")
    asked = {1: "What is red?", 2: "Is the chair. Blue?", 3: "Which way?"}
    rows = [
        {"scene_id": SCENE, "situation": "I sit here. It is warm", "question": q, "question_id": k}
        for k, q in asked.items()
    ]
    name = "v1_balanced_{}_test_scannetv2.json"
    (tmp_path / name.format("questions")).write_text(json.dumps({"questions": rows}))
    answers = [{"scene_id": SCENE, "question_id": k, "answers": [{"answer": "table"}]} for k in asked]
    (tmp_path / name.format("sqa_annotations")).write_text(json.dumps({"annotations": answers}))
    data = ["--data", tmp_path / name.format("questions"), "--scans", tmp_path / "scans", "--frames", 2]
    code, output, out = evaluate("sqa3d", *data)
    assert code == 0, output.err
    assert "| EM@1 (what), % (1 questions) |" in output.out and "| EM@1 (is), % (1 questions) |" in output.out
    assert "| EM@1 (which), % (1 questions) |" in output.out and "| 57.3 |" in output.out
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert row["answers"][1]["question"] == "I sit here. It is warm. Is the chair. Blue?"


def test_wrong_arguments_are_told_before_any_work(evaluate, tmp_path):
    code, output, out = evaluate("tum", "--data", tmp_path / "nothing")
    assert code == 1 and "nothing" in output.err and not (out / "results.jsonl").exists()
    code, output, _ = evaluate("scanqa", "--data", "x.json", "--scans", tmp_path, "--dialects", "coco")
    assert code == 1 and "dialect 'coco' is unknown" in output.err
    with pytest.raises(SystemExit):
        evaluate("tum", "--data", tmp_path, "--shard", "2")
