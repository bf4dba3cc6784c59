"""The node's perception on clips with true poses: what is replaced is replaced, and what is true stays true."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from vidllm_ros import cli
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.recordings.clips import read_clip
from vidllm_ros.evaluation.replaced_parts import sampled
from vidllm_ros.perception.geometry.images import image_to_network

REGISTERED = ("--set", "register.enabled=true")


def run(out, clip, *arguments):
    given = ["evaluate", "perception", "--data", str(clip), "--out", str(out), *map(str, arguments)]
    assert cli.main(given) == 0
    (row,) = json.loads((out / "perception.json").read_text())["clips"].values()
    return row


def test_a_folder_of_the_tum_benchmark_is_joined_by_stamps(tmp_path):
    folder = tmp_path / "rgbd_dataset_freiburg3_short"
    (folder / "rgb").mkdir(parents=True)
    lines = {"rgb.txt": ["# colour"], "depth.txt": ["# depth"], "groundtruth.txt": ["# truth"]}
    for index in range(3):
        stamp = 100 + 0.1 * index
        for name, value in (("rgb", np.zeros((8, 8, 3), np.uint8)), ("depth", np.full((8, 8), 5000, np.uint16))):
            cv2.imwrite(str(folder / "rgb" / f"{name}{index}.png"), value)
            lines[f"{name}.txt"].append(f"{stamp + 0.005 * (name == 'depth'):.6f} rgb/{name}{index}.png")
        if index < 2:
            lines["groundtruth.txt"].append(f"{stamp + 0.004:.4f} {index} 0 0 0 0 0 1")
    for name, text in lines.items():
        (folder / name).write_text("\n".join(text) + "\n")
    clip = read_clip(folder)
    assert [frame.T_world_camera[0, 3] for frame in clip.frames] == [0, 1]  # the third has no true pose
    np.testing.assert_allclose(clip.depth(clip.frames[1]), 1.0)
    assert clip.intrinsics is not None and clip.intrinsics[0, 0] == 535.4


def test_a_folder_that_is_no_clip_says_what_is_missing(tmp_path):
    with pytest.raises(EvaluationError, match=r"frames\.json"):
        read_clip(tmp_path)


def test_true_depth_is_taken_where_the_network_s_pixels_look():
    rows, columns = np.mgrid[:480, :640]
    to_image = np.linalg.inv(image_to_network((480, 640), (84, 112)))
    for plane in (rows, columns):
        small = sampled(plane.astype(np.float32), (84, 112), to_image)
        v, u = np.mgrid[:84, :112]
        exact = (to_image @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)]))[:2]
        assert np.abs(small.ravel() - exact[1 if plane is rows else 0]).max() <= 0.5


@pytest.mark.slow
def test_true_depth_and_cameras_are_stitched_without_error(recorded_data, tmp_path):
    clip = recorded_data("tum_fr3_cabinet")
    given = ("--depth", "truth", "--start", "truth", "--set", "refine.enabled=false", "--limit-frames", 48)
    row = run(tmp_path, clip, *given)
    assert row["posed_frames"] == row["frames"] == 48
    assert row["ate_se3"] < 0.002 and row["rotation_deg"] < 0.01
    assert [window["status"] for window in row["windows"]] == ["first", "stitched"]


@pytest.mark.slow
def test_true_depth_gives_the_cameras_from_nothing(recorded_data, tmp_path):
    """A bare cabinet on a bare floor, where the start says that the camera never moved."""
    given = ("--depth", "truth", "--start", "identity", *REGISTERED, "--limit-frames", 48)
    row = run(tmp_path, recorded_data("tum_fr3_cabinet"), *given)
    assert row["posed_frames"] == 48 and row["ate_se3"] < 0.08
    assert row["calibration"]["within_3"] > 0.95


@pytest.mark.slow
def test_true_cameras_of_an_office_are_found_from_nothing(recorded_data, tmp_path):
    given = ("--depth", "truth", "--start", "identity", *REGISTERED, "--limit-frames", 32)
    row = run(tmp_path, recorded_data("hololens_office"), *given)
    assert row["posed_frames"] == 32 and row["ate_se3"] < 0.05


@pytest.mark.slow
def test_the_network_s_cameras_around_a_cabinet_are_not_called_good(recorded_data, tmp_path):
    row = run(tmp_path, recorded_data("tum_fr3_cabinet"), *REGISTERED, "--limit-frames", 32)
    assert row["windows"][0]["rotation_deg"] < 15 or row["windows"][0]["status"] == "rejected"
