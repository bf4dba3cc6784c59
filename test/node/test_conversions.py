import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker

from vidllm_ros.model.outputs import Box3D
from vidllm_ros.node import conversions
from vidllm_ros.node.output.markers import label_color, scene_markers

HEAD = conversions.header(1_500_000_007, "map")


def transform(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    result = np.eye(4)
    result[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    result[:3, 3] = random.normal(size=3)
    return result


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_keep_every_nanosecond(nanoseconds):
    assert conversions.stamp_to_ns(conversions.ns_to_stamp(nanoseconds)) == nanoseconds


@given(st.integers(0, 1000))
def test_a_pose_survives_the_way_through_a_transform_message(seed):
    expected = transform(seed)
    message = conversions.transform_message(5, "map", "camera", expected)
    assert (message.header.frame_id, message.child_frame_id) == ("map", "camera")
    assert np.allclose(conversions.matrix_from_transform(message.transform), expected)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_transform_that_is_not_finite_or_has_no_rotation_is_no_transform(broken):
    message = conversions.transform_message(0, "a", "b", transform()).transform
    message.translation.y = broken
    assert conversions.matrix_from_transform(message) is None
    message.translation.y, message.rotation.w = 0.0, 0.0
    message.rotation.x = message.rotation.y = message.rotation.z = 0.0
    assert conversions.matrix_from_transform(message) is None


def test_depth_is_metres_with_nan_where_nothing_is_known():
    depth = np.array([[1.5, 0.0, -2.0], [np.inf, np.nan, 0.25]])
    image = conversions.depth_message(HEAD, depth)
    assert (image.encoding, image.step, image.is_bigendian) == ("32FC1", 12, 0)
    values = np.frombuffer(image.data, "<f4").reshape(2, 3)
    assert np.array_equal(values, [[1.5, np.nan, np.nan], [np.nan, np.nan, 0.25]], equal_nan=True)


def test_camera_info_carries_k_in_k_and_p():
    matrix = np.array([[50.0, 0, 20], [0, 51, 15], [0, 0, 1]])
    info = conversions.camera_info_message(HEAD, matrix, (30, 40))
    assert (info.height, info.width) == (30, 40)
    assert np.array_equal(np.reshape(info.k, (3, 3)), matrix)
    assert np.array_equal(np.reshape(info.p, (3, 4))[:, :3], matrix)


def test_path_poses_have_their_own_stamps():
    poses = np.stack([transform(i) for i in range(3)])
    path = conversions.path_message("map", np.array([10, 20, 30]), poses)
    assert [conversions.stamp_to_ns(pose.header.stamp) for pose in path.poses] == [10, 20, 30]
    assert conversions.stamp_to_ns(path.header.stamp) == 30
    assert path.poses[1].pose.position.x == poses[1, 0, 3]
    assert conversions.path_message("map", [], np.zeros((0, 4, 4))).poses == []


def test_covariance_is_the_squared_deviations():
    message = conversions.pose_with_covariance(HEAD, transform(), 0.2, 0.1)
    assert np.allclose(np.reshape(message.pose.covariance, (6, 6)), np.diag([0.04] * 3 + [0.01] * 3))


def box(label: str = "red chair") -> Box3D:
    rotation = Rotation.from_euler("z", 0.5).as_matrix()
    return Box3D(np.array([1.0, 2, 0.5]), np.array([0.4, 0.6, 1.0]), rotation, label, 0.75)


def test_a_detection_says_what_where_and_how_sure():
    array_message = conversions.detections_message(HEAD, [box()])
    (detection,) = array_message.detections
    assert array_message.header == detection.header == HEAD
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("red chair", 0.75)
    assert (detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z) == (0.4, 0.6, 1.0)
    q = detection.bbox.center.orientation
    assert np.allclose(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), box().rotation)
    assert result.pose.pose == detection.bbox.center


def test_a_moved_box_has_moved_corners():
    T = transform(3)
    moved = conversions.moved_box(box(), T)
    assert np.allclose(moved.corners(), box().corners() @ T[:3, :3].T + T[:3, 3])
    assert (moved.label, moved.score) == ("red chair", 0.75)


def test_drop_lists_leave_out_zeros_and_stay_in_step():
    assert conversions.drop_lists({"gap": 2, "reset": 0, "disabled": 5}) == (["disabled", "gap"], [5, 2])


def test_markers_start_with_deleteall_and_show_boxes_words_and_cameras():
    cameras = np.stack([transform(i) for i in range(2)])
    intrinsics = np.tile(np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]), (2, 1, 1))
    markers = scene_markers(HEAD, [box(), box("table")], cameras, intrinsics, (30, 40)).markers
    assert markers[0].action == Marker.DELETEALL
    assert [(m.ns, m.id) for m in markers[1:]] == [
        ("boxes", 0), ("labels", 0), ("boxes", 1), ("labels", 1), ("cameras", 0)
    ]  # fmt: skip
    edges = np.array([[p.x, p.y, p.z] for p in markers[1].points])
    assert {tuple(np.round(p, 9)) for p in edges} == {tuple(np.round(p, 9)) for p in box().corners()}
    lengths = np.linalg.norm(edges[::2] - edges[1::2], axis=1)
    assert np.allclose(np.sort(lengths), np.sort([0.4] * 4 + [0.6] * 4 + [1.0] * 4))
    assert markers[2].text == "red chair 0.75"
    assert markers[2].pose.position.z > box().corners()[:, 2].max()
    frusta = np.array([[p.x, p.y, p.z] for p in markers[-1].points])
    assert len(frusta) == 2 * 16 and np.allclose(frusta[0], cameras[0, :3, 3])


def test_a_frustum_opens_where_the_camera_looks():
    intrinsics = np.array([[[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]])
    markers = scene_markers(HEAD, [], transform(4)[None], intrinsics, (30, 40)).markers
    points = np.array([[p.x, p.y, p.z] for p in markers[-1].points])
    local = (points - transform(4)[:3, 3]) @ transform(4)[:3, :3]
    assert np.allclose(np.unique(np.round(local[:, 2], 6)), [0, 0.15])


def test_labels_have_fixed_and_different_colours():
    assert label_color("chair") == label_color("chair") != label_color("table")
