"""NYU Depth v2's published file, as a miniature of three images: HDF5 with MATLAB's reversed axes."""

import json
import sys

import numpy as np
import pytest

from vidllm_ros.evaluation.benchmarks.nyu_mat import read_mat
from vidllm_ros.evaluation.errors import EvaluationError

h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")


@pytest.fixture
def mat(tmp_path):
    """Images whose red is the row and whose green is a third of the column; raw depth with holes."""
    v, u = np.mgrid[:480, :640]
    pictures = np.stack([np.stack([v % 256, u // 3, np.full_like(u, 50 * k)], -1) for k in range(3)]).astype(np.uint8)
    depth = np.where(v < 100, 0.0, 1.0 + v / 480 + 0.0004).astype(np.float32)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        file["images"] = pictures.transpose(0, 3, 2, 1)
        file["rawDepths"] = np.stack([depth + k * (depth > 0) for k in range(3)]).transpose(0, 2, 1).astype(np.float32)
        file["depths"] = np.full((3, 640, 480), 9.0, np.float32)
    scipy_io.savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[1], [3]]), "trainNdxs": np.array([[2]])})
    return path


def test_images_come_out_as_bts_extracts_them(mat):
    first, last = read_mat(mat)
    assert (first.name, last.name) == ("00000", "00002")
    rgb, depth = last.rgb(), last.depth()
    assert rgb.shape == (480, 640, 3) and rgb[200, 300].tolist() == [200, 100, 100]
    assert not rgb[:7].any() and not rgb[474:].any() and not rgb[:, :7].any() and not rgb[:, 632:].any()
    assert rgb[7, 7].any() and rgb[473, 631].any()
    assert depth.shape == (480, 640) and depth.dtype == np.float32 and not depth[:100].any()
    assert depth[240, 5] == np.float32(3.5)  # 3.5004 m cut to whole millimetres


def test_the_command_scores_them(evaluate, mat):
    code, output, out = evaluate("nyu", "--data", mat)
    assert code == 0, output.err
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["scene"] for row in rows] == ["00000", "00002"]
    assert rows[0]["none"]["pixels"] == (471 - 100) * 560 and "| 0.987 |" in output.out


def test_files_that_cannot_be_used_say_so(mat, tmp_path, monkeypatch):
    with pytest.raises(EvaluationError, match=r"elsewhere.mat is no splits.mat.*--splits"):
        read_mat(mat, tmp_path / "elsewhere.mat")
    scipy_io.savemat(tmp_path / "other.mat", {"testNdxs": np.array([[1], [4]])})
    with pytest.raises(EvaluationError, match="names images 1 to 4, but .* holds 1 to 3"):
        read_mat(mat, tmp_path / "other.mat")
    with h5py.File(tmp_path / "small.mat", "w") as file:
        file["images"], file["rawDepths"] = np.zeros((3, 3, 64, 48), np.uint8), np.zeros((3, 64, 48), np.float32)
    with pytest.raises(EvaluationError, match=r"expected \[N, 3, 640, 480\]"):
        read_mat(tmp_path / "small.mat", tmp_path / "splits.mat")
    (tmp_path / "cut.mat").write_bytes(mat.read_bytes()[:1000])
    with pytest.raises(EvaluationError, match="cut.mat is no readable"):
        read_mat(tmp_path / "cut.mat", tmp_path / "splits.mat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EvaluationError, match=r"needs h5py: pip install 'vidllm_ros\[nyu\]'"):
        read_mat(mat)
