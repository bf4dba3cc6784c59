"""ScanNet scans, exported and as .sens, in the published layouts."""

import json
import logging
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scan_maker import (
    CHAIR,
    FLOOR,
    HIDDEN,
    OBJECTS,
    SCENE,
    TABLE,
    camera_poses,
    record,
    window_config,
    world_from_scan,
    write_export,
    write_meta,
    write_scan,
    write_sens,
)

from vidllm_ros.training.data import DataError, open_data
from vidllm_ros.training.data.scannet.scans import find_scenes, read_axis_alignment

LOST = np.full((4, 4), -np.inf)


def shrink(path) -> None:
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2)))


def blacken(path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 0)


def only_sample(scans, frames: int = 4):
    samples = list(open_data(f"scannet:{scans}", window_config(frames)))
    assert len(samples) == 1
    return samples[0]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    scans = tmp_path_factory.mktemp("scans")
    write_scan(scans)
    return only_sample(scans)


def test_shapes_and_types(sample):
    assert sample.name == f"scannet/{SCENE}" and sample.tasks == ()
    assert sample.rgb.shape == (4, 84, 112, 3) and sample.rgb.dtype == np.uint8
    assert sample.depth.shape == (4, 84, 112) and sample.depth.dtype == np.float32
    assert sample.instances.shape == (4, 84, 112) and sample.instances.dtype == np.int16
    assert sample.intrinsics.shape == (4, 3, 3) and sample.T_world_camera.dtype == np.float64


def test_frames_are_spread_over_the_scan_in_the_aligned_world(sample):
    assert np.allclose(sample.T_world_camera, camera_poses(8)[[0, 2, 5, 7]], atol=1e-5)


def test_boxes_are_those_of_the_aligned_vertices(sample):
    assert [box.label for box in sample.boxes] == [thing[1] for thing in OBJECTS]
    for box, (_, _, low, high, _) in zip(sample.boxes, OBJECTS, strict=True):
        assert np.allclose(box.center - box.size / 2, low, atol=1e-5)
        assert np.allclose(box.center + box.size / 2, high, atol=1e-5)
        assert np.array_equal(box.rotation, np.eye(3))


def test_depth_colour_and_instances_show_the_same_things(sample):
    """Every pixel's point, by depth, intrinsics and pose, lies on the box that its instance and its colour name."""
    v, u = np.mgrid[:84, :112].astype(float)
    for k in range(4):
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(sample.intrinsics[k]).T
        pose = sample.T_world_camera[k]
        points = (rays * sample.depth[k][..., None]) @ pose[:3, :3].T + pose[:3, 3]
        for index, thing in ((1, TABLE), (2, CHAIR)):
            shown = sample.instances[k] == index
            assert shown.sum() > 100
            inside = (points >= np.array(thing[2]) - 0.03).all(-1) & (points <= np.array(thing[3]) + 0.03).all(-1)
            assert (inside & shown).sum() > 0.93 * shown.sum()
            assert shown[inside & (points[..., 2] > 0.05)].mean() > 0.93
            colour = np.median(sample.rgb[k][shown].astype(float), axis=0)
            assert np.allclose(colour, thing[4], atol=8)
        floor = sample.instances[k] == -2
        assert floor.sum() > 1000
        heights = np.abs(points[floor][:, 2])
        assert np.median(heights) < 0.005 and (heights < 0.03).mean() > 0.97
        assert (sample.instances[k][sample.depth[k] == 0] == -4).mean() > 0.9
    assert HIDDEN[1] == sample.boxes[3].label and not (sample.instances == 3).any() and FLOOR[1] == "floor"


@pytest.mark.parametrize("color_kind", [0, 1, 2])
@pytest.mark.parametrize("depth_kind", [0, 1])
def test_sens_gives_the_same_as_its_export(tmp_path, sample, color_kind, depth_kind):
    folder = write_scan(tmp_path, kind="sens")
    write_sens(folder / f"{SCENE}.sens", record(), color_kind, depth_kind)
    again = only_sample(tmp_path)
    assert np.array_equal(again.rgb, sample.rgb)
    # Rounding of the intrinsics decides which of two readings is the nearest for rays right between them.
    assert (again.depth == sample.depth).mean() > 0.99
    assert np.allclose(again.T_world_camera, sample.T_world_camera, atol=1e-5)
    assert np.allclose(again.intrinsics, sample.intrinsics, rtol=1e-6)
    assert (again.instances == sample.instances).mean() > 0.999


@pytest.mark.parametrize("kind", ["export", "sens"])
def test_lost_poses_are_left_out_and_reported(tmp_path, caplog, kind):
    frames = [replace(f, pose=LOST) if k in (0, 3, 7) else f for k, f in enumerate(record())]
    folder = write_scan(tmp_path, frames, kind)
    sample = only_sample(tmp_path, frames=5)
    assert np.allclose(sample.T_world_camera, camera_poses(8)[[1, 2, 4, 5, 6]], atol=1e-5)
    where = str(folder / "pose/0.txt") if kind == "export" else f"{folder / SCENE}.sens: 3 of 8 frames"
    assert where in caplog.text and "3 of 8 frames have no finite, rigid pose" in caplog.text


@pytest.mark.parametrize("kind", ["export", "sens"])
def test_too_few_usable_frames_are_refused_with_both_numbers(tmp_path, caplog, kind):
    frames = [replace(f, pose=LOST) if k > 2 else f for k, f in enumerate(record())]
    write_scan(tmp_path, frames, kind)
    with pytest.raises(DataError, match=r"none of its 1 scenes can be used.*has 3 usable frames.*'nano' holds 4"):
        only_sample(tmp_path)
    assert f"scene {SCENE} is left out" in caplog.text


def test_one_bad_scan_does_not_stop_the_others(tmp_path, caplog):
    write_scan(tmp_path)
    (tmp_path / "scene0000_00").mkdir()
    assert only_sample(tmp_path).name == f"scannet/{SCENE}"
    assert (
        "scene0000_00 holds neither exported frames (color, depth, pose, intrinsic) nor scene0000_00.sens"
        in caplog.text
    )


def test_damaged_files_of_an_export_cost_their_frame_only(tmp_path, caplog):
    folder = write_scan(tmp_path)
    (folder / "pose/1.txt").write_text("1 0 0 0\n0 1 zero 0\n")
    (folder / "color/2.jpg").unlink()
    (folder / "depth/3.png").unlink()
    (folder / "color/7.jpg").write_bytes(b"\xff\xd8 no picture")
    sample = only_sample(tmp_path)
    assert np.allclose(sample.T_world_camera, camera_poses(8)[[0, 4, 5, 6]], atol=1e-5)
    for words in ("pose/1.txt", "2 of 8 frames lack an image", "color/2.jpg", "color/7.jpg is no readable image"):
        assert words in caplog.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: [p.unlink() for p in (f / "pose").iterdir()] and (f / "pose").rmdir(),
            "pose is missing; an exported",
        ),
        (lambda f: (f / "intrinsic/intrinsic_depth.txt").unlink(), "intrinsic_depth.txt cannot be read: No such file"),
        (lambda f: (f / "intrinsic/intrinsic_color.txt").write_text("1 2 3"), "intrinsic_color.txt holds 3 numbers"),
        (lambda f: (f / "intrinsic/intrinsic_color.txt").write_text("0 " * 16), "their focal lengths positive"),
        (
            lambda f: [shrink(p) for p in (f / "color").iterdir()],
            "(160.3, 122.4) is far from the middle of images of 162 x 121",
        ),
        (lambda f: [blacken(p) for p in (f / "depth").iterdir()], "none of the 4 depth images holds a reading"),
        (
            lambda f: (f / f"{SCENE}.txt").write_text("axisAlignment = 1 0 0\n"),
            "line 1: axisAlignment is no rigid 4 x 4",
        ),
        (lambda f: (f / f"{SCENE}.aggregation.json").write_text("{"), "aggregation.json is no readable JSON"),
        (lambda f: (f / f"{SCENE}.aggregation.json").write_text("{}"), "has no list 'segGroups'"),
        (lambda f: (f / f"{SCENE}_vh_clean_2.ply").write_text("ply"), "_vh_clean_2.ply is no readable PLY mesh"),
        (
            lambda f: (f / f"{SCENE}_vh_clean_2.0.010000.segs.json").write_text('{"segIndices": [1, 2]}'),
            "names the segments of 2 vertices, but scene0012_00_vh_clean_2.ply has 32",
        ),
        (
            lambda f: (f / f"{SCENE}.aggregation.json").write_text('{"segGroups": [{"objectId": 1}]}'),
            "group 0 has no objectId, label and segments",
        ),
    ],
)
def test_damaged_files_of_a_scan_are_named(tmp_path, damage, message):
    damage(write_scan(tmp_path))
    with pytest.raises(DataError) as caught:
        only_sample(tmp_path)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


def test_without_annotation_there_are_no_boxes_but_frames(tmp_path, caplog):
    folder = write_scan(tmp_path)
    (folder / f"{SCENE}.aggregation.json").unlink()
    sample = only_sample(tmp_path)
    assert sample.boxes == () and (sample.instances == -4).all()
    assert f"{folder}: no boxes, because {SCENE}.aggregation.json is missing" in caplog.text


def test_an_object_without_vertices_is_left_out(tmp_path, caplog):
    path = write_scan(tmp_path) / f"{SCENE}.aggregation.json"
    content = json.loads(path.read_text())
    content["segGroups"].append({"id": 9, "objectId": 11, "segments": [4711], "label": "mirror"})
    path.write_text(json.dumps(content))
    assert "mirror" not in [box.label for box in only_sample(tmp_path).boxes]
    assert "object 11 (mirror) has no vertex" in caplog.text


def test_axis_alignment(tmp_path, caplog):
    write_meta(tmp_path)
    assert np.allclose(read_axis_alignment(tmp_path / f"{SCENE}.txt"), world_from_scan(), atol=1e-6)
    (tmp_path / "none.txt").write_text("numDepthFrames = 8\n")
    for name in ("none.txt", "missing.txt"):
        assert np.array_equal(read_axis_alignment(tmp_path / name), np.eye(4))
        assert str(tmp_path / name) in caplog.text


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: write_sens(p, record(4), version=3), "starts with version 3; only .sens files of version 4"),
        (lambda p: write_sens(p, record(4), depth_kind=2), "depth compression 2 (2 is 'occi') cannot be read"),
        (lambda p: write_sens(p, record(4), color_kind=5), "colour compression 5 is none of raw, png and jpeg"),
        (lambda p: p.write_bytes(write_sens(p, record(4)).read_bytes()[:200]), "ends within its header"),
        (lambda p: p.write_bytes(b""), "ends within its header"),
    ],
)
def test_sens_files_that_cannot_be_read(tmp_path, write, message):
    path = write_scan(tmp_path, kind="sens") / f"{SCENE}.sens"
    write(path)
    with pytest.raises(DataError) as caught:
        only_sample(tmp_path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_sens_file_that_was_cut_off_keeps_its_whole_frames(tmp_path, caplog):
    path = write_scan(tmp_path, kind="sens") / f"{SCENE}.sens"
    path.write_bytes(path.read_bytes()[:-40])
    sample = only_sample(tmp_path, frames=7)
    assert np.allclose(sample.T_world_camera, camera_poses(8)[:7], atol=1e-5)
    assert f"{path} ends within frame 7 of 8" in caplog.text


def test_damaged_images_in_a_sens_file_cost_their_frame_only(tmp_path, caplog):
    frames = record()
    frames[0] = replace(frames[0], jpeg=b"no picture")
    frames[7] = replace(frames[7], depth=frames[7].depth[:-1])
    path = write_scan(tmp_path, frames, "sens") / f"{SCENE}.sens"
    sample = only_sample(tmp_path, frames=6)
    assert np.allclose(sample.T_world_camera, camera_poses(8)[1:7], atol=1e-5)
    assert f"{path}: colour of frame 0 is no image" in caplog.text and "depth of frame 7 has" in caplog.text


def test_frames_may_lie_apart_from_the_scans(tmp_path, sample):
    folder = write_scan(tmp_path / "scans", kind="sens")
    (folder / f"{SCENE}.sens").unlink()
    write_export(tmp_path / "frames" / SCENE, record())
    (again,) = open_data(f"scannet:{tmp_path / 'scans'},frames={tmp_path / 'frames'}", window_config())
    assert np.array_equal(again.depth, sample.depth)


def test_scenes_of_a_folder_and_of_a_list(tmp_path, caplog):
    for name in ("scene0001_00", "scene0000_01", "tools"):
        (tmp_path / name).mkdir()
    assert find_scenes(tmp_path) == ("scene0000_01", "scene0001_00")
    listing = tmp_path / "scannetv2_val.txt"
    listing.write_text("scene0001_00\n\nscene0707_00\n")
    assert find_scenes(tmp_path, listing) == ("scene0001_00", "scene0707_00")
    listing.write_text("scene0001_00\nscene1\n")
    with pytest.raises(DataError, match=r"scannetv2_val.txt, line 2: expected a name like scene0000_00, got 'scene1'"):
        find_scenes(tmp_path, listing)
    with pytest.raises(DataError, match=r"it lies within one scan, give"):
        find_scenes(tmp_path / "scene0001_00")
    with pytest.raises(DataError, match="is no folder"):
        find_scenes(tmp_path / "nowhere")


def test_listed_scans_that_are_not_there(tmp_path, caplog):
    (tmp_path / SCENE).mkdir()
    listing = tmp_path / "scannetv2_val.txt"
    listing.write_text(f"{SCENE}\nscene0707_00\nscene0708_00\n")
    assert open_data(f"scannet:{tmp_path},list={listing}", window_config()).scenes == (SCENE,)
    assert f"2 of the 3 scans that {listing} lists are not in {tmp_path}" in caplog.text
    assert "the first: scene0707_00" in caplog.text
    listing.write_text("scene0707_00\n")
    with pytest.raises(DataError, match="none of the 1 scans that .* lists is in"):
        open_data(f"scannet:{tmp_path},list={listing}", window_config())


def test_a_source_goes_to_worker_processes(tmp_path, sample):
    write_scan(tmp_path)
    source = pickle.loads(pickle.dumps(open_data(f"scannet:{tmp_path}", window_config())))
    assert len(source) == 1 and source.scenes == (SCENE,)
    assert np.array_equal(source.load(SCENE).depth, sample.depth)


@pytest.fixture(autouse=True)
def _warnings(caplog):
    caplog.set_level(logging.WARNING, "vidllm_ros.training.data")
