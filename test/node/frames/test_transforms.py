import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError

SECOND = 1_000_000_000


def transform(x: float = 0.0, angle: float = 0.0) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
    result[0, 3] = x
    return result


@pytest.fixture
def robot() -> TransformBuffer:
    """A base that moves and turns in odom, a camera and a lidar fixed to it, and two frames of another tree."""
    buffer = TransformBuffer()
    buffer.add("odom", "base", 10 * SECOND, transform(0.0, 0.0))
    buffer.add("odom", "base", 11 * SECOND, transform(2.0, 1.0))
    buffer.add("base", "camera", 0, transform(0.5), static=True)
    buffer.add("base", "lidar", 0, transform(-0.5), static=True)
    buffer.add("far", "away", 0, transform(), static=True)
    return buffer


def test_chains_are_multiplied_and_times_interpolated(robot):
    expected = transform(1.0, 0.5) @ transform(0.5)
    assert np.allclose(robot.lookup("odom", "camera", 10 * SECOND + SECOND // 2), expected)
    assert np.allclose(robot.lookup("camera", "odom", 10 * SECOND + SECOND // 2), np.linalg.inv(expected))


def test_two_branches_meet_at_their_common_parent(robot):
    assert np.allclose(robot.lookup("lidar", "camera", 0), transform(1.0))


def test_time_zero_is_the_newest_and_a_frame_in_itself_is_the_identity(robot):
    assert np.allclose(robot.lookup("odom", "base", 0), transform(2.0, 1.0))
    assert np.array_equal(robot.lookup("anything", "anything", 5), np.eye(4))


def test_slashes_of_tf_1_are_ignored(robot):
    assert np.allclose(robot.lookup("/base", "camera", 0), transform(0.5))


@pytest.mark.parametrize(
    ("target", "source", "stamp", "words"),
    [
        ("map", "camera", 0, ["'map'", "'camera'", "away", "odom"]),
        ("odom", "away", 0, ["not connected", "'odom'", "'away'"]),
        ("odom", "camera", 12 * SECOND, ["12.000 s", "10.000 s to 11.000 s", "'odom' to 'base'"]),
        ("odom", "camera", 9 * SECOND, ["9.000 s", "10.000 s to 11.000 s"]),
    ],
)
def test_what_is_missing_is_named(robot, target, source, stamp, words):
    with pytest.raises(TransformError) as caught:
        robot.lookup(target, source, stamp)
    assert all(word in str(caught.value) for word in words)


def test_an_empty_buffer_says_so():
    with pytest.raises(TransformError, match="knows no frame"):
        TransformBuffer().lookup("a", "b", 0)


def test_a_late_transform_is_waited_for(robot):
    threading.Timer(0.05, robot.add, ("odom", "base", 12 * SECOND, transform(4.0))).start()
    assert np.allclose(robot.lookup("odom", "base", 12 * SECOND, timeout=20.0), transform(4.0))


def test_waiting_ends():
    with pytest.raises(TransformError):
        TransformBuffer().lookup("a", "b", 0, timeout=0.01)


def test_old_transforms_leave(robot):
    robot.add("odom", "base", 30 * SECOND, transform())
    with pytest.raises(TransformError, match="30.000 s to 30.000 s"):
        robot.lookup("odom", "base", 10 * SECOND)


def test_a_clock_that_went_back_starts_anew(robot):
    robot.add("odom", "base", 100 * SECOND, transform(9.0))
    robot.add("odom", "base", 10 * SECOND, transform(1.0))
    assert np.allclose(robot.lookup("odom", "base", 0), transform(1.0))


def test_a_frame_that_changes_its_parent_forgets_the_old_one(robot):
    robot.add("map", "base", 10 * SECOND, transform(7.0))
    assert np.allclose(robot.lookup("map", "camera", 10 * SECOND), transform(7.5))
    with pytest.raises(TransformError):
        robot.lookup("odom", "camera", 10 * SECOND)


def test_a_loop_ends():
    buffer = TransformBuffer()
    buffer.add("a", "b", 0, transform(), static=True)
    buffer.add("b", "a", 0, transform(), static=True)
    buffer.add("c", "d", 0, transform(), static=True)
    with pytest.raises(TransformError):
        buffer.lookup("a", "d", 0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.integers(0, 30 * SECOND), st.booleans()),
        max_size=40,
    ),
    st.sampled_from("abcde"),
    st.sampled_from("abcde"),
    st.integers(0, 30 * SECOND),
)
def test_any_tree_answers_with_a_rigid_transform_or_an_error(edges, target, source, stamp):
    buffer = TransformBuffer()
    for index, (parent, child, time, static) in enumerate(edges):
        buffer.add(parent, child, time, transform(index, index), static)
    try:
        result = buffer.lookup(target, source, stamp)
    except TransformError as error:
        assert str(error)
    else:
        assert np.allclose(result[:3, :3] @ result[:3, :3].T, np.eye(3))
