import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import trajectory
from vidllm_ros.evaluation.recordings import trajectory_files


def random_path(rng: np.random.Generator, count: int = 20) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(size=(count, 3)), axis=0)
    return poses


def moved(poses: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    rotation = Rotation.random(random_state=rng).as_matrix()
    return trajectory.Similarity(rotation, rng.normal(size=3) * 5, scale).poses(poses)


def test_ate_without_alignment_is_the_distance_of_positions():
    truth = random_path(np.random.default_rng(0), 4)
    predicted = truth.copy()
    predicted[:, 0, 3] += [0.0, 3.0, 0.0, 0.0]
    predicted[:, 1, 3] += [0.0, 4.0, 0.0, 1.0]
    errors = trajectory.ate(predicted, truth, "none")
    np.testing.assert_allclose(errors.values, [0, 5, 0, 1])
    assert errors.rmse == pytest.approx(np.sqrt(26 / 4))
    assert errors.statistics() == pytest.approx(
        {"rmse": np.sqrt(6.5), "mean": 1.5, "median": 0.5, "std": np.std([0, 5, 0, 1]), "max": 5.0}
    )


@pytest.mark.parametrize(("alignment", "scale"), [("se3", 1.0), ("sim3", 1.0), ("sim3", 0.37)])
def test_alignment_undoes_a_change_of_world(alignment, scale):
    rng = np.random.default_rng(1)
    truth = random_path(rng)
    errors = trajectory.ate(moved(truth, scale, rng), truth, alignment)
    assert errors.rmse < 1e-12
    assert errors.alignment.scale == pytest.approx(1 / scale)


def test_se3_alignment_does_not_forgive_scale():
    truth = random_path(np.random.default_rng(2))
    predicted = truth.copy()
    predicted[:, :3, 3] *= 2.0
    spread = truth[:, :3, 3] - truth[:, :3, 3].mean(axis=0)
    assert trajectory.ate(predicted, truth, "se3").rmse == pytest.approx(np.sqrt((spread**2).sum(axis=1).mean()))


@pytest.mark.parametrize("with_scale", [False, True])
def test_umeyama_against_a_general_optimiser(with_scale):
    rng = np.random.default_rng(3)
    source = rng.normal(size=(15, 3))
    target = 1.7 * source @ Rotation.random(random_state=rng).as_matrix().T + rng.normal(size=(15, 3)) * 0.3

    def residual(x):
        moved = Rotation.from_rotvec(x[:3]).apply(source) * (x[6] if with_scale else 1.0) + x[3:6]
        return (moved - target).ravel()

    found = trajectory.umeyama(source, target, with_scale)
    start = np.r_[Rotation.from_matrix(found.rotation).as_rotvec() + 0.3, 0, 0, 0, 1]
    best = least_squares(residual, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert np.sum((found.points(source) - target) ** 2) == pytest.approx(2 * best.cost, rel=1e-9)
    np.testing.assert_allclose(found.rotation, Rotation.from_rotvec(best.x[:3]).as_matrix(), atol=1e-6)


def test_alignment_never_mirrors():
    rng = np.random.default_rng(4)
    source = rng.normal(size=(10, 3))
    assert np.linalg.det(trajectory.umeyama(source, source * [1, 1, -1]).rotation) == pytest.approx(1.0)


@pytest.mark.parametrize("positions", [np.zeros((5, 3)), np.outer(np.arange(5), [1, 2, 3]), np.eye(3)[:2]])
def test_degenerate_positions_say_so(positions):
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 3] = positions
    with pytest.raises(EvaluationError, match="three positions off one line"):
        trajectory.ate(poses, poses, "se3")
    assert trajectory.ate(poses, poses, "none").rmse == 0.0


def test_unusable_poses_say_so():
    poses = random_path(np.random.default_rng(5), 4)
    with pytest.raises(EvaluationError, match="Associate them by stamp"):
        trajectory.ate(poses[:3], poses)
    with pytest.raises(EvaluationError, match="at least 1"):
        trajectory.ate(poses[:0], poses[:0])
    broken = poses.copy()
    broken[1, 0, 3] = np.nan
    with pytest.raises(EvaluationError, match="1 values .* not finite"):
        trajectory.ate(broken, poses)


def test_rpe_of_a_hand_made_path():
    truth = np.tile(np.eye(4), (5, 1, 1))
    truth[:, 0, 3] = np.arange(5)
    predicted = truth.copy()
    predicted[2:, 0, 3] += 0.5  # one step too long
    predicted[4, :3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix()  # one step turns
    errors = trajectory.rpe(predicted, truth)
    np.testing.assert_allclose(errors.translation.values, [0, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(errors.rotation.values, [0, 0, 0, 30], atol=1e-9)
    assert len(trajectory.rpe(predicted, truth, delta=2).translation.values) == 2
    assert len(trajectory.rpe(predicted, truth, delta=2, all_pairs=True).translation.values) == 3
    with pytest.raises(EvaluationError, match="delta = 5"):
        trajectory.rpe(predicted, truth, delta=5)


def test_rpe_ignores_the_world_and_with_sim3_the_scale():
    rng = np.random.default_rng(6)
    truth = random_path(rng)
    predicted = moved(truth, 0.5, rng)
    assert trajectory.rpe(predicted, truth, "sim3").translation.rmse < 1e-12
    step = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(trajectory.rpe(predicted, truth, "se3").translation.values, step / 2, rtol=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 1.0, 90.0, 179.9999, 180.0])
def test_rotation_angle_is_accurate_at_both_ends(degrees):
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([2, -1, 2]) / 3).as_matrix()
    assert trajectory.rotation_angle(rotation) == pytest.approx(degrees, abs=1e-7)


def brute_force_association(short, long, limit):
    pairs = []
    for i, stamp in enumerate(short):
        j = min(range(len(long)), key=lambda k: (abs(long[k] - stamp), k))
        if abs(long[j] - stamp) <= limit:
            pairs.append((i, j))
    return pairs


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 10**8), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(0, 10**8), min_size=1, max_size=12, unique=True),
)
def test_association_walks_the_shorter_list(predicted, truth):
    predicted, truth = sorted(predicted), sorted(truth)
    i, j = trajectory.associate(np.array(predicted), np.array(truth), 0.01)
    if len(truth) > len(predicted):
        assert list(zip(i, j, strict=True)) == brute_force_association(predicted, truth, 10**7)
    else:
        assert list(zip(j, i, strict=True)) == brute_force_association(truth, predicted, 10**7)


def test_association_limit_offset_and_nothing():
    stamps = np.array([0, 100, 200]) * 10**6
    i, _ = trajectory.associate(stamps, stamps[:2] + 10**7, 0.01)
    assert len(i) == 2  # the limit itself still counts
    assert len(trajectory.associate(stamps, stamps[:2] + 10**7 + 1, 0.01)[0]) == 0
    assert len(trajectory.associate(stamps, stamps - 5 * 10**9, 0.01, offset=5.0)[0]) == 3
    assert len(trajectory.associate(stamps, np.zeros(0, np.int64))[0]) == 0
    assert len(trajectory.associate(stamps[:1], stamps[:1])[0]) == 1


def test_tum_files_keep_nanoseconds_and_poses(tmp_path):
    rng = np.random.default_rng(7)
    poses, stamps = random_path(rng, 5), 1_700_000_000_123_456_789 + np.arange(5) * 33_333_333
    trajectory_files.write_tum(tmp_path / "t.tum", stamps, poses)
    read_stamps, read_poses = trajectory_files.read_tum(tmp_path / "t.tum")
    np.testing.assert_array_equal(read_stamps, stamps)
    np.testing.assert_allclose(read_poses, poses, atol=1e-7)


def test_tum_files_of_others_and_broken_ones(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("# a comment\n\n1.5,1,2,3,0,0,0,2\n1e9\t0 0 0  0 0 0 1\n")
    stamps, poses = trajectory_files.read_tum(path)
    assert stamps.tolist() == [1_500_000_000, 10**18]
    np.testing.assert_allclose(poses[0], [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    for line in ("1 2 3", "x 0 0 0 0 0 0 1", "1 0 0 0 0 0 0 0", "1 nan 0 0 0 0 0 1"):
        path.write_text("# fine\n" + line)
        with pytest.raises(EvaluationError, match="line 2"):
            trajectory_files.read_tum(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        trajectory_files.read_tum(tmp_path / "absent")


def test_recorded_poses_survive_a_round_trip(recorded_data, tmp_path):
    stamps, poses = trajectory_files.read_tum(recorded_data("tum_fr3_cabinet") / "truth_cam_poses.txt")
    assert len(stamps) == 58
    trajectory_files.write_tum(tmp_path / "t.tum", stamps, poses)
    again = trajectory_files.read_tum(tmp_path / "t.tum")[1]
    assert trajectory.ate(again, poses, "none").rmse < 1e-6
