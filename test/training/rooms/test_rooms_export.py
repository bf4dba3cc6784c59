"""Recordings on disk, read back by the package's own readers."""

import json

import cv2
import numpy as np
import pytest

from vidllm_ros import cli
from vidllm_ros.evaluation.recordings import messages, truth
from vidllm_ros.evaluation.recordings.bags import Bag
from vidllm_ros.evaluation.recordings.folders import FrameFolder
from vidllm_ros.training.rooms import room_video

ARGUMENTS = ["rooms", "--seed", "4", "--size", "56x42", "--seconds", "0.5", "--rate", "12", "--questions", "15"]


@pytest.fixture(scope="module")
def frames():
    return list(room_video(4, "test", 6, (42, 56), 12))


def test_bag_holds_the_video_and_its_truth(tmp_path, frames, capsys):
    path = tmp_path / "room"
    assert cli.main([*ARGUMENTS, "--bag", str(path), "--depth"]) == 0
    assert "6 frames of room test/4" in capsys.readouterr().out
    with Bag(path) as bag:
        assert bag.image_topic == "/camera/color/image_raw" and bag.frame_count == 6
        assert "/tf" not in bag.topics
        for recorded, frame in zip(bag.frames(), frames, strict=True):
            image, info = (
                bag.decode(recorded.image, bag.image_topic),
                bag.decode(recorded.camera_info, bag.camera_info_topic),
            )
            assert image.encoding == "rgb8" and image.header.frame_id == "camera_color_optical_frame"
            np.testing.assert_array_equal(image.data.reshape(42, 56, 3), frame.rgb)
            assert (info.width, info.height) == (56, 42)
            np.testing.assert_allclose(info.k.reshape(3, 3), room_video(4, "test", 1, (42, 56)).intrinsics)
            np.testing.assert_allclose(info.p.reshape(3, 4)[:, :3], info.k.reshape(3, 3))
        _, _, data = next(bag.messages("/camera/aligned_depth_to_color/image_raw"))
        depth = messages.depth_image(bag.decode(data, "/camera/aligned_depth_to_color/image_raw"))
        np.testing.assert_allclose(depth, frames[0].depth, atol=6e-4)
        stamps = [recorded.stamp_ns for recorded in bag.frames()]
        known = truth.load(bag)
    assert len(known.answers) == 15
    np.testing.assert_array_equal(known.stamps_ns, stamps)
    np.testing.assert_allclose(known.T_world_camera, [frame.T_world_camera for frame in frames], atol=1e-6)
    shown = np.unique([frame.instances for frame in frames])
    boxes = [box for i, box in enumerate(room_video(4, "test", 1, (42, 56)).boxes) if i in shown]
    assert [box.label for box in known.boxes] == [box.label for box in boxes]
    np.testing.assert_allclose([b.corners() for b in known.boxes], [b.corners() for b in boxes], atol=2e-4)


def test_compressed_bag_with_tf(tmp_path, frames):
    path = tmp_path / "room"
    assert cli.main([*ARGUMENTS, "--bag", str(path), "--compressed", "--tf"]) == 0
    (path / "ground_truth").rename(tmp_path / "elsewhere")
    with Bag(path) as bag:
        assert bag.image_topic == "/camera/color/image_raw/compressed"
        image = bag.decode(next(bag.frames()).image, bag.image_topic)
        rgb = cv2.imdecode(np.asarray(image.data), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(rgb.astype(int) - frames[0].rgb).mean() < 8
        known = truth.load(bag)
    assert known.sources["trajectory"] == "TF world -> camera_color_optical_frame"
    np.testing.assert_allclose(known.T_world_camera, [frame.T_world_camera for frame in frames], atol=1e-9)


def test_folder_reads_back(tmp_path, frames):
    path = tmp_path / "room"
    assert cli.main([*ARGUMENTS, "--folder", str(path)]) == 0
    folder = FrameFolder(path)
    assert folder.frame_count == 6
    image = cv2.imread(str(path / folder.entries[2]["rgb"]))[..., ::-1]
    np.testing.assert_array_equal(image, frames[2].rgb)
    poses, depth = folder.poses(), folder.depth()
    np.testing.assert_allclose(list(poses.values()), [frame.T_world_camera for frame in frames], atol=1e-8)
    np.testing.assert_allclose(depth[list(poses)[2]](), frames[2].depth, atol=6e-4)
    known = truth.load(folder)
    np.testing.assert_array_equal(known.stamps_ns, list(poses))
    rows = json.loads((path / "ground_truth" / "boxes.json").read_text())["boxes"]
    most = [max((frame.instances == i).sum() for frame in frames) for i in range(len(rows))]
    assert [row["pixels"] for row in rows] == most


def test_preview_is_a_picture(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    assert cli.main(["rooms", "--preview", str(path), "--rooms", "2", "--size", "56x42"]) == 0
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 42, 4 * 56, 3) and sheet.std() > 15


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([], "nothing to write"),
        (["--preview", "x.bmp"], "must end in .png or .jpg"),
        (["--preview", "x.png", "--rooms", "0"], "at least 1"),
        (["--bag", "{here}"], "exists already"),
        (["--bag", "{here}/bag", "--seconds", "0"], "must both be positive"),
        (["--folder", "{here}/folder", "--seed", "-3"], "start at 0"),
    ],
)
def test_wrong_use_is_explained_in_one_line(tmp_path, capsys, extra, words):
    assert cli.main(["rooms", *(word.format(here=tmp_path) for word in extra)]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_size_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["rooms", "--size", "big", "--preview", "x.png"])
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
