"""`vidllm evaluate co3d | re10k | nyu` on miniatures, with a small network of random weights."""

import json

import numpy as np
import pytest
from PIL import Image
from test_benchmark_readers import write_category, write_nyu

from vidllm_ros.evaluation.benchmarks.images import in_image, pose_report
from vidllm_ros.perception.geometry.images import image_to_network


def results(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)


def test_co3d(evaluate, tmp_path):
    write_category(tmp_path / "data")
    for k in range(50):
        picture(tmp_path / f"data/apple/110_1/images/frame{k:06d}.jpg")
    code, output, out = evaluate("co3d", "--data", tmp_path / "data")
    assert code == 0, output.err
    (row,) = results(out)
    assert row["scene"] == "apple/110_1" and len(row["rotation"]) == 45 and max(row["translation"]) <= 90
    assert "| AUC@30, % |" in output.out and "| 88.5 |" in output.out
    code, output, _ = evaluate("co3d", "--data", tmp_path / "data", "--order", "posediffusion")
    assert code == 1 and "choose another --out" in output.err


def test_re10k(evaluate, tmp_path):
    for clip, images in (("aaa", 12), ("bbb", 3)):  # the second has too few images
        rows = [f"{1000 * k} 0.9 1.6 0.5 0.5 0 0 1 0 0 {k} 0 1 0 0 0 0 1 0" for k in range(12)]
        (tmp_path / f"{clip}.txt").write_text("address\n" + "\n".join(rows))
        for k in range(images):
            picture(tmp_path / "images" / clip / f"{1000 * k}.png")
    code, output, out = evaluate("re10k", "--data", tmp_path, "--images", tmp_path / "images")
    assert code == 0, output.err
    assert [row["scene"] for row in results(out)] == ["aaa"] and "| 83.1 |" in output.out
    code, output, _ = evaluate("re10k", "--data", tmp_path, "--images", tmp_path / "elsewhere")
    assert code == 1 and "has 10 images in" in output.err


def test_nyu(evaluate, tmp_path):
    write_nyu(tmp_path / "data")
    code, output, out = evaluate("nyu", "--data", tmp_path / "data", "--list", tmp_path / "data" / "test.txt")
    assert code == 0, output.err
    rows = results(out)
    assert [row["scene"] for row in rows] == ["bathroom/rgb_00000.jpg", "office/rgb_00001.jpg"]
    assert rows[0]["none"]["pixels"] == (471 - 200) * 560 and rows[0]["median"]["abs_rel"] > 0
    assert "| delta1 (metric) |" in output.out and "| 0.987 |" in output.out
    code, output, _ = evaluate("nyu", "--data", tmp_path / "absent")
    assert code == 1 and "is no folder" in output.err


def test_an_image_that_cannot_be_read_is_left_out_and_said(evaluate, tmp_path):
    root = write_nyu(tmp_path / "data")
    (root / "bathroom/rgb_00000.jpg").write_bytes(b"nothing")
    code, output, out = evaluate("nyu", "--data", root, "--list", root / "test.txt")
    assert code == 0 and len(results(out)) == 1
    assert "left out: bathroom/rgb_00000.jpg" in output.err


@pytest.mark.parametrize("size", [(28, 42), (30, 40)])
def test_depth_goes_back_to_where_the_network_saw_it(size):
    u, v = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    back = np.linalg.inv(image_to_network((480, 640), size))
    plane = 1 + (back[0, 0] * u + back[0, 2]) / 640 + (back[1, 1] * v + back[1, 2]) / 480
    full = in_image(plane, (480, 640))
    rows, columns = np.mgrid[60:420, 60:580]
    np.testing.assert_allclose(full[60:420, 60:580], 1 + columns / 640 + rows / 480, atol=2e-3)


def test_groups_count_equally_whatever_their_number_of_scenes():
    good = {"group": "a", "rotation": [0.0], "translation": [0.0]}
    bad = {"group": "b", "rotation": [90.0], "translation": [80.0]}
    report = pose_report("co3d", [good, good, good, bad], {})
    values = {f"{row.name} {row.note}".strip(): row.value for row in report.rows}
    assert values["RRA@15, %"] == 50.0 and values["AUC@30, %"] == pytest.approx(50.0)
    assert values["AUC@30, % a"] == pytest.approx(100.0) and values["AUC@30, % b"] == 0.0
