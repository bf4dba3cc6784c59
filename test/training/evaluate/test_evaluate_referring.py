"""`vidllm evaluate scan2cap`, `scanrefer`, `multi3drefer`, `nr3d`, `sr3d` on a miniature, with random weights."""

import csv
import json

import numpy as np
import pytest
from scan_maker import CHAIR, HIDDEN, OBJECTS, SCENE, TABLE, write_scan
from scipy import sparse

from vidllm_ros.evaluation.benchmarks.referring import multi3drefer_report, referit3d_report, scanrefer_report
from vidllm_ros.training.data import DataError
from vidllm_ros.training.data.scannet.mask3d import read_proposals


def items(out):
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return row["items"]


def box(thing):
    low, high = np.array(thing[2]), np.array(thing[3])
    return [*(low + high) / 2, *(high - low)]


@pytest.fixture
def scans(tmp_path):
    write_scan(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def masks(tmp_path):
    """Proposals that are the table, table and chair in one, and nothing; eight vertices to each object."""
    folder = tmp_path / "mask"
    folder.mkdir()
    rows = np.zeros((3, 8 * len(OBJECTS)), bool)
    rows[0, 8:16] = True
    rows[1, 8:24] = True
    sparse.save_npz(folder / f"{SCENE}.mask.npz", sparse.csr_matrix(rows))
    return folder


def scanrefer(path, *more):
    rows = [
        (TABLE, "coffee_table", "A red table. It is low."),
        (CHAIR, "office_chair", "the blue chair"),
        (HIDDEN, "lamp", "the lamp behind you"),  # no frame shows it: it is asked for all the same
        ((99,), "ghost", "nothing of the scan"),
        *more,
    ]
    entries = [
        {
            "scene_id": SCENE,
            "object_id": str(thing[0]),
            "object_name": name,
            "ann_id": str(k),
            "description": words,
            "token": words.lower().replace(".", " .").split(),
        }
        for k, (thing, name, words) in enumerate(rows)
    ]
    path.write_text(json.dumps(entries))
    return path


def test_scanrefer(evaluate, tmp_path, scans):
    data = ["--data", scanrefer(tmp_path / "ScanRefer_filtered_val.json"), "--scans", scans, "--frames", 2]
    labels = tmp_path / "scannetv2-labels.combined.tsv"
    labels.write_text("id\traw_category\tnyu40id\n1\tcoffee table\t7\n2\toffice chair\t5\n3\tlamp\t35\n")
    code, output, out = evaluate("scanrefer", *data, "--labels", labels)
    assert code == 0, output.err
    assert "| Acc@0.25, % |" in output.out and "| 63.2 |" in output.out and "Acc@0.5 unique" in output.out
    assert "3 descriptions in 1 scenes" in output.out and "1 annotations name objects" in output.out
    assert "a different protocol" in output.out
    rows = items(out)
    assert [row["objects"] for row in rows] == [[3], [7], [9]] and all(len(row["boxes"]) == 1 for row in rows)
    np.testing.assert_allclose(rows[0]["truth"][0], box(TABLE), atol=1e-5)
    code, output, _ = evaluate("scanrefer", *data, "--boxes", "nearest")
    assert code == 1 and "name their folder with --proposals" in output.err


def test_multi3drefer_among_proposals(evaluate, tmp_path, scans, masks):
    rows = [("zt_w_d", []), ("st_wo_d", [TABLE[0]]), ("mt", [TABLE[0], CHAIR[0]])]
    entries = [
        {"scene_id": SCENE, "object_ids": ids, "ann_id": k, "description": "the chair", "eval_type": kind}
        for k, (kind, ids) in enumerate(rows)
    ]
    path = tmp_path / "multi3drefer_val.json"
    path.write_text(json.dumps(entries))
    data = ["--data", path, "--scans", scans, "--frames", 2, "--proposals", masks]
    code, output, out = evaluate("multi3drefer", *data, "--boxes", "scored")
    assert code == 0, output.err
    assert "| F1@0.5, % |" in output.out and "| 56.1 |" in output.out and "zero targets, distractors" in output.out
    assert "not trained by this package" in output.out
    given = {tuple(np.round(box(TABLE), 4)), tuple(np.round(read_both(masks), 4))}
    for row in items(out):
        assert {tuple(np.round(b[:6], 4)) for b in row["boxes"]} <= given


def read_both(masks):
    world = np.concatenate([corners(thing) for thing in OBJECTS])
    return read_proposals(masks, SCENE, world)[1]


def corners(thing):
    places = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return np.where(places, thing[3], thing[2])


def test_proposals_are_the_boxes_of_their_vertices(masks):
    world = np.concatenate([corners(thing) for thing in OBJECTS])
    found = read_proposals(masks, SCENE, world)
    assert found.shape == (2, 6)  # the empty one is left out
    np.testing.assert_allclose(found[0], box(TABLE))
    with pytest.raises(DataError, match="over 32 vertices, but the mesh of scene0012_00 has 31"):
        read_proposals(masks, SCENE, world[:-1])
    with pytest.raises(DataError, match="cannot be read as a sparse matrix"):
        read_proposals(masks, "scene0000_00", world)


@pytest.mark.parametrize(("name", "paper"), [("nr3d", "| 61.9 |"), ("sr3d", "| 63.1 |")])
def test_referit3d_chooses_among_annotated_objects(evaluate, tmp_path, scans, name, paper):
    path = tmp_path / f"{name}.csv"
    head = ["scan_id", "target_id", "utterance", "tokens", "mentions_target_class", "stimulus_id"]
    rows = [
        (SCENE, 3, "the table", "['the', 'table']", "True", f"{SCENE}-coffee_table-1-3"),
        (SCENE, 7, "chair left of it", "['chair', 'left', 'of', 'it']", "True", f"{SCENE}-office_chair-3-7-1"),
        (SCENE, 7, "that one", "['that', 'one']", "False", f"{SCENE}-office_chair-2-7-1"),
        ("scene0700_01", 7, "the chair", "['the', 'chair']", "True", "scene0700_01-office_chair-2-7-1"),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    listing = tmp_path / "scannetv2_val.txt"
    listing.write_text(f"{SCENE}\n")
    code, output, out = evaluate(name, "--data", path, "--scans", scans, "--frames", 2, "--list", listing)
    assert code == 0, output.err
    assert "| view-dependent, % |" in output.out and paper in output.out and "2 descriptions" in output.out
    rows = items(out)
    assert all(row["chosen"][0] in {thing[0] for thing in OBJECTS} for row in rows)
    assert rows[1]["tokens"] == ["chair", "left", "of", "it"] and rows[1]["stimulus_id"].endswith("-3-7-1")


@pytest.mark.filterwarnings("ignore:Not computed")
def test_scan2cap(evaluate, tmp_path, scans, masks):
    more = (TABLE, "coffee_table", "This table is in front of the chair.")
    path = scanrefer(tmp_path / "ScanRefer_filtered_val.json", more)
    data = ["--data", path, "--scans", scans, "--frames", 2]
    code, output, out = evaluate("scan2cap", *data)
    assert code == 0, output.err
    assert "3 objects in 1 scenes" in output.out and "no detector can miss; 100%" in output.out
    assert "| CIDEr@0.5 (scan2cap) |" in output.out and "| 81.5 |" in output.out
    table = items(out)[0]
    assert table["key"] == f"{SCENE}|3|coffee_table" and len(table["descriptions"]) == 2 and table["iou"] == 1.0
    assert table["tokens"][0] == ["a", "red", "table", ".", "it", "is", "low", "."]
    code, output, _ = evaluate("scan2cap", *data, "--proposals", masks)
    assert code == 1 and "choose another --out" in output.err
    code, output, _ = evaluate("scan2cap", *data, "--dialects", "coco")
    assert code == 1 and "caption dialect 'coco' is unknown" in output.err
    out = tmp_path / "proposals"
    code, output, _ = evaluate("scan2cap", *data, "--proposals", masks, "--out", out)
    assert code == 0 and "given proposals; 33%" in output.out
    table, chair, lamp = items(out)
    assert table["iou"] == pytest.approx(1.0, abs=1e-5) and 0 < chair["iou"] <= 1 and lamp["iou"] == 0.0
    assert lamp["answer"] == ""


def item(objects, boxes, **more):
    truth = [box(next(thing for thing in OBJECTS if thing[0] == k)) for k in objects]
    return {"key": str(len(boxes)), "objects": objects, "truth": truth, "boxes": boxes, **more}


def test_true_boxes_score_fully_and_missing_ones_nothing():
    right, wrong = [[*box(TABLE), 0.0]], [[9, 9, 9, 1, 1, 1, 0]]
    rows = [{"scene": SCENE, "left_out": 0, "items": [item([3], right), item([3], wrong), item([3], [])]}]
    values = {(row.name, row.note): row.value for row in scanrefer_report(rows, {"boxes": "own"}).rows}
    assert values["Acc@0.25, %", ""] == pytest.approx(100 / 3) == values["Acc@0.5, %", "oriented boxes"]
    rows[0]["items"] = [item([], [], eval_type="zt_w_d"), item([], wrong, eval_type="zt_w_d"), item([3], right + wrong)]
    values = {(row.name, row.note): row.value for row in multi3drefer_report(rows, {}).rows}
    assert values["F1@0.5, %", ""] == pytest.approx(100 * (1 + 0 + 2 / 3) / 3)
    assert values["F1@0.5, %", "zero targets, distractors"] == 50.0
    more = {"stimulus_id": "s-c-3-3-7-9", "tokens": ["left"]}
    rows[0]["items"] = [item([3], [], chosen=chosen, **more) for chosen in ([3], [7], [])]
    values = {row.name: row.value for row in referit3d_report("nr3d", rows, {"boxes": "nearest"}).rows}
    assert values["hard, %"] == pytest.approx(100 / 3) and np.isnan(values["easy, %"])
