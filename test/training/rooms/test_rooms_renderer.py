"""Depth and instances against independent float64 geometry, and views against one another."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.training.rooms import room, room_sample
from vidllm_ros.training.rooms.renderer import Renderer
from vidllm_ros.training.rooms.shading import Exposure, develop

# Built from boxes alone, so that the slab method below knows them completely.
FLAT = {"bed", "sofa", "desk", "cabinet", "bookshelf", "television", "refrigerator", "box"}


def pixel_rays(sample, frame, u, v):
    """Origin [3] and directions [N, 3] with unit length along the optical axis."""
    pose, k = sample.T_world_camera[frame], sample.intrinsics[frame]
    local = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(len(u))], axis=1)
    return pose[:3, 3], local @ pose[:3, :3].T


def nearest_box(batch, origin, directions):
    """Distance [N] and owner [N] of the first box solid that each ray enters, by the slab method."""
    best, owner = np.full(len(directions), np.inf), np.full(len(directions), -9)
    for solid, instance, position, yaw in zip(batch.solids, batch.owner, batch.positions, batch.yaws, strict=True):
        if solid.shape != "box":
            continue
        placed = Rotation.from_euler("z", yaw)
        turn = (placed * Rotation.from_euler("z", solid.yaw) * Rotation.from_euler("y", solid.tilt)).as_matrix()
        start = (origin - position - placed.apply(solid.center)) @ turn
        way, half = directions @ turn, np.array(solid.size) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (-half - start) / way, (half - start) / way
        enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
        hit = (enter < leave) & (enter > 1e-6) & (enter < best)
        best[hit], owner[hit] = enter[hit], instance
    return best, owner


@pytest.mark.parametrize("seed", range(6))
def test_depth_and_instance_are_those_of_the_first_box_on_the_ray(seed):
    sample, made = room_sample(seed, "val", 2, tasks=0), room(seed, "val")
    rng = np.random.default_rng(seed)
    checked = 0
    for frame in (0, 1):
        u, v = rng.integers(0, 112, 1500), rng.integers(0, 84, 1500)
        instance, depth = sample.instances[frame, v, u], sample.depth[frame, v, u]
        flat = np.array([i in (-1, -2) or (i >= 0 and sample.boxes[i].label in FLAT) for i in instance])
        t, owner = nearest_box(made.batch, *pixel_rays(sample, frame, u[flat], v[flat]))
        right = (np.abs(t - depth[flat]) < 1e-3) & (owner == instance[flat])
        # A ray along an edge may go either way in 32 bits.
        assert right.mean() > 0.995
        checked += flat.sum()
    assert checked > 1000


@pytest.mark.parametrize("seed", range(4))
def test_what_one_frame_sees_the_other_cannot_see_through(seed):
    sample, made = room_sample(seed, "train", 3, tasks=0), room(seed)
    renderer = Renderer(made)
    v, u = np.mgrid[0:84:3, 0:112:3].reshape(2, -1)
    origin, directions = pixel_rays(sample, 0, u, v)
    points = origin + directions * sample.depth[0, v, u, None]
    other = sample.T_world_camera[2]
    local = (points - other[:3, 3]) @ other[:3, :3]
    image = local @ sample.intrinsics[2].T
    front = image[:, 2] > 0.2
    uv = image[:, :2] / np.where(front, image[:, 2], 1)[:, None]
    inside = np.flatnonzero(front & (uv > 1).all(axis=1) & (uv < (110, 82)).all(axis=1))
    assert len(inside) > 50
    hits = renderer.cast(other[:3, 3].astype(np.float32), (points[inside] - other[:3, 3]).T.astype(np.float32))
    # The point itself stops the ray, so nothing is seen behind it; 1e-3 is float32 at grazing angles.
    assert (hits.t < 1 + 2e-3).mean() > 0.99
    visible = hits.t > 1 - 2e-3
    assert visible.mean() > 0.4
    seen = inside[visible]
    column, row = uv[seen].round().astype(int).T
    z = image[seen, 2]
    same = np.abs(sample.depth[2, row, column] - z) < 0.03 * z + 0.02
    assert same.mean() > 0.9
    ids = sample.instances[0, v[seen], u[seen]]
    assert (sample.instances[2, row, column] == ids)[same].mean() > 0.97


def test_no_view_leaks_out_of_the_room():
    for seed in range(12):
        sample, size = (
            room_sample(seed, "test", 2, (42, 56), tasks=0, style="varied"),
            room(seed, "test", "varied").size,
        )
        v, u = np.mgrid[0:42, 0:56].reshape(2, -1)
        for frame in (0, 1):
            origin, directions = pixel_rays(sample, frame, u, v)
            points = origin + directions * sample.depth[frame].reshape(-1, 1)
            assert (points > -1e-3).all() and (points < np.array(size) + 1e-3).all()
            floor = sample.instances[frame].ravel() == -2
            np.testing.assert_allclose(points[floor, 2], 0, atol=1e-3)


def test_soft_edges_change_the_picture_but_not_the_ground_truth():
    made, sample = room(2), room_sample(2, frames=1, tasks=0)
    view = sample.T_world_camera[0], sample.intrinsics[0], (84, 112)
    hard, soft = Renderer(made).render(*view, antialias=False), Renderer(made).render(*view, antialias=True)
    np.testing.assert_array_equal(hard[1], soft[1])
    np.testing.assert_array_equal(hard[2], soft[2])
    changed = (hard[0] != soft[0]).any(axis=0)
    assert 0.01 < changed.mean() < 0.8


def test_shadows_only_take_light_away():
    made, sample = room(2), room_sample(2, frames=1, tasks=0)
    view = sample.T_world_camera[0], sample.intrinsics[0], (84, 112)
    lit, shaded = (Renderer(made, shadows=s).render(*view, antialias=False)[0] for s in (False, True))
    assert (shaded <= lit + 1e-6).all() and (shaded < lit - 1e-3).any()


def test_develop_is_exposure_then_noise():
    rng = np.random.default_rng(0)
    grey = np.full((3, 40, 60), 0.2, np.float32)
    plain = develop(grey, Exposure(), rng)
    assert plain.shape == (40, 60, 3) and np.ptp(plain) == 0
    assert develop(grey, Exposure(gain=(2, 2, 2)), rng).mean() > plain.mean() + 20
    noisy = develop(grey, Exposure(noise=3.0), rng).astype(float)
    assert noisy.std() == pytest.approx(3, rel=0.1) and noisy.mean() == pytest.approx(plain.mean(), abs=1)
    corner = develop(grey, Exposure(vignette=0.3), rng)
    assert corner[0, 0, 0] < corner[20, 30, 0]
