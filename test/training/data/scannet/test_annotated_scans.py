"""Annotation files on ScanNet scans, in the layouts their authors publish."""

import csv
import json
import logging
import re

import numpy as np
import pytest
from scan_maker import CHAIR, FLOOR, HIDDEN, SCENE, TABLE, camera_poses, window_config, write_scan

from vidllm_ros.model.reasoning.box_text import parse_boxes
from vidllm_ros.model.reasoning.language_types import locate_pair
from vidllm_ros.training.data import DataError, open_data
from vidllm_ros.training.sample import TextTask

ELSEWHERE = "scene0700_01"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    write_scan(folder)
    return folder


@pytest.fixture(autouse=True)
def _messages(caplog):
    caplog.set_level(logging.INFO, "vidllm_ros.training.data")


def tasks(source: str, path, scans, options: str = "") -> tuple[TextTask, ...]:
    (sample,) = open_data(f"{source}:{path},scans={scans}{options}", window_config())
    assert sample.name == f"{path.stem}/{SCENE}"
    return sample.tasks


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def scanqa_entry(number: int = 0, **changes) -> dict:
    entry = {
        "scene_id": SCENE,
        "object_ids": [TABLE[0]],
        "object_names": ["coffee table"],
        "question_id": f"train-scene0012-{number}",
        "question": "What is in front of the chair?",
        "answers": ["coffee table", "low table"],
    }
    return {**entry, **changes}


def scanrefer_entry(**changes) -> dict:
    entry = {
        "scene_id": SCENE,
        "object_id": str(CHAIR[0]),
        "object_name": "office_chair",
        "ann_id": "0",
        "description": "the Blue chair. it is left of the table.",
        "token": ["the", "blue", "chair", ".", "it", "is", "left", "of", "the", "table", "."],
    }
    return {**entry, **changes}


def test_scanqa(tmp_path, scans):
    entries = [scanqa_entry(), scanqa_entry(1, question="How many chairs are there?", answers=["1"], object_ids=[])]
    found = tasks("scanqa", write_json(tmp_path / "ScanQA_v1.0_train.json", entries), scans)
    assert found == (
        TextTask("question", "What is in front of the chair?", "coffee table", (1,), ("low table",)),
        TextTask("question", "How many chairs are there?", "1"),
    )


@pytest.mark.parametrize("answers", ["table", [], [""], [3], None])
def test_scanqa_answers_must_be_a_list_of_words(tmp_path, scans, caplog, answers):
    path = write_json(tmp_path / "ScanQA_v1.0_train.json", [scanqa_entry(), scanqa_entry(1, answers=answers)])
    assert len(tasks("scanqa", path, scans)) == 1
    assert f"{path}, entry 1 is left out: field 'answers' is {answers!r}, no list of answers" in caplog.text


def test_scanqa_test_files_have_no_answers(tmp_path, scans):
    entry = scanqa_entry()
    del entry["answers"]
    path = write_json(tmp_path / "ScanQA_v1.0_test_w_obj.json", [entry])
    with pytest.raises(DataError, match=r"test_w_obj.json has no answers.*Use train or val"):
        open_data(f"scanqa:{path},scans={scans}", window_config())


def test_sqa3d_joins_questions_and_answers(tmp_path, scans, caplog):
    questions = [
        {
            "scene_id": SCENE,
            "situation": "I am facing the table",
            "alternative_situation": ["The table is before me", "I look at a table"],
            "question": "What is on my left?",
            "question_id": number,
        }
        for number in (220602, 220603)
    ]
    annotation = {
        "scene_id": SCENE,
        "question_type": "N/A",
        "answer_type": "other",
        "question_id": 220602,
        "answers": [{"answer": "chair", "answer_confidence": "yes", "answer_id": 1}],
        "rotation": {"_x": 0, "_y": 0, "_z": -0.9, "_w": 0.43},
        "position": {"x": -0.9, "y": 1.1, "z": 0},
    }
    head = {"info": {}, "license": {}, "data_type": "scannet", "data_subtype": "train", "task_type": "Open-Ended"}
    path = tmp_path / "v1_balanced_questions_train_scannetv2.json"
    write_json(path, {**head, "questions": questions})
    answers = tmp_path / "v1_balanced_sqa_annotations_train_scannetv2.json"
    with pytest.raises(DataError, match=f"{re.escape(str(answers))} cannot be read"):
        tasks("sqa3d", path, scans)
    write_json(answers, {**head, "annotations": [annotation]})
    expected = TextTask("situated_question", "I am facing the table. What is on my left?", "chair")
    assert tasks("sqa3d", path, scans) == (expected,)
    assert f"{path}, entry 1 is left out: question 220603 has no answer in {answers}" in caplog.text
    renamed = path.rename(tmp_path / "mine.json")
    assert tasks("sqa3d", renamed, scans, f",annotations={answers}") == (expected,)
    with pytest.raises(DataError, match="name it with annotations=FILE"):
        tasks("sqa3d", renamed, scans)
    with pytest.raises(DataError, match="has no 'questions'; is it SQA3D's file of questions"):
        tasks("sqa3d", answers, scans, f",annotations={answers}")


def test_scanrefer_locates(tmp_path, scans):
    path = write_json(tmp_path / "ScanRefer_filtered_train.json", [scanrefer_entry()])
    (task,) = tasks("scanrefer", path, scans)
    question = "Locate: the blue chair. it is left of the table."
    assert task == TextTask("locate", question, "<LOC>", (2,))
    assert (task.question, task.answer) == locate_pair(scanrefer_entry()["description"])


def test_scan2cap_gives_the_box_in_the_scene_frame(tmp_path, scans):
    path = write_json(tmp_path / "ScanRefer_filtered_train.json", [scanrefer_entry()])
    (task,) = tasks("scan2cap", path, scans)
    assert (task.kind, task.answer, task.box_ids) == ("describe_object", scanrefer_entry()["description"], (2,))
    assert task.question.startswith("Describe the object at [")
    (box,) = parse_boxes(task.question)
    # By hand: the corners relative to the first camera, x along its heading.
    first = camera_poses(8)[0]
    heading = np.arctan2(first[1, 2], first[0, 2])
    low, high = np.array(CHAIR[2]), np.array(CHAIR[3])
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (high - low) + low - first[:3, 3]
    c, s = np.cos(heading), np.sin(heading)
    corners = corners @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]).T
    assert np.allclose(box.center - box.size / 2, corners.min(axis=0), atol=0.011)
    assert np.allclose(box.center + box.size / 2, corners.max(axis=0), atol=0.011)
    assert box.center[1] > 0  # the chair is on the left


def test_multi3drefer_locates_any_number(tmp_path, scans):
    def entry(objects, kind, words):
        return {"scene_id": SCENE, "object_ids": objects, "object_name": "x", "ann_id": 0, "description": words}

    entries = [
        entry([], "zt_wo_d", "the red piano"),
        entry([CHAIR[0]], "st_wo_d", "the chair"),
        entry([CHAIR[0], TABLE[0]], "mt", "all the furniture"),
        entry([CHAIR[0], HIDDEN[0]], "mt", "chair and lamp"),
        entry([FLOOR[0]], "st_wo_d", "the floor"),
    ]
    path = write_json(tmp_path / "multi3drefer_train.json", entries)
    assert [task.box_ids for task in tasks("multi3drefer", path, scans)] == [(), (2,), (1, 2), (2,), (0,)]


NR3D = ["assignmentid", "stimulus_id", "utterance", "correct_guess", "speaker_id", "listener_id", "scan_id"]
NR3D += ["instance_type", "target_id", "tokens", "dataset", "mentions_target_class", "uses_object_lang"]
SR3D = ["scan_id", "target_id", "distractor_ids", "utterance", "stimulus_id", "coarse_reference_type", "reference_type"]
SR3D += ["instance_type", "anchors_types", "anchor_ids", "tokens", "dataset", "mentions_target_class", "correct_guess"]


def csv_row(**changes) -> dict:
    row = dict.fromkeys({*NR3D, *SR3D}, "1") | {
        "scan_id": SCENE,
        "target_id": str(CHAIR[0]),
        "utterance": 'The chair, the "blue" one',
        "tokens": str(["the", "chair", "the", "blue", "one's"]),
        "mentions_target_class": "True",
    }
    return row | changes


def write_csv(path, columns, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(("source", "columns"), [("nr3d", NR3D), ("sr3d", SR3D)])
def test_referit3d(tmp_path, scans, source, columns, caplog):
    rows = [
        csv_row(),
        csv_row(mentions_target_class="False", utterance="the blue one"),
        csv_row(tokens=str(["word"] * 25), utterance="too long"),
        csv_row(tokens=str(["word"] * 24), utterance="long"),
    ]
    path = write_csv(tmp_path / f"{source}.csv", columns, rows)
    found = tasks(source, path, scans)
    assert [(task.kind, task.answer, task.box_ids) for task in found] == [("locate", "<LOC>", (2,))] * 2
    assert [task.question for task in found] == ['Locate: the chair, the "blue" one', "Locate: long"]
    assert f"{path}: 2 utterances do not name the class or have over 24 tokens" in caplog.text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target_id": "seven"}, "invalid literal for int()"),
        ({"tokens": "['the', "}, "field 'tokens' is \"['the', \", no list"),
        ({"mentions_target_class": "maybe"}, "field 'mentions_target_class' is 'maybe'"),
        ({"scan_id": "0012_00"}, "field 'scan_id' is '0012_00', no name like scene0000_00"),
        ({"utterance": "  "}, "field 'utterance' is '  ', no text"),
    ],
)
def test_broken_lines_are_named_and_left_out(tmp_path, scans, caplog, changes, problem):
    path = write_csv(tmp_path / "nr3d.csv", NR3D, [csv_row(), csv_row(**changes)])
    assert len(tasks("nr3d", path, scans)) == 1
    assert f"{path}, line 3 is left out: {problem}" in caplog.text


def test_a_line_that_is_too_short(tmp_path, scans, caplog):
    path = write_csv(tmp_path / "nr3d.csv", NR3D, [csv_row()])
    path.write_text(path.read_text() + "1,2\n")
    assert len(tasks("nr3d", path, scans)) == 1
    assert f"{path}, line 3 is left out" in caplog.text


def test_another_csv_is_refused(tmp_path, scans):
    path = write_csv(tmp_path / "sr3d.csv", ["scan_id", "tokens"], [csv_row()])
    with pytest.raises(DataError, match="lacks the columns target_id, utterance, mentions_target_class"):
        tasks("sr3d", path, scans)


@pytest.mark.parametrize("source", ["scanqa", "scanrefer", "scan2cap", "multi3drefer"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ("[{", "is no readable JSON"),
        ("{}", "holds no list of annotations"),
        ("[]", "holds no list of annotations"),
    ],
)
def test_files_without_annotations_are_refused(tmp_path, scans, source, content, problem):
    path = tmp_path / "annotations.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=f"{re.escape(str(path))} {problem}"):
        tasks(source, path, scans)


@pytest.mark.parametrize("source", ["scanqa", "scanrefer", "scan2cap", "multi3drefer"])
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scene_id": None}, "field 'scene_id' is None, no name like scene0000_00"),
        ({"object_ids": 3, "object_id": None}, ""),
        ({"object_ids": "37", "object_id": "3 and 7"}, ""),
        ({"question": "", "description": 7}, "no text"),
    ],
)
def test_broken_entries_are_named_and_left_out(tmp_path, scans, caplog, source, changes, problem):
    entry = {**scanqa_entry(), **scanrefer_entry()}
    path = write_json(tmp_path / "annotations.json", [entry, {**entry, **changes}, "nothing"])
    assert len(tasks(source, path, scans)) == 1
    lines = [message for message in caplog.messages if str(path) in message]
    assert len(lines) == 2 and f"{path}, entry 1 is left out" in lines[0] and problem in lines[0]
    assert f"{path}, entry 2 is left out" in lines[1]


def test_a_missing_field_is_named(tmp_path, scans):
    entry = scanrefer_entry()
    del entry["object_id"]
    path = write_json(tmp_path / "ScanRefer_filtered_val.json", [entry])
    with pytest.raises(DataError, match=r"no usable annotation; entry 0: field 'object_id' is missing"):
        tasks("scanrefer", path, scans)


def test_objects_that_the_scan_does_not_have(tmp_path, scans, caplog):
    entries = [scanrefer_entry(object_id="99"), scanrefer_entry()]
    path = write_json(tmp_path / "ScanRefer_filtered_val.json", entries)
    assert len(tasks("scanrefer", path, scans)) == 1
    assert f"{path}: 1 annotations of {SCENE} name objects" in caplog.text and "the first: object 99" in caplog.text


def test_what_no_frame_shows_is_not_asked(tmp_path, scans):
    hidden = scanrefer_entry(object_id=str(HIDDEN[0]), description="the lamp in the corner")
    path = write_json(tmp_path / "ScanRefer_filtered_val.json", [hidden, scanrefer_entry()])
    assert [task.box_ids for task in tasks("scanrefer", path, scans)] == [(2,)]
    path = write_json(tmp_path / "ScanRefer_filtered_val.json", [hidden])
    with pytest.raises(DataError, match="its frames show nothing that the 1 annotations in"):
        tasks("scanrefer", path, scans)


def test_boxes_are_needed_to_locate_but_not_to_answer(tmp_path):
    folder = write_scan(tmp_path / "scans")
    (folder / f"{SCENE}_vh_clean_2.ply").unlink()
    path = write_json(tmp_path / "ScanRefer_filtered_val.json", [scanrefer_entry()])
    with pytest.raises(DataError, match=r"asks about boxes, but .* has none; download the scan's _vh_clean_2.ply"):
        tasks("scanrefer", path, tmp_path / "scans")
    path = write_json(tmp_path / "ScanQA_v1.0_val.json", [scanqa_entry()])
    assert [(task.answer, task.box_ids) for task in tasks("scanqa", path, tmp_path / "scans")] == [("coffee table", ())]


def test_scans_that_are_not_there(tmp_path, scans, caplog):
    path = write_json(tmp_path / "ScanQA_v1.0_val.json", [scanqa_entry(), scanqa_entry(scene_id=ELSEWHERE)])
    assert len(tasks("scanqa", path, scans)) == 1
    assert (
        f"1 of the 2 scans that {path} is about are not in {scans} and are left out; the first: {ELSEWHERE}"
        in caplog.text
    )
    path = write_json(tmp_path / "ScanQA_v1.0_val.json", [scanqa_entry(scene_id=ELSEWHERE)])
    with pytest.raises(
        DataError, match=rf"none of the 1 scans that .* is in {re.escape(str(scans))}; the first: {ELSEWHERE}"
    ):
        tasks("scanqa", path, scans)
    with pytest.raises(DataError, match=r"write scanqa:ScanQA_v1.0_train.json,scans=FOLDER"):
        open_data(f"scanqa:{path}", window_config())


def test_a_list_of_scans_is_the_split(tmp_path, scans):
    path = write_csv(tmp_path / "nr3d.csv", NR3D, [csv_row(), csv_row(scan_id=ELSEWHERE)])
    listing = tmp_path / "scannetv2_train.txt"
    listing.write_text(f"{SCENE}\nscene0001_00\n")
    assert len(tasks("nr3d", path, scans, f",list={listing}")) == 1
    listing.write_text(f"{ELSEWHERE}\n")
    with pytest.raises(DataError, match=r"and .*scannetv2_train.txt lists is in"):
        tasks("nr3d", path, scans, f",list={listing}")
