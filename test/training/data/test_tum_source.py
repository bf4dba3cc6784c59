"""TUM RGB-D sequences in the published layout, and the same layout made of a real clip."""

import json
import logging
import re
import shutil

import cv2
import numpy as np
import pytest
from scan_maker import window_config
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.geometry.images import image_to_network
from vidllm_ros.training.data import DataError, open_data
from vidllm_ros.training.data.tum import CAMERAS, read_index

START = 1305031102.175304
NAME = "rgbd_dataset_freiburg1_desk"


@pytest.fixture(autouse=True)
def _warnings(caplog):
    caplog.set_level(logging.WARNING, "vidllm_ros.training.data")


def pose(k: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [-110, 5 * k, 3], degrees=True).as_matrix()
    matrix[:3, 3] = (0.1 * k, -0.05 * k, 1.2)
    return matrix


def write_sequence(root, name: str = NAME, frames: int = 6):
    """Depth 4 ms after colour, poses at 100 Hz, three comment lines in every index: as published."""
    folder = root / name
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    head = f"# {{}}\n# file: '{name}.bag'\n# {{}}\n"
    index = {kind: head.format(kind, "timestamp filename") for kind in ("rgb", "depth")}
    for k in range(frames):
        images = {"rgb": np.full((480, 640, 3), (10, 20, 40 * k), np.uint8)}
        images["depth"] = np.full((480, 640), 5000 + 500 * k, np.uint16)
        for kind, delay in (("rgb", 0.0), ("depth", 0.004)):
            stamp = f"{START + k / 30 + delay:.6f}"
            cv2.imwrite(str(folder / kind / f"{stamp}.png"), images[kind])
            index[kind] += f"{stamp} {kind}/{stamp}.png\n"
    truth = head.format("ground truth trajectory", "timestamp tx ty tz qx qy qz qw")
    for step in range(-2, 100 * frames // 30 + 2):
        matrix = pose(round(max(step, 0) * 0.3))
        values = (*matrix[:3, 3], *Rotation.from_matrix(matrix[:3, :3]).as_quat())
        truth += f"{START + step / 100:.4f} " + " ".join(f"{value:.4f}" for value in values) + "\n"
    for file, text in (("rgb.txt", index["rgb"]), ("depth.txt", index["depth"]), ("groundtruth.txt", truth)):
        (folder / file).write_text(text)
    return folder


def test_a_sequence(tmp_path):
    write_sequence(tmp_path)
    (sample,) = open_data(f"tum:{tmp_path}", window_config(3))
    assert sample.name == f"tum/{NAME}" and sample.boxes == () and sample.tasks == () and (sample.instances == -4).all()
    assert sample.rgb.shape == (3, 84, 112, 3) and sample.rgb[2, 42, 56].tolist() == [200, 20, 10]
    assert np.allclose(sample.depth[:, 42, 56], [1.0, 1.2, 1.5])
    assert np.allclose(sample.T_world_camera, [pose(0), pose(2), pose(5)], atol=2e-4)
    expected = image_to_network((480, 640), (84, 112)) @ CAMERAS["freiburg1"].intrinsics
    assert np.allclose(sample.intrinsics, expected)
    # The lens of freiburg1 is taken out: what a pinhole would see beyond the picture's edge is black and unknown.
    unknown = sample.depth == 0
    assert 0.02 < unknown.mean() < 0.1 and not unknown[:, 10:-10, 10:-10].any()


def test_a_sequence_itself_and_its_camera(tmp_path):
    folder = write_sequence(tmp_path, "my_desk")
    with pytest.raises(DataError, match=r"my_desk: the name does not tell .* camera=NAME, one of freiburg1"):
        list(open_data(f"tum:{folder}", window_config(3)))
    (sample,) = open_data(f"tum:{folder},camera=freiburg3", window_config(3))
    assert sample.name == "tum/my_desk" and (sample.depth > 0).all()
    with pytest.raises(DataError, match="camera 'kinect' is unknown; choose from freiburg1, freiburg2, freiburg3"):
        open_data(f"tum:{folder},camera=kinect", window_config(3))


def test_frames_without_depth_or_pose_are_left_out(tmp_path, caplog):
    folder = write_sequence(tmp_path)
    depth = (folder / "depth.txt").read_text().splitlines(keepends=True)
    (folder / "depth.txt").write_text("".join(depth[:4] + depth[5:]))
    truth = [line for line in (folder / "groundtruth.txt").read_text().splitlines() if line[0] != "#"]
    early = [line for line in truth if float(line.split()[0]) < START + 0.14]
    (folder / "groundtruth.txt").write_text("\n".join(early))
    (sample,) = open_data(f"tum:{tmp_path}", window_config(4))
    assert np.allclose(sample.depth[:, 42, 56], [1.0, 1.2, 1.3, 1.4])
    assert f"{folder}: 2 of 6 colour images have no depth or no pose within 0.02 s" in caplog.text


def test_an_unreadable_image_costs_its_frame(tmp_path, caplog):
    folder = write_sequence(tmp_path)
    image = sorted((folder / "rgb").iterdir())[0]
    image.unlink()
    (sample,) = open_data(f"tum:{tmp_path}", window_config(5))
    assert np.allclose(sample.depth[0, 42, 56], 1.1)
    assert f"frame 0 is left out: {image} is missing" in caplog.text


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("rgb.txt", None, "rgb.txt cannot be read"),
        ("rgb.txt", "# nothing\n", "rgb.txt names no image"),
        ("depth.txt", "# depth\n1305031102.16 depth/a.png extra\n", "depth.txt, line 2: expected 'stamp filename'"),
        ("depth.txt", "soon depth/a.png\n", "depth.txt, line 1: expected 'stamp filename', got 'soon depth/a.png'"),
        ("groundtruth.txt", "1305031102.1 0 0 0 0 0 -inf 1\n", "groundtruth.txt, line 1: expected 'stamp tx ty tz"),
        ("groundtruth.txt", "1305031102.1 0 0\n", "groundtruth.txt, line 1"),
    ],
)
def test_broken_index_files_are_refused(tmp_path, file, text, message):
    path = write_sequence(tmp_path) / file
    if text is None:
        path.unlink()
        (tmp_path / NAME / "rgb.txt").mkdir()  # still looks like a sequence from outside
        (tmp_path / NAME / "rgb.txt").rmdir()
        with pytest.raises(DataError, match="no TUM RGB-D sequence"):
            open_data(f"tum:{tmp_path}", window_config(3))
        with pytest.raises(DataError, match=re.escape(message)):
            read_index(path)
        return
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        list(open_data(f"tum:{tmp_path}", window_config(3)))


def on_the_cabinet(sample, center, size, yaw) -> np.ndarray:
    """Distances [N] of the points near a box to its surface, metres, by depth, intrinsics and poses."""
    v, u = np.mgrid[: sample.depth.shape[1], : sample.depth.shape[2]].astype(float)
    found = []
    for k in range(len(sample.depth)):
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(sample.intrinsics[k]).T
        points = (rays * sample.depth[k][..., None])[sample.depth[k] > 0]
        found.append(points @ sample.T_world_camera[k, :3, :3].T + sample.T_world_camera[k, :3, 3])
    turn = Rotation.from_euler("z", yaw).as_matrix()
    local = np.abs((np.concatenate(found) - center) @ turn) - np.array(size) / 2
    near = (
        (local < 0.1).all(axis=1) & (local[:, 2] < 0.02) & ((np.concatenate(found) - center)[:, 2] > -size[2] / 2 + 0.1)
    )
    return np.abs(local[near].max(axis=1))


def test_a_real_sequence(tmp_path, recorded_data):
    """The cabinet of freiburg3_cabinet lies where its measured box is: depth, poses, crop and intrinsics agree."""
    clip = recorded_data("tum_fr3_cabinet")
    folder = tmp_path / "rgbd_dataset_freiburg3_cabinet"
    folder.mkdir()
    entries = json.loads((clip / "frames.json").read_text())["frames"][1:]
    (folder / "rgb.txt").write_text("".join(f"{e['stamp']:.6f} {clip / e['rgb']}\n" for e in entries))
    (folder / "depth.txt").write_text("".join(f"{e['stamp']:.6f} {clip / e['depth']}\n" for e in entries))
    shutil.copy(clip / "truth_cam_poses.txt", folder / "groundtruth.txt")
    (sample,) = open_data(f"tum:{folder}", window_config(16))
    (box,) = json.loads((clip / "boxes_gt.json").read_text())["boxes"]
    distances = on_the_cabinet(sample, box["center"], box["size_full"], box["yaw_rad"])
    assert len(distances) > 3000 and np.median(distances) < 0.02

    (from_clip,) = open_data(f"clips:{clip}", window_config(16))
    assert from_clip.name == "clip/tum_fr3_cabinet"
    assert [found.label for found in from_clip.boxes] == [box["label"]]
    assert np.array_equal(from_clip.rgb, sample.rgb) and np.array_equal(from_clip.depth, sample.depth)
    assert np.allclose(from_clip.T_world_camera, sample.T_world_camera, atol=1e-3)
    assert np.allclose(from_clip.intrinsics, sample.intrinsics)
