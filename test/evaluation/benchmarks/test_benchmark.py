import csv
import json
import math

import numpy as np
import pytest

from vidllm_ros.evaluation.benchmarks import benchmark
from vidllm_ros.evaluation.benchmarks.benchmark import EvaluatedWindow, Report, Row
from vidllm_ros.evaluation.benchmarks.windows import geometry_report, scanqa_report
from vidllm_ros.evaluation.errors import EvaluationError

SCENES = ["a", "b", "c", "d", "e"]


def load(scene: str) -> EvaluatedWindow:
    if scene == "c":
        raise ValueError("its depth is missing")
    return EvaluatedWindow(scene, np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2)), np.eye(4)[None], np.eye(4))


def go(out, said=None, calls=None, **further):
    def evaluate(window):
        if calls is not None:
            calls.append(window.name)
        return {"value": ord(window.name)}

    return benchmark.run(SCENES, load, evaluate, out, say=(said if said is not None else []).append, **further)


def test_scenes_are_kept_one_by_one_and_a_second_run_continues(tmp_path):
    said, calls = [], []
    rows = go(tmp_path, said, calls)
    assert [row["scene"] for row in rows] == ["a", "b", "d", "e"] and rows[0]["value"] == ord("a")
    assert any("left out: c: its depth is missing" in line for line in said) and "about 0:00 left" in said[-1]
    # killed in the middle of the third line
    text = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(text[:2]) + text[2][:7])
    calls.clear()
    again = go(tmp_path, said, calls)
    assert calls == ["d", "e"] and again == rows
    assert any("2 of 5 scenes are done already" in line for line in said)


def test_shards_share_the_scenes(tmp_path):
    shards = [go(tmp_path / str(k), shard=(k, 2)) for k in range(2)]
    assert [[row["scene"] for row in rows] for rows in shards] == [["a", "e"], ["b", "d"]]
    with pytest.raises(EvaluationError, match="shard 2/2 does not exist"):
        go(tmp_path, shard=(2, 2))


def test_nothing_to_use_and_damaged_results_say_so(tmp_path):
    with pytest.raises(EvaluationError, match="none of 1 scenes could be used; the last one, c: its depth"):
        benchmark.run(["c"], load, lambda window: {}, tmp_path, say=lambda text: None)
    (tmp_path / "results.jsonl").write_text('nonsense\n{"scene": "a"}\n')
    with pytest.raises(EvaluationError, match="line 1 is no result"):
        go(tmp_path)


def test_the_report_as_table_json_and_csv(tmp_path):
    report = Report("scanqa", (Row("CIDEr", 12.345, 101.9, "leo"), Row("ATE, m", math.nan)), {"frames": 32}, ("Note.",))
    assert "| CIDEr (leo) | 12.35 | 101.9 |" in report.table() and "| ATE, m | nan | - |" in report.table()
    report.write(tmp_path)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["rows"][1]["value"] is None and content["settings"] == {"frames": 32}
    with (tmp_path / "summary.csv").open() as file:
        assert [row["paper"] for row in csv.DictReader(file)] == ["101.9", ""]


def geometry_row(error: float, **changes):
    depth = {"abs_rel": error, "rmse": error, "delta1": 1 - error}
    row = {"depth_none": depth, "depth_median": depth, "rotation": [10 * error], "translation": [0.0, 40.0][:1]}
    errors = dict.fromkeys(("ate_se3", "ate_sim3", "scale", "rpe_translation", "rpe_rotation", "seconds"), error)
    return {"scene": str(error), **row, **errors, **changes}


def test_geometry_is_averaged_over_scenes_and_says_what_is_lost():
    rows = [geometry_row(0.1), geometry_row(0.3), geometry_row(0.2, ate_se3=math.nan)]
    report = geometry_report("tum", rows, {})
    values = {f"{row.name} {row.note}": row.value for row in report.rows}
    assert values["depth AbsRel metric"] == pytest.approx(0.2) and values["ATE, m SE(3)"] == pytest.approx(0.2)
    # errors of 1, 2 and 3 whole degrees, each of which opens its bin
    assert values["RRA@15 %"] == 100.0 and values["AUC@30 %"] == pytest.approx(100 * (29 + 28 + 27) / 90)
    assert any("1 scenes have no ATE" in note for note in report.notes)


@pytest.mark.filterwarnings("ignore:Not computed")
def test_answers_stand_beside_the_papers_row():
    answers = [{"key": "s#0", "question": "What?", "answer": "a chair", "accepted": ["chair", "seat"]}]
    report = scanqa_report([{"scene": "s", "answers": answers}], {}, ["leo", "scanqa"])
    rows = {(row.name, row.note): row for row in report.rows}
    assert rows["EM@1", "leo"].value == 100.0 and rows["EM@1", "leo"].paper == 27.6
    assert rows["EM@1", "scanqa"].value == 0.0 and rows["CIDEr", "leo"].paper == 101.9
    assert ("refined EM", "scanqa") not in rows and any("42.6" in note for note in report.notes)
    with pytest.raises(EvaluationError, match="no questions"):
        scanqa_report([{"scene": "s", "answers": []}], {}, ["leo"])
