"""Files that other programs read, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.errors import SaveError
from vidllm_ros.perception.mapping import save
from vidllm_ros.perception.mapping.save import save_cloud, save_trajectory, write_atomically

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(50, 3)).astype(np.float32)
COLORS = RANDOM.integers(0, 256, (50, 3), np.uint8)


@pytest.mark.parametrize("ending", [".ply", ".pcd", ".PLY"])
def test_open3d_reads_what_was_written(tmp_path, ending):
    path = tmp_path / f"map{ending}"
    save_cloud(path, POINTS, COLORS, {"frame": "map"})
    found = o3d.io.read_point_cloud(str(path), format=ending[1:].lower())
    np.testing.assert_allclose(np.asarray(found.points), POINTS, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found.colors) * 255, COLORS, atol=0.01)


@pytest.mark.parametrize("ending", [".ply", ".pcd"])
def test_an_empty_map_is_a_valid_file(tmp_path, ending):
    path = tmp_path / f"map{ending}"
    save_cloud(path, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), {})
    assert path.stat().st_size > 0
    assert len(o3d.io.read_point_cloud(str(path)).points) == 0


@pytest.mark.parametrize(("ending", "mark"), [(".ply", "comment "), (".pcd", "# ")])
def test_comments_stay_on_their_line(tmp_path, ending, mark):
    path = tmp_path / f"map{ending}"
    save_cloud(path, POINTS, COLORS, {"frame": "map", "labels": "a\nend_header\nelement vertex 9", "name": "Zürich"})
    header = path.read_bytes()[:600].decode("ascii", "replace").splitlines()
    assert f"{mark}frame: map" in header
    assert f"{mark}labels: a end_header element vertex 9" in header
    assert f"{mark}name: Z\\xfcrich" in header
    assert len(o3d.io.read_point_cloud(str(path)).points) == 50


def test_a_name_of_another_kind_is_refused(tmp_path):
    with pytest.raises(SaveError, match=r"must end in \.ply or \.pcd"):
        save_cloud(tmp_path / "map.obj", POINTS, COLORS, {})


def test_trajectory_is_tum(tmp_path):
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = Rotation.random(3, rng=RANDOM).as_matrix()
    poses[:, :3, 3] = RANDOM.normal(size=(3, 3))
    stamps = np.array([5, 1_305_031_102_175_304_123, 1_305_031_103_000_000_000])
    path = tmp_path / "trajectory.tum"
    save_trajectory(path, stamps, poses)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("0.000000005 ") and lines[1].startswith("1305031102.175304123 ")
    values = np.array([line.split() for line in lines], float)
    np.testing.assert_allclose(values[:, 1:4], poses[:, :3, 3], atol=1e-8)
    np.testing.assert_allclose(Rotation.from_quat(values[:, 4:]).as_matrix(), poses[:, :3, :3], atol=1e-7)


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "map.ply"
    path.write_text("old")
    with pytest.raises(SaveError, match="the file exists"):
        save_cloud(path, POINTS, COLORS, {})
    assert path.read_text() == "old"
    save_cloud(path, POINTS, COLORS, {}, overwrite=True)
    assert path.read_bytes().startswith(b"ply\n")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SaveError, match="the folder '.*nowhere' does not exist"):
        write_atomically(tmp_path / "nowhere" / "map.ply", b"")


def full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole_and_no_litter(tmp_path, monkeypatch, step):
    path = tmp_path / "map.ply"
    path.write_text("old")
    monkeypatch.setattr(save.os, step, full_disk)
    with pytest.raises(SaveError, match="No space left on device"):
        write_atomically(path, b"new", overwrite=True)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_real_full_device(tmp_path, monkeypatch):
    """The kernel's own refusal, not a made-up one."""
    path = tmp_path / "map.ply"
    monkeypatch.setattr(save.tempfile, "mkstemp", lambda **_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "t")))
    with pytest.raises(SaveError, match="No space left on device"):
        write_atomically(path, b"new")
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SaveError, match="Permission denied"):
        write_atomically(tmp_path / "map.ply", b"")


def test_others_may_read_the_file(tmp_path):
    write_atomically(tmp_path / "map.ply", b"x")
    assert (tmp_path / "map.ply").stat().st_mode & 0o777 == 0o644
