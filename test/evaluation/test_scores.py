import csv
import json

import numpy as np
import pytest
import replay_maker
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation import results
from vidllm_ros.evaluation.metrics.trajectory import Similarity, align_level
from vidllm_ros.evaluation.recordings.trajectory_files import read_tum
from vidllm_ros.evaluation.recordings.truth import GroundTruth
from vidllm_ros.evaluation.results import AskedQuestion, Replay
from vidllm_ros.evaluation.scores import score, seen_by_network
from vidllm_ros.model.outputs import Box3D


def test_a_perfect_map_in_another_world_has_no_errors():
    scores = score(replay_maker.replay(), replay_maker.truth())
    assert scores.trajectory.poses == 12
    assert max(scores.trajectory.ate_se3, scores.trajectory.ate_sim3, scores.trajectory.rpe_translation) < 1e-6
    assert scores.trajectory.scale == pytest.approx(1.0)
    assert scores.trajectory.length == pytest.approx(scores.trajectory.true_length)
    chair, table = scores.boxes
    assert chair.iou == pytest.approx(1.0, abs=1e-6) and chair.distance < 1e-6
    assert (table.iou, table.iou_any) == (0.0, 0.0) and np.isnan(table.distance)
    assert scores.answers.exact == 1.0 and list(scores.answers.matched) == ["How many chairs are there?"]
    assert scores.depth.abs_rel == pytest.approx(0.1) and scores.depth_fitted.abs_rel < 1e-6
    assert scores.depth_frames == 1 and not scores.notes
    assert json.loads(json.dumps(scores.to_json()))["boxes_found"] == {"IoU>=0.25": 0.5, "IoU>=0.5": 0.5}


def test_a_map_that_is_too_large_keeps_its_scale_error():
    made = replay_maker.replay()
    poses = made.T_map_camera.copy()
    poses[:, :3, 3] *= 1.25
    scores = score(replay_maker.replay(T_map_camera=poses), replay_maker.truth())
    assert scores.trajectory.scale == pytest.approx(0.8)
    assert scores.trajectory.ate_sim3 < 1e-6 < 0.01 < scores.trajectory.ate_se3
    assert scores.boxes[0].iou < 1.0


def test_a_map_that_leans_is_not_forgiven_and_boxes_stay_upright():
    lean = Similarity(Rotation.from_euler("x", 10, degrees=True).as_matrix(), np.zeros(3))
    truth = replay_maker.truth()
    found = align_level(lean.poses(replay_maker.camera_path()), replay_maker.camera_path())
    np.testing.assert_allclose(found.rotation[2], [0, 0, 1])
    made = replay_maker.replay(T_map_camera=lean.poses(replay_maker.camera_path()))
    assert score(made, truth).boxes[0].iou > 0.2


def test_level_alignment_of_a_camera_that_only_turns():
    poses = replay_maker.camera_path()
    poses[:, :3, 3] = [1.0, 2.0, 3.0]
    found = align_level(poses, replay_maker.WORLD_FROM_MAP.poses(poses))
    np.testing.assert_allclose(found.rotation, replay_maker.WORLD_FROM_MAP.rotation, atol=1e-12)
    np.testing.assert_allclose(found.inverse().points(found.points(np.eye(3))), np.eye(3), atol=1e-12)


def test_what_cannot_be_scored_is_said():
    late = replay_maker.truth(stamps_ns=np.arange(12) * 10**9 + 10**15, depth={5: lambda: np.ones((4, 4))})
    scores = score(replay_maker.replay(), late)
    assert scores.trajectory is None and scores.depth is None and not scores.boxes
    assert [note.split(":")[0] for note in scores.notes] == [
        "Trajectory not scored",
        "Depth not scored",
        "Boxes not scored",
    ]
    line = np.tile(np.eye(4), (12, 1, 1))
    line[:, 0, 3] = np.arange(12)
    still = score(replay_maker.replay(T_map_camera=line), replay_maker.truth(T_world_camera=line))
    assert "one line" in still.notes[0] and still.trajectory is None
    leaning = Box3D(np.zeros(3), np.ones(3), Rotation.from_euler("x", 0.5).as_matrix(), "lamp")
    assert "lamp" in score(replay_maker.replay(boxes=(leaning,)), replay_maker.truth()).notes[0]
    assert not score(replay_maker.replay(), GroundTruth()).to_json()["sources"]


def test_true_depth_is_sampled_where_the_network_looks():
    true = np.tile(np.arange(64, dtype=np.float32), (48, 1))
    same = seen_by_network(true, (6, 8))
    np.testing.assert_allclose(same[0], np.arange(8) * 8 + 3.5, atol=0.5)
    wide = np.tile(np.arange(96, dtype=np.float32), (48, 1))  # the network crops the centre of a wider image
    np.testing.assert_allclose(seen_by_network(wide, (6, 8))[0], np.arange(8) * 8 + 3.5 + 16, atol=0.5)


def test_files_of_a_replay(tmp_path):
    made = replay_maker.replay()
    written = results.write(tmp_path / "out", made)
    assert {path.name for path in written} == {p.name for p in (tmp_path / "out").iterdir()}
    stamps, poses = read_tum(tmp_path / "out" / "trajectory.tum")
    np.testing.assert_array_equal(stamps, made.stamps_ns)
    np.testing.assert_allclose(poses, made.T_map_camera, atol=1e-7)
    box = json.loads((tmp_path / "out" / "boxes.json").read_text())["boxes"][0]
    assert (box["label"], box["size"], box["yaw"]) == ("chair", [0.5, 0.5, 0.9], 0.3)
    answer = json.loads((tmp_path / "out" / "answers.json").read_text())["answers"][0]
    assert (answer["question"], answer["answer"]) == ("How many chairs are there?", "one")
    with (tmp_path / "out" / "windows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["first", "stitched"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["recording"]["name"] == "made up"


def test_a_replay_of_nothing_can_be_written(tmp_path):
    empty = Replay({}, {}, np.zeros(0, np.int64), np.zeros((0, 4, 4)), np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    results.write(tmp_path, empty)
    assert len(read_tum(tmp_path / "trajectory.tum")[0]) == 0


@pytest.mark.parametrize(
    ("changes", "required", "sentence"),
    [
        ({}, results.PARTS, ""),
        ({"points": np.zeros((0, 3))}, ["points"], "points missing"),
        ({"points": np.full((3, 3), np.nan)}, ["points"], "points missing"),
        ({"T_map_camera": np.zeros((0, 4, 4))}, ["poses"], "poses missing: no pose for any of 12 frames"),
        ({"boxes": ()}, ["boxes"], "boxes missing"),
        ({"boxes": ()}, ["points", "poses"], ""),
        ({"asked": ()}, ["answers"], "answers missing: no question was asked"),
        ({"asked": (AskedQuestion("?", "", error_code=903, message="no window"),)}, ["answers"], "(no window)"),
        ({"asked": (AskedQuestion("?", ""),)}, ["answers"], "1 of 1 questions have no answer"),
        ({"boxes": (), "asked": (AskedQuestion("?", "here", boxes=(replay_maker.CHAIR,)),)}, ["boxes"], ""),
    ],
)
def test_what_is_lacking_is_named(changes, required, sentence):
    lacking = replay_maker.replay(**changes).lacking(required)
    assert sentence in lacking and bool(lacking) == bool(sentence)
