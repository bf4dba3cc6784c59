"""`vidllm evaluate scannet-recon` on a miniature scan, with a small network of random weights."""

import json
from dataclasses import replace

import pytest
from scan_maker import SCENE, record, world_from_scan, write_scan

from vidllm_ros.model.sizes import nano
from vidllm_ros.training.data import DataError
from vidllm_ros.training.evaluate.surface import scanned_room


@pytest.fixture
def scans(tmp_path):
    folder = write_scan(tmp_path / "scans", record(6))
    for name in (f"{SCENE}.aggregation.json", f"{SCENE}_vh_clean_2.0.010000.segs.json"):
        (folder / name).unlink()  # the scans of the test split have neither
    return tmp_path / "scans"


def row_of(out):
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return row


def test_one_window_of_a_test_scan(evaluate, scans):
    code, output, out = evaluate("scannet-recon", "--data", scans, "--frames", 4)
    assert code == 0, output.err
    assert "| F-score (camera path fitted, SE(3), then ICP) |" in output.out and "| 0.582 |" in output.out
    row = row_of(out)
    assert row["scene"] == SCENE and row["frames"] == 4 and set(row["se3"]) >= {"accuracy", "recall", "f_score"}
    code, output, _ = evaluate("scannet-recon", "--data", scans, "--frames", 4, "--stitch")
    assert code == 1 and "choose another --out" in output.err


def test_all_frames_through_the_robots_perception(evaluate, scans, tmp_path):
    for number in range(5, -1, -1):  # a second apart, so that all of them are taken
        for kind, ending in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
            file = scans / SCENE / kind / f"{number}.{ending}"
            file.rename(file.with_name(f"{25 * number}.{ending}"))
    code, output, out = evaluate("scannet-recon", "--data", scans, "--frames", 4, "--stitch")
    assert code == 0, output.err
    row = row_of(out)
    assert row["windows"] >= 2 and row["windows_used"] >= 1 and row["frames"] >= 4
    assert "windows lie in the largest map" in output.out


def test_what_a_scan_needs(scans):
    room = scanned_room(scans, None, SCENE, nano_of(3))
    assert room.window.rgb.shape[0] == 3 and len(room.T_world_camera) == 6
    low, high = room.vertices.min(axis=0), room.vertices.max(axis=0)
    assert low == pytest.approx([-3, -3, -0.02], abs=1e-4) and high == pytest.approx([3, 3, 1.2], abs=1e-4)
    assert world_from_scan()[0, 3] != 0  # so the axis alignment has been applied
    frames = list(scanned_room(scans, None, SCENE, nano_of(3), stitch=True).frames())
    assert len(frames) == 6 and frames[3].stamp_ns == 100_000_000 and frames[0].rgb.shape == (243, 325, 3)
    (scans / SCENE / f"{SCENE}_vh_clean_2.ply").unlink()
    with pytest.raises(DataError, match="_vh_clean_2.ply is missing"):
        scanned_room(scans, None, SCENE, nano_of(3))


def nano_of(frames: int):
    return replace(nano(), window_size=frames)
