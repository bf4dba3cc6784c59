"""Two runs side by side: the figures item by item, their differences, and what does not compare."""

import csv
import json

import numpy as np
import pytest

from vidllm_ros import cli
from vidllm_ros.evaluation import measures
from vidllm_ros.evaluation.benchmarks import referring
from vidllm_ros.evaluation.benchmarks import windows as window_benchmarks
from vidllm_ros.evaluation.compare import compare, read_run, write
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import poses

RNG = np.random.default_rng(0)


def write_run(folder, benchmark, rows, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": benchmark, "checkpoint": folder.name, "data": "somewhere", **settings}
    (folder / "settings.json").write_text(json.dumps(content))
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_run(folder)


def pair_row(scene, count=6, shift=0.0):
    rotation = RNG.uniform(0, 40, count) + shift
    return {"scene": scene, "group": "g", "rotation": rotation.tolist(), "translation": [5.0] * count}


def geometry_row(scene, error):
    depth = {"abs_rel": error, "rmse": error, "delta1": 1 - error}
    names = ("ate_se3", "ate_sim3", "scale", "rpe_translation", "rpe_rotation", "seconds")
    return {**pair_row(scene), "depth_none": depth, "depth_median": depth, **dict.fromkeys(names, error)}


def means(made):
    values = {one.name: np.concatenate([np.array(v, float) for v in one.values.values()]) for one in made}
    return {name: np.nanmean(v) for name, v in values.items() if np.isfinite(v).any()}


def figures(report):
    return {f"{row.name} {row.note}".strip(): row.value for row in report.rows}


def test_what_a_pair_adds_to_the_auc():
    errors = np.array([0.0, 0.5, 1.0, 14.999, 15.0, 29.0, 29.99, 30.0, 30.01, 180.0, 1e6])
    for error in errors:
        alone = poses.summary(poses.PairErrors(np.array([error]), np.array([0.0])))["AUC@30"]
        assert 100 * measures.pair_auc(np.array([error]))[0] == pytest.approx(alone)


def test_geometry_item_by_item_is_what_the_report_says():
    rows = [geometry_row(f"s{k}", 0.1 * (k + 1)) for k in range(4)]
    found, said = (
        means(measures.BENCHMARKS["tum"].measures(rows)),
        figures(window_benchmarks.geometry_report("tum", rows, {})),
    )
    assert found["AUC@30, %"] == pytest.approx(said["AUC@30 %"])
    assert found["depth AbsRel, metric"] == pytest.approx(said["depth AbsRel metric"])
    assert found["ATE, m, SE(3)"] == pytest.approx(said["ATE, m SE(3)"])


@pytest.mark.filterwarnings("ignore:Not computed")
def test_answers_item_by_item_are_what_the_report_says():
    texts = [("a chair", ["chair", "seat"]), ("the red table", ["red table"]), ("two", ["3"]), ("left of it", ["left"])]
    rows = [
        {"scene": f"s{k}", "answers": [{"question": q, "bare": q, "key": f"{k}{q}", "answer": a, "accepted": r}]}
        for k, (a, r) in enumerate(texts)
        for q in ["What is it?"]
    ]
    found = means(measures.BENCHMARKS["scanqa"].measures(rows))
    said = figures(window_benchmarks.scanqa_report(rows, {}, ["leo", "video3dllm"]))
    for dialect in ("leo", "video3dllm"):
        assert found[f"EM@1, % ({dialect})"] == pytest.approx(said[f"EM@1 {dialect}"])
        assert found[f"CIDEr x 100 ({dialect})"] == pytest.approx(said[f"CIDEr {dialect}"])
        assert found[f"ROUGE-L x 100 ({dialect})"] == pytest.approx(said[f"ROUGE-L {dialect}"])
    assert found["refined EM, % (leo)"] == pytest.approx(said["refined EM leo"])
    found, said = means(measures._sqa3d(rows)), figures(window_benchmarks.sqa3d_report(rows, {}))
    assert found["EM@1, %"] == pytest.approx(said["EM@1, %"])
    assert found["EM@1 (what), %"] == pytest.approx(said["EM@1 (what), % 4 questions"])


def referred_items(count=5):
    items = []
    for k in range(count):
        truth = [[k, 0.0, 0.0, 1.0, 1.0, 1.0]]
        boxes = [[k + 0.2 * j, 0.0, 0.0, 1.0, 1.0, 1.0, 0.3 * k] for j in range(k % 3)]
        more = {"eval_type": "mt", "stimulus_id": "s-chair-2-1", "tokens": ["left"], "chosen": [k % 2]}
        items.append({"key": str(k), "phrase": f"p{k}", "objects": [1], "truth": truth, "boxes": boxes, **more})
    return items


@pytest.mark.filterwarnings("ignore:Not computed")
def test_boxes_and_captions_item_by_item_are_what_the_report_says():
    rows = [{"scene": "s", "left_out": 0, "items": referred_items()}]
    found, said = means(measures._scanrefer(rows)), figures(referring.scanrefer_report(rows, {}))
    assert found["Acc@0.25, %"] == pytest.approx(said["Acc@0.25, %"]) and 0 < found["Acc@0.5, %"] < 100
    found, said = means(measures._multi3drefer(rows)), figures(referring.multi3drefer_report(rows, {}))
    assert found["F1@0.5, %"] == pytest.approx(said["F1@0.5, %"])
    found, said = means(measures._referit3d(rows)), figures(referring.referit3d_report("nr3d", rows, {}))
    assert found["accuracy, %"] == pytest.approx(said["overall, %"]) == pytest.approx(40.0)
    texts = [("a red chair", 0.7), ("a table", 0.4), ("the lamp", 1.0)]
    items = [
        {"key": text, "answer": text, "iou": iou, "descriptions": ["this is a red chair."], "tokens": [["a"]]}
        for text, iou in texts
    ]
    rows = [{"scene": "s", "left_out": 0, "items": items}]
    found, said = means(measures._scan2cap(rows)), figures(referring.scan2cap_report(rows, {}, ["video3dllm"]))
    assert found["ROUGE-L x 100 (video3dllm)"] == pytest.approx(said["ROUGE-L@0.5 video3dllm"])
    assert found["objects with a box, %"] == pytest.approx(200 / 3)


def test_a_real_difference_is_told_from_none(tmp_path):
    scenes = [f"s{k}" for k in range(30)]
    errors = RNG.uniform(0.1, 0.5, 30)
    rows = [geometry_row(scene, error) for scene, error in zip(scenes, errors, strict=True)]
    better = [{**row, "ate_se3": row["ate_se3"] * 0.9, "rpe_translation": np.nan} for row in rows]
    noise = [{**row, "ate_sim3": row["ate_sim3"] + 0.01 * RNG.normal()} for row in better[:-1]]
    a = write_run(tmp_path / "a", "tum", rows, frames=32)
    b = write_run(tmp_path / "b", "tum", noise, frames=32)
    made = compare(a, b)
    found = {row.name: row for row in made.rows}
    assert found["ATE, m, SE(3)"].verdict == "B"  # less is better
    assert found["ATE, m, SE(3)"].difference.mean == pytest.approx(-0.1 * errors[:-1].mean())
    assert found["ATE, m, Sim(3)"].verdict == "" and found["AUC@30, %"].difference.mean == 0.0
    assert "RPE, m" not in found  # one run has none
    assert any("1 scenes are in one of the runs only" in note for note in made.notes)
    assert {row.name: row for row in compare(b, a).rows}["ATE, m, SE(3)"].verdict == "A"
    write(made, tmp_path / "out")
    with (tmp_path / "out/compare.csv").open() as file:
        assert {row["measure"]: row["better"] for row in csv.DictReader(file)}["ATE, m, SE(3)"] == "B"
    page = (tmp_path / "out/compare.html").read_text()
    assert page.count("<svg") == len(made.rows) and "ATE, m, SE(3) (less is better)" in page
    assert json.loads((tmp_path / "out/compare.json").read_text())["rows"][0]["a"]["rooms"] == 29


def test_the_command(tmp_path, capsys):
    rows = [pair_row(f"s{k}") for k in range(3)]
    write_run(tmp_path / "a", "co3d", rows, seed=0, order="vggt", note="one")
    write_run(tmp_path / "b", "co3d", rows, seed=0, order="vggt", note="two")
    arguments = ["evaluate", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert "| AUC@30, % |" in output and "| 0 [0, 0] | - |" in output
    assert "differ in note: A one, B two" in output and "fewer than 10 scenes" in output
    assert cli.main([*arguments[:3], str(tmp_path / "nothing")]) == 1
    assert "holds no results to compare" in capsys.readouterr().err


def test_what_does_not_compare_says_why(tmp_path):
    rows = [pair_row(f"s{k}") for k in range(3)]
    a = write_run(tmp_path / "a", "co3d", rows, seed=0)
    with pytest.raises(EvaluationError, match="a run of co3d and .* one of re10k"):
        compare(a, write_run(tmp_path / "b", "re10k", rows, seed=0))
    with pytest.raises(EvaluationError, match=r"made with seed = 0 and .* with 1: they did not look at the same"):
        compare(a, write_run(tmp_path / "c", "co3d", rows, seed=1))
    with pytest.raises(EvaluationError, match="no scene in common"):
        compare(a, write_run(tmp_path / "d", "co3d", [pair_row("other")], seed=0))
    with pytest.raises(EvaluationError, match="scene s0 has other items"):
        compare(a, write_run(tmp_path / "e", "co3d", [pair_row("s0", 4)], seed=0))
    with pytest.raises(EvaluationError, match="holds no result yet"):
        write_run(tmp_path / "f", "co3d", [])
    with pytest.raises(EvaluationError, match="runs of chess cannot be compared: use one of rooms, bag, tum"):
        compare(*(write_run(tmp_path / name, "chess", rows) for name in "gh"))
    with pytest.raises(EvaluationError, match="confidence = 95"):
        compare(a, a, confidence=95)


def test_one_scene_gives_no_verdict(tmp_path):
    a = write_run(tmp_path / "a", "co3d", [pair_row("s")])
    b = write_run(tmp_path / "b", "co3d", [pair_row("s", shift=100.0)])
    assert all(row.verdict == "" for row in compare(a, b).rows)


def write_bag_run(folder, position, latency=2.0, name="office", boxes=(0.3, 0.6)):
    """What `vidllm evaluate bag` leaves: poses four times a second, windows of 8 s."""
    folder.mkdir()
    recording = {"name": name, "frames": 100, "topic": "/image"}
    config = {"checkpoint": folder.name, "recording": recording, "parameters": {"window.size": 32}}
    (folder / "config.json").write_text(json.dumps(config))
    scores = {
        "trajectory": {"ate_se3": float(np.mean(position))},
        "map": None,
        "boxes": [{"label": "chair", "iou": iou} for iou in boxes],
        "answers": {"exact": 0.5, "matched": {"How many?": True, "What?": False}},
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    with (folder / "path_errors.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stamp_ns", "seconds", "travelled_m", "position_error_m", "rotation_error_deg"])
        writer.writerows([250_000_000 * k, 0.25 * k, 0.0, error, 1.0] for k, error in enumerate(position))
    with (folder / "windows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["window_id", "latency", "first_stamp", "last_stamp"])
        writer.writerows([k, latency, 8_000_000_000 * k, 8_000_000_000 * (k + 1)] for k in range(4))
    return read_run(folder)


def test_two_runs_of_a_bag(tmp_path):
    drift = np.repeat(RNG.uniform(0.1, 0.5, 12), 20)  # 60 s; errors of neighbours resemble each other
    a = write_bag_run(tmp_path / "a", drift)
    b = write_bag_run(tmp_path / "b", drift[:220] - 0.05, latency=1.0)
    made = compare(a, b)
    found = {row.name: row for row in made.rows}
    position = found["position error, m"]
    assert position.difference.mean == pytest.approx(-0.05) and position.verdict == "B"
    assert (position.difference.rooms, position.difference.items) == (11, 220)  # stretches, poses
    assert found["latency of a window, s"].verdict == "B" and found["answers that match, %"].verdict == ""
    assert found["IoU of a true box"].a.mean == pytest.approx(0.45)
    assert made.figures()[0][0] == "trajectory.ate_se3" and "| without interval | A | B | B - A |" in made.table()
    write(made, tmp_path / "out")
    assert "without interval" in (tmp_path / "out/compare.html").read_text()
    with pytest.raises(EvaluationError, match="with recording = office, 100 frames of /image and"):
        compare(a, write_bag_run(tmp_path / "c", drift, name="kitchen"))
    with pytest.raises(EvaluationError, match="with true boxes = chair, chair and .* with chair, chair, chair"):
        compare(a, write_bag_run(tmp_path / "d", drift, boxes=(0.1, 0.2, 0.3)))
    (tmp_path / "a/config.json").unlink()
    with pytest.raises(EvaluationError, match="no whole result of vidllm evaluate bag"):
        read_run(tmp_path / "a")
