"""Readers of what only evaluation needs, each on a miniature in the published layout."""

import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.benchmarks import co3d, nyu, re10k
from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import poses
from vidllm_ros.evaluation.recordings.true_cloud import read_cloud


def write_category(root, frames: int = 50, **changes):
    """Category "apple": a good sequence, a poor one, a short one and one with a broken pose."""
    folder = root / "apple"
    (folder / "set_lists").mkdir(parents=True)
    scores = {"110_1": 0.9, "120_2": 0.5, "130_3": 0.8, "140_4": 0.8, "150_5": None}
    sequences = [
        {"sequence_name": n, "category": "apple", "viewpoint_quality_score": s, "video": None, "point_cloud": None}
        for n, s in scores.items()
    ]
    rows, listing = [], []
    for name in scores:
        for k in range(frames if name != "130_3" else 20):
            rotation = Rotation.from_euler("xyz", [0.1 * k, 0.05 * k, 0.2]).as_matrix()
            translation = [0.1 * k, -0.2, 4.0] if (name, k) != ("140_4", 7) else [2e5, 0.0, 0.0]
            file = f"apple/{name}/images/frame{k:06d}.jpg"
            view = {"R": rotation.tolist(), "T": translation, "focal_length": [2.0, 2.0], "principal_point": [0.0, 0.0]}
            view["intrinsics_format"] = "ndc_norm_image_bounds"
            rows.append(
                {"sequence_name": name, "frame_number": k, "image": {"path": file, "size": [4, 6]}, "viewpoint": view}
            )
            listing.append([name, k, file])
    lists = {"train": [["110_1", 999, "x"]], "val": [], "test": listing, **changes}
    (folder / "set_lists" / "set_lists_fewview_dev.json").write_text(json.dumps(lists))
    for name, content in (("frame", rows), ("sequence", sequences)):
        with gzip.open(folder / f"{name}_annotations.jgz", "wt") as file:
            json.dump(content, file)
    return folder


def test_co3d_keeps_good_long_unbroken_sequences(tmp_path):
    (sequence,) = co3d.read_category(write_category(tmp_path))
    assert (sequence.category, sequence.name, len(sequence.frames)) == ("apple", "110_1", 50)
    assert sequence.frames[3].image == tmp_path / "apple/110_1/images/frame000003.jpg"
    assert co3d.read_category(tmp_path / "apple", subset="val") == []
    assert len(co3d.UNSEEN) == 10


def test_co3d_poses_project_as_pytorch3d_does():
    rng = np.random.default_rng(0)
    R, T = Rotation.random(random_state=0).as_matrix(), rng.normal(size=3)
    pose, points = co3d.opencv_pose(R, T), rng.normal(size=(5, 3))
    there = points @ R + T  # PyTorch3D: row vectors, x left, y up
    ours = points @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(ours, there * [-1, -1, 1], atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_co3d_frames_are_drawn_as_the_protocol_draws_them(tmp_path):
    sequences = co3d.read_category(write_category(tmp_path))
    (chosen,) = co3d.draw_frames(sequences, np.random.RandomState(0))
    np.random.seed(0)  # the protocol uses the global generator
    assert [frame.number for frame in chosen] == np.random.choice(50, 10, replace=False).tolist()
    cameras = np.array([frame.camera_from_world for frame in chosen])
    result = poses.summary(poses.relative_pose_errors(cameras, cameras))
    assert result["pairs"] == 45 and result["AUC@30"] == pytest.approx(100.0)


def test_co3d_files_that_are_missing_or_damaged_are_named(tmp_path):
    folder = write_category(tmp_path)
    with pytest.raises(EvaluationError, match="set_lists_other.json cannot be read"):
        co3d.read_category(folder, "other")
    with pytest.raises(EvaluationError, match="'nothing'"):
        co3d.read_category(folder, subset="nothing")
    (folder / "frame_annotations.jgz").write_bytes(b"not gzip")
    with pytest.raises(EvaluationError, match="frame_annotations.jgz cannot be read"):
        co3d.read_category(folder)


def test_re10k_cameras(tmp_path):
    R = Rotation.from_euler("y", 0.3).as_matrix()
    rows = []
    for k in range(3):
        pose = np.c_[R, [0.1 * k, 0.2, 0.3]]
        numbers = [0.9, 1.6, 0.5, 0.49, 0, 0, *pose.ravel()]
        rows.append(f"{1000 * k + 66733} " + " ".join(f"{v:.9f}" for v in numbers))
    path = tmp_path / "000c3ab189999a83.txt"
    path.write_text("https://www.youtube.com/watch?v=abc\n" + "\n".join(rows) + "\n")
    clip = re10k.read_clip(path)
    assert (clip.name, clip.video) == ("000c3ab189999a83", "https://www.youtube.com/watch?v=abc")
    assert clip.stamps_us.tolist() == [66733, 67733, 68733]
    np.testing.assert_allclose(clip.intrinsics(640, 360)[0], [[576, 0, 320], [0, 576, 176.4], [0, 0, 1]])
    np.testing.assert_allclose(
        clip.camera_from_world[2], np.vstack([np.c_[R, [0.2, 0.2, 0.3]], [0, 0, 0, 1]]), atol=1e-9
    )


@pytest.mark.parametrize("line", ["1 2 3", "x" + " 0" * 18, "1" + " nan" * 18])
def test_re10k_lines_that_are_no_camera_are_named(tmp_path, line):
    path = tmp_path / "clip.txt"
    path.write_text(f"address\n{line}\n")
    with pytest.raises(EvaluationError, match="line 2: expected 19"):
        re10k.read_clip(path)
    path.write_text("address\n")
    with pytest.raises(EvaluationError, match="holds no camera"):
        re10k.read_clip(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        re10k.read_clip(tmp_path / "absent.txt")


def write_nyu(root):
    lines = []
    for k, kind in enumerate(("bathroom", "office")):
        (root / kind).mkdir(parents=True)
        Image.fromarray(np.full((480, 640, 3), 80 * k, np.uint8)).save(root / kind / f"rgb_{k:05d}.jpg")
        true = np.full((480, 640), 2000 + 1000 * k, np.uint16)
        true[:200] = 0
        Image.fromarray(true).save(root / kind / f"sync_depth_{k:05d}.png")
        slash = "/" * (k == 0)
        lines.append(f"{slash}{kind}/rgb_{k:05d}.jpg {slash}{kind}/sync_depth_{k:05d}.png 518.8579")
    lines.append("office/rgb_00002.jpg None 518.8579")
    (root / "test.txt").write_text("\n".join(lines) + "\n\n")
    return root


def test_nyu_images_and_metric(tmp_path):
    images = nyu.read_list(write_nyu(tmp_path), tmp_path / "test.txt")
    assert len(images) == 2 and images[0].focal_length == 518.8579
    assert images[0].rgb().shape == (480, 640, 3)
    assert images[1].depth()[300, 300] == 3.0 and images[1].depth()[0, 0] == 0.0
    mean, each = nyu.score(images, lambda rgb: np.full((240, 320), 2.0))
    assert [e.abs_rel for e in each] == pytest.approx([0.0, 1 / 3], abs=1e-6)
    assert mean.abs_rel == pytest.approx(1 / 6, rel=1e-5) and mean.rmse == pytest.approx(0.5)
    assert each[0].pixels == (471 - 200) * 560  # holes above row 200, and the Eigen crop
    assert nyu.score(images, lambda rgb: np.full((240, 320), 2.0), "median")[0].abs_rel < 1e-6


def test_nyu_files_that_cannot_be_used_are_named(tmp_path):
    write_nyu(tmp_path)
    (tmp_path / "bad.txt").write_text("one two\n")
    with pytest.raises(EvaluationError, match="line 1: expected 'image depth focal'"):
        nyu.read_list(tmp_path, tmp_path / "bad.txt")
    (tmp_path / "bad.txt").write_text("\n")
    with pytest.raises(EvaluationError, match="names no image"):
        nyu.read_list(tmp_path, tmp_path / "bad.txt")
    with pytest.raises(EvaluationError, match="cannot be read"):
        nyu.read_list(tmp_path, tmp_path / "absent.txt")
    image = nyu.NyuImage(tmp_path / "no.jpg", tmp_path / "bathroom/rgb_00000.jpg", 1.0)
    with pytest.raises(EvaluationError, match="no.jpg cannot be read"):
        image.rgb()
    with pytest.raises(EvaluationError, match="expected a 16-bit image"):
        image.depth()


def test_scannet_meshes_are_read_as_their_vertices(tmp_path):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2.5]], np.float32)
    head = "ply\nformat binary_little_endian 1.0\ncomment MLIB generated\nelement vertex 4\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue", "alpha"))
    head += "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    body = b"".join(struct.pack("<3f4B", *point, 10, 20, 30, 255) for point in points)
    body += b"".join(struct.pack("<B3i", 3, *face) for face in ((0, 1, 2), (0, 1, 3)))
    path = tmp_path / "scene0000_00_vh_clean_2.ply"
    path.write_bytes(head.encode() + body)
    np.testing.assert_allclose(read_cloud(path), points)
