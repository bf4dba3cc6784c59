import shutil

import numpy as np
import pytest
from bag_maker import TYPES, camera_info, compressed, frames, raw, write_bag
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode

from vidllm_ros.evaluation.errors import BagError
from vidllm_ros.evaluation.recordings.bags import CAMERA_INFO, COMPRESSED_IMAGE, RAW_IMAGE, Bag, is_bag


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("compression", [None, CompressionMode.MESSAGE, CompressionMode.FILE])
def test_every_storage_and_compression(tmp_path, storage, compression):
    if storage is StoragePlugin.MCAP and compression is CompressionMode.FILE:
        pytest.skip("not written by rosbags")
    path = write_bag(tmp_path / "bag", frames(), storage, compression)
    with Bag(path) as bag:
        assert (bag.image_topic, bag.image_type, bag.frame_count) == ("/cam/image_raw", RAW_IMAGE, 3)
        read = list(bag.frames())
        assert [f.stamp_ns for f in read] == [0, 1000, 2000]
        assert [f.log_time_ns for f in read] == [100, 101, 102]
        assert [int(bag.decode(f.image, bag.image_topic).data[0]) for f in read] == [0, 1, 2]
        assert bag.decode(bag.message_at("/cam/image_raw", 101), "/cam/image_raw").data[0] == 1


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_storage_file_without_its_folder(tmp_path, storage):
    path = write_bag(tmp_path / "bag", frames(), storage)
    file = next(p for p in path.iterdir() if p.suffix != ".yaml")
    (path / "metadata.yaml").unlink()
    for given in (file, path):
        with Bag(given) as bag:
            assert bag.frame_count == 3


def test_calibration_is_the_newest_that_is_not_younger(tmp_path):
    infos = [
        ("/cam/camera_info", CAMERA_INFO, 500 + i, camera_info(s, f)) for i, (s, f) in enumerate([(500, 1), (1500, 2)])
    ]
    with Bag(write_bag(tmp_path / "bag", frames() + infos)) as bag:
        assert bag.camera_info_topic == "/cam/camera_info"
        fx = [bag.decode(f.camera_info, bag.camera_info_topic).k[0] for f in bag.frames()]
    assert fx == [1, 1, 2]  # the first frame is older than every calibration and takes the first


def test_the_choice_of_the_image_topic(tmp_path):
    both = frames("/a/image_raw") + [("/a/image_raw/compressed", COMPRESSED_IMAGE, 99, compressed(0))]
    depth = [("/a/depth/image_rect", RAW_IMAGE, 99, raw(0))]
    path = write_bag(tmp_path / "bag", both + depth, empty_topics=[("/b/image", RAW_IMAGE)])
    with Bag(path) as bag:
        assert bag.image_topic == "/a/image_raw"
        assert bag.camera_info_topic is None
    with Bag(path, "a/image_raw/compressed") as bag:
        assert bag.image_type == COMPRESSED_IMAGE
    with Bag(path, "/a/depth/image_rect") as bag:
        assert bag.frame_count == 1
    with pytest.raises(BagError, match="/b/image .*no messages"):
        Bag(path, "/b/image")


def test_a_compressed_topic_is_found_by_its_base_name(tmp_path):
    path = write_bag(tmp_path / "bag", [("/a/image/compressed", COMPRESSED_IMAGE, 1, compressed(0))])
    with Bag(path, "/a/image") as bag:
        assert bag.image_topic == "/a/image/compressed"


def test_several_cameras_must_be_chosen_from(tmp_path):
    path = write_bag(tmp_path / "bag", frames("/left/image") + frames("/right/image"))
    with pytest.raises(BagError, match="2 image topics: /left/image, /right/image. Choose one with --topic"):
        Bag(path)


def test_an_unknown_or_wrong_topic_lists_what_there_is(tmp_path):
    path = write_bag(tmp_path / "bag", [*frames(), ("/cam/camera_info", CAMERA_INFO, 1, camera_info(0, 1))])
    with pytest.raises(BagError) as error:
        Bag(path, "/nothing")
    assert "/nothing" in str(error.value)
    assert f"/cam/image_raw  {RAW_IMAGE}  3 messages" in str(error.value)
    with pytest.raises(BagError, match=f"/cam/camera_info holds {CAMERA_INFO}, not"):
        Bag(path, "/cam/camera_info")
    with pytest.raises(BagError, match="no sensor_msgs/msg/CameraInfo on /cam/image_raw"):
        Bag(path, camera_info_topic="/cam/image_raw")


def test_bags_without_images_or_messages(tmp_path):
    with pytest.raises(BagError, match="no colour image topic"):
        Bag(write_bag(tmp_path / "a", [("/c", CAMERA_INFO, 1, camera_info(0, 1))]))
    with pytest.raises(BagError, match="is empty"):
        Bag(write_bag(tmp_path / "b", [], empty_topics=[("/image", RAW_IMAGE)]))


def test_paths_that_are_no_bag(tmp_path):
    with pytest.raises(BagError, match="there is no bag at"):
        Bag(tmp_path / "absent")
    with pytest.raises(BagError, match="no metadata.yaml and 0"):
        Bag(tmp_path)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="rosbags-convert"):
        Bag(tmp_path / "old.bag")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BagError, match="notes.txt is no ROS 2 bag"):
        Bag(tmp_path / "notes.txt")
    assert is_bag(tmp_path / "old.bag") and not is_bag(tmp_path / "notes.txt") and not is_bag(tmp_path)


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_damaged_bags_say_so(tmp_path, storage):
    path = write_bag(tmp_path / "bag", frames(count=50), storage)
    file = next(p for p in path.iterdir() if p.suffix != ".yaml")
    whole = file.read_bytes()
    for damage in (b"", b"nonsense" * 40, whole[: len(whole) // 2]):
        file.write_bytes(damage)
        with pytest.raises(BagError, match="cannot be read|damaged"), Bag(path) as bag:
            list(bag.frames())
    file.write_bytes(whole)
    (path / "metadata.yaml").write_text("{")
    with pytest.raises(BagError, match="cannot be read"):
        Bag(path)


def test_a_message_that_is_cut_short_says_so(tmp_path):
    path = tmp_path / "bag"
    with Writer(path, version=8) as writer:
        connection = writer.add_connection("/image", RAW_IMAGE, typestore=TYPES)
        writer.write(connection, 1, bytes(TYPES.serialize_cdr(raw(0), RAW_IMAGE))[:30])
    with Bag(path) as bag, pytest.raises(BagError, match="a message on /image .* cannot be decoded"):
        list(bag.frames())


def test_the_recorded_bag(recorded_data, tmp_path):
    copy = shutil.copytree(recorded_data("tum_fr1_rpy_bag"), tmp_path / "copy")
    with Bag(copy) as bag:
        read = list(bag.frames())
        assert bag.image_topic == "/camera/color/image_raw/compressed"
        assert len(read) == bag.frame_count == 64
        first = bag.decode(read[0].camera_info, bag.camera_info_topic)
        assert first.header.frame_id == "camera_color_optical_frame"
        assert (np.diff([f.stamp_ns for f in read]) > 0).all()
