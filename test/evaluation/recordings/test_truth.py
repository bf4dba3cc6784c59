import json

import numpy as np
import pytest
from bag_maker import RAW_IMAGE, TYPES, frames, header, write_bag
from PIL import Image
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import BagError, EvaluationError
from vidllm_ros.evaluation.recordings import truth
from vidllm_ros.evaluation.recordings.bags import TF_MESSAGE, Bag
from vidllm_ros.evaluation.recordings.folders import FrameFolder
from vidllm_ros.evaluation.recordings.trajectory_files import write_tum
from vidllm_ros.evaluation.recordings.transforms import TransformTree

SECOND = 10**9


def transform(parent: str, child: str, stamp_ns: int, x: float = 0.0, yaw: float = 0.0):
    q = Rotation.from_euler("z", yaw).as_quat()
    geometry = TYPES.types["geometry_msgs/msg/Transform"](
        TYPES.types["geometry_msgs/msg/Vector3"](x, 0.0, 0.0), TYPES.types["geometry_msgs/msg/Quaternion"](*q)
    )
    return TYPES.types["geometry_msgs/msg/TransformStamped"](header(stamp_ns, parent), child, geometry)


def folder(path, count=4, **entry):
    """A miniature in the layout of the posed clips."""
    (path / "rgb").mkdir(parents=True)
    entries = []
    for i in range(count):
        Image.fromarray(np.full((6, 8, 3), 10 * i, np.uint8)).save(path / "rgb" / f"{i}.png")
        entries.append({"stamp": 100.0 + i / 4, "rgb": f"rgb/{i}.png", **entry})
    (path / "frames.json").write_text(json.dumps({"frames": entries[::-1]}))  # the order of the file does not count
    return path


def test_transforms_chain_and_interpolate():
    dynamic = [transform("odom", "base", t * SECOND // 10, x=t, yaw=0.1 * t) for t in range(3)]
    tree = TransformTree([*dynamic, transform("map", "/odom", 0, x=5.0)], [transform("base", "camera", 0, x=1.0)])
    assert tree.root("camera") == "map" and tree.moves("camera") and not tree.moves("map")
    assert tree.lookup("camera", SECOND // 20) is None  # map -> odom is known at 0 s only
    tree = TransformTree(dynamic, [transform("map", "odom", 0, x=5.0), transform("base", "camera", 0, x=1.0)])
    half = tree.lookup("camera", SECOND // 20)
    yaw = 0.05
    np.testing.assert_allclose(half[:3, 3], [5.5 + np.cos(yaw), np.sin(yaw), 0], atol=1e-12)
    np.testing.assert_allclose(half[:3, :3], Rotation.from_euler("z", yaw).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("camera", 2 * SECOND // 10)[0, 3], 5 + 2 + np.cos(0.2))
    assert tree.lookup("camera", SECOND) is None and tree.lookup("camera", -1) is None
    np.testing.assert_array_equal(tree.lookup("elsewhere", 0), np.eye(4))


def test_gaps_and_loops_of_transforms():
    far = TransformTree([transform("a", "b", 0), transform("a", "b", SECOND)])
    assert far.lookup("b", SECOND // 2) is None and far.lookup("b", SECOND) is not None
    loop = TransformTree([], [transform("a", "b", 0), transform("b", "a", 0)])
    assert loop.lookup("a", 0) is not None  # ends, whatever it means


def test_truth_from_tf_in_a_bag(tmp_path):
    tf = TYPES.types[TF_MESSAGE]
    moving = [("/tf", TF_MESSAGE, i, tf([transform("world", "camera", 1000 * i, x=i)])) for i in range(2)]
    with Bag(write_bag(tmp_path / "bag", frames() + moving)) as bag:
        found = truth.load(bag)
    assert found.sources == {"trajectory": "TF world -> camera"}
    assert found.stamps_ns.tolist() == [0, 1000]  # the third frame has no transform
    np.testing.assert_allclose(found.T_world_camera[:, 0, 3], [0, 1])
    assert found.boxes is None and not found.answers


def test_a_camera_that_tf_does_not_move_has_no_known_way(tmp_path):
    tf = TYPES.types[TF_MESSAGE]
    still = [("/tf_static", TF_MESSAGE, 0, tf([transform("base", "camera", 0)]))]
    other = [("/tf", TF_MESSAGE, 0, tf([transform("map", "robot", 0)]))]
    with Bag(write_bag(tmp_path / "bag", frames() + still + other)) as bag:
        assert not truth.load(bag).known


def test_depth_topics_of_a_bag(tmp_path):
    depth = np.array([[0, 1500], [2000, 65535]], np.uint16)
    message = TYPES.types[RAW_IMAGE](header(7), 2, 2, "16UC1", 0, 4, np.frombuffer(depth.tobytes(), np.uint8))
    with Bag(write_bag(tmp_path / "bag", [*frames(), ("/depth/image", RAW_IMAGE, 9, message)])) as bag:
        found = truth.load(bag)
        np.testing.assert_allclose(found.depth[7](), [[np.nan, 1.5], [2.0, 65.535]], rtol=1e-6)


def test_files_beside_a_bag_win_over_tf(tmp_path):
    beside = tmp_path / "ground_truth"
    beside.mkdir()
    write_tum(beside / "trajectory.tum", np.array([1, 2]), np.tile(np.eye(4), (2, 1, 1)))
    (beside / "boxes.json").write_text(
        json.dumps([{"label": "chair", "center": [1, 2, 3], "size": [1, 1, 1], "yaw": 0.5}])
    )
    unseen = {"label": "bed", "center": [0, 0, 0], "size": [1, 1, 1], "pixels": 0}
    rows = json.loads((beside / "boxes.json").read_text())
    (beside / "boxes.json").write_text(json.dumps({"boxes": [*rows, unseen]}))
    (beside / "questions.json").write_text(json.dumps([{"question": "How many?", "answer": "2"}]))
    with Bag(write_bag(tmp_path / "bag", frames())) as bag:
        found = truth.load(bag)
        alone = truth.load(bag, beside / "trajectory.tum")
    assert set(found.sources) == {"trajectory", "boxes", "answers"}
    assert found.answers == {"How many?": ("2",)}
    assert [box.label for box in found.boxes] == ["chair"]
    np.testing.assert_allclose(found.boxes[0].rotation, Rotation.from_euler("z", 0.5).as_matrix())
    assert alone.boxes is None and len(alone.stamps_ns) == 2


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"boxes": null}', '[{"label": "a"}]', '[{"label":"a","center":[1],"size":[1,1,1]}]']
)
def test_damaged_truth_says_which_file(tmp_path, content):
    (tmp_path / "boxes.json").write_text(content)
    (tmp_path / "questions.json").write_text("[3]")
    with pytest.raises(EvaluationError, match="boxes.json"):
        truth.read_boxes(tmp_path / "boxes.json")
    with pytest.raises(EvaluationError, match="questions.json"):
        truth.read_questions(tmp_path / "questions.json")


def test_a_folder_reads_like_a_bag(tmp_path):
    path = folder(tmp_path / "clip")
    (path / "intrinsics.json").write_text(json.dumps({"width": 8, "height": 6, "fx": 5, "fy": 6, "cx": 4, "cy": 3}))
    with FrameFolder(path) as clip:
        read = list(clip.frames())
        assert [f.stamp_ns for f in read] == [100 * SECOND + i * SECOND // 4 for i in range(4)]
        image = clip.decode(read[2].image, clip.image_topic)
        assert image.data.tobytes() == (path / "rgb" / "2.png").read_bytes() and image.format == "png"
        np.testing.assert_array_equal(
            clip.decode(read[0].camera_info, clip.camera_info_topic).k, [5, 0, 4, 0, 6, 3, 0, 0, 1]
        )
        assert not truth.load(clip).known


def test_a_folder_without_calibration_or_with_a_missing_file(tmp_path):
    path = folder(tmp_path / "clip")
    with FrameFolder(path) as clip:
        assert next(clip.frames()).camera_info is None
        (path / "rgb" / "1.png").unlink()
        with pytest.raises(BagError, match="1.png"):
            list(clip.frames())


def test_folders_that_are_none(tmp_path):
    with pytest.raises(BagError, match="neither a ROS 2 bag .* nor a folder with frames.json"):
        FrameFolder(tmp_path)
    for content, problem in (("{", "cannot be read"), ("[]", "must hold an object"), ("{}", "lists no frames")):
        (tmp_path / "frames.json").write_text(content)
        with pytest.raises(BagError, match=problem):
            FrameFolder(tmp_path)


def test_truth_of_the_recorded_clip(recorded_data):
    clip = FrameFolder(recorded_data("tum_fr3_cabinet"))
    found = truth.load(clip)
    assert len(found.stamps_ns) == 57  # one pose is marked bad
    assert [box.label for box in found.boxes] == ["cabinet"]
    depth = found.depth[int(found.stamps_ns[3])]()
    assert depth.shape == (480, 640) and 0.5 < np.median(depth[depth > 0]) < 4.0


def test_truth_of_the_recorded_bag(recorded_data):
    with Bag(recorded_data("tum_fr1_rpy_bag")) as bag:
        found = truth.load(bag)
    assert found.sources == {"trajectory": "TF world -> camera_color_optical_frame"}
    assert len(found.stamps_ns) == 64
