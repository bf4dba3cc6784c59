import json

import numpy as np
import open3d as o3d
import pytest
import replay_maker
from bag_maker import CAMERA_INFO, RAW_IMAGE, TYPES, camera_info, header, raw, write_bag
from PIL import Image
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import BagError, EvaluationError
from vidllm_ros.evaluation.recordings import true_cloud, truth
from vidllm_ros.evaluation.recordings.bags import TF_MESSAGE, Bag
from vidllm_ros.evaluation.recordings.folders import FrameFolder
from vidllm_ros.evaluation.recordings.odometry import ODOMETRY
from vidllm_ros.evaluation.scores import score

K = np.array([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]])


def test_lift_against_projection():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (6, 8))
    depth[0, 0], depth[1, 1], depth[2, 2], depth[3, 3] = 0, np.nan, np.inf, 50.0  # unknown, or too far
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.1, 0.5, -0.2]).as_matrix()
    pose[:3, 3] = 1, 2, 3
    points = true_cloud.lift(depth, K, pose)
    assert points.shape == (44, 3)
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    pixels = seen @ K.T
    u, v = np.round(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    np.testing.assert_allclose(seen[:, 2], depth[v, u])


def wall_folder(path) -> FrameFolder:
    """A camera that looks along world y at a wall two metres away and moves along x."""
    (path / "rgb").mkdir(parents=True)
    look = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    entries = []
    for k in range(3):
        pose = np.eye(4)
        pose[:3, :3], pose[0, 3] = look, 0.5 * k
        Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "rgb" / f"{k}.png")
        # depth at half the size of the colour image
        Image.fromarray(np.full((6, 8), 2000, np.uint16)).save(path / f"{k}.png")
        entries.append({"stamp": k, "rgb": f"rgb/{k}.png", "depth": f"{k}.png", "T_world_cam": pose.tolist()})
    (path / "frames.json").write_text(json.dumps({"frames": entries}))
    camera = {"width": 16, "height": 12, "fx": 20, "fy": 20, "cx": 8, "cy": 6, "depth_scale": 1000}
    (path / "intrinsics.json").write_text(json.dumps(camera))
    return FrameFolder(path)


def test_depth_along_the_way_becomes_the_true_cloud(tmp_path):
    found = truth.load(wall_folder(tmp_path))
    assert found.sources["map"] == "true depth along true poses"
    points = found.cloud()
    np.testing.assert_allclose(points[:, 1], 2.0, atol=1e-6)
    assert points[:, 0].min() == pytest.approx(-0.8, abs=0.03) and points[:, 0].max() == pytest.approx(1.4, abs=0.05)
    no_camera = tmp_path / "intrinsics.json"
    no_camera.unlink()
    assert truth.load(FrameFolder(tmp_path)).cloud is None


def test_a_map_is_scored_in_the_true_world():
    made, true = replay_maker.replay(), replay_maker.truth()
    cloud = replay_maker.WORLD_FROM_MAP.points(made.points.astype(np.float64))
    perfect = score(made, replay_maker.truth(cloud=lambda: cloud)).map
    # both are reduced to voxels of 2 cm whose grids begin elsewhere
    assert perfect.f_score == 1.0 and perfect.accuracy < 0.01
    # a second, unseen half: complete in what was seen, half of the truth missing
    double = np.concatenate([cloud, cloud + [0, 0, 30.0]])
    half = score(made, replay_maker.truth(cloud=lambda: double)).map
    assert half.precision == 1.0 and half.recall == 0.5 and half.f_score == pytest.approx(2 / 3)
    late = replay_maker.truth(stamps_ns=true.stamps_ns + 10**15, cloud=lambda: cloud)
    scores = score(made, late)
    assert scores.map is None and any(note.startswith("Map not scored") for note in scores.notes)
    empty = score(made, replay_maker.truth(cloud=lambda: np.zeros((0, 3))))
    assert empty.map is None and "the true cloud 0" in empty.notes[-1]


def test_clouds_and_meshes_in_files(tmp_path):
    mesh = o3d.geometry.TriangleMesh.create_box()
    o3d.io.write_triangle_mesh(str(tmp_path / "mesh.ply"), mesh)
    assert true_cloud.read_cloud(tmp_path / "mesh.ply").shape == (8, 3)
    (tmp_path / "bad.ply").write_text("nonsense")
    with pytest.raises(EvaluationError, match="bad.ply holds no points"):
        true_cloud.read_cloud(tmp_path / "bad.ply")
    folder = wall_folder(tmp_path / "clip")
    given = truth.load(folder, files=truth.TruthFiles(cloud=tmp_path / "mesh.ply"))
    assert given.cloud().shape == (8, 3) and given.sources["map"].endswith("mesh.ply")
    with pytest.raises(EvaluationError, match="there is no cloud at"):
        truth.load(folder, files=truth.TruthFiles(cloud=tmp_path / "absent.ply"))
    beside = tmp_path / "clip" / "ground_truth"
    beside.mkdir()
    (beside / "cloud.ply").write_bytes((tmp_path / "mesh.ply").read_bytes())
    assert truth.load(folder).sources["map"] == "ground_truth/cloud.ply" and truth.load(folder).cloud().shape == (8, 3)


def test_questions_in_yaml_and_single_parts_stand_above_what_was_found(tmp_path):
    folder = wall_folder(tmp_path)
    file = tmp_path / "questions.yaml"
    file.write_text("- question: Is it red?\n  answer: no\n- question: How many?\n  answers: [2, two]\n")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"label": "wall", "center": [0, 2, 0], "size": [3, 0.1, 1]}]))
    found = truth.load(folder, files=truth.TruthFiles(questions=file, boxes=boxes))
    assert found.answers == {"Is it red?": ("no",), "How many?": ("2", "two")}
    assert [box.label for box in found.boxes] == ["wall"] and len(found.stamps_ns) == 3
    for text in ("{", "[3]", "- {question: a, answers: two}", "- {question: a, answers: []}"):
        file.write_text(text)
        with pytest.raises(EvaluationError, match="questions.yaml"):
            truth.read_questions(file)


def odometry(stamp_ns: int, x: float, child: str = "base"):
    t = TYPES.types
    pose = t["geometry_msgs/msg/Pose"](
        t["geometry_msgs/msg/Point"](x, 0.0, 0.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    zero = t["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    return t[ODOMETRY](
        header(stamp_ns, "odom"),
        child,
        t["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        t["geometry_msgs/msg/TwistWithCovariance"](t["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36)),
    )


def static(parent: str, child: str, z: float):
    t = TYPES.types
    geometry = t["geometry_msgs/msg/Transform"](
        t["geometry_msgs/msg/Vector3"](0.0, 0.0, z), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    return t[TF_MESSAGE]([t["geometry_msgs/msg/TransformStamped"](header(0, parent), child, geometry)])


def odometry_bag(path, child: str = "base", mounted: bool = True):
    messages = []
    for k in range(4):
        messages.append(("/cam/image_raw", RAW_IMAGE, k, raw(k * 10**8)))
        messages.append(("/cam/camera_info", CAMERA_INFO, k, camera_info(k * 10**8, 6.0)))
    messages += [("/odom", ODOMETRY, k, odometry(k * 10**8 + 5 * 10**7, 1.0 + k, child)) for k in range(3)]
    if mounted:
        messages.append(("/tf_static", TF_MESSAGE, 0, static("base", "camera", 0.7)))
    return write_bag(path, messages)


def test_odometry_carries_the_camera_that_is_mounted_on_the_robot(tmp_path):
    with Bag(odometry_bag(tmp_path / "bag")) as bag:
        found = truth.load(bag, files=truth.TruthFiles(odometry="/odom"))
    # images at 0.1 and 0.2 s lie between messages; those at 0 and 0.3 s do not
    assert found.stamps_ns.tolist() == [10**8, 2 * 10**8]
    np.testing.assert_allclose(found.T_world_camera[:, :3, 3], [[1.5, 0, 0.7], [2.5, 0, 0.7]])
    assert found.sources["trajectory"] == "odometry /odom"


def test_odometry_without_a_child_frame_speaks_of_the_camera(tmp_path):
    with Bag(odometry_bag(tmp_path / "bag", child="", mounted=False)) as bag:
        found = truth.load(bag, files=truth.TruthFiles(odometry="odom"))
    np.testing.assert_allclose(found.T_world_camera[:, :3, 3], [[1.5, 0, 0], [2.5, 0, 0]])


def test_odometry_that_cannot_be_used_says_why(tmp_path):
    with Bag(odometry_bag(tmp_path / "loose", mounted=False)) as bag:
        with pytest.raises(BagError, match="no transform from 'base'"):
            truth.load(bag, files=truth.TruthFiles(odometry="/odom"))
        with pytest.raises(BagError, match=r"has no nav_msgs/msg/Odometry on /wheel; it has it on: /odom"):
            truth.load(bag, files=truth.TruthFiles(odometry="/wheel"))
    with pytest.raises(BagError, match="is a folder of frames"):
        truth.load(wall_folder(tmp_path / "clip"), files=truth.TruthFiles(odometry="/odom"))
