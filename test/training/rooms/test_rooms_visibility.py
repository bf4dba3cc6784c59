"""The scene frame, and what counts as seen."""

from dataclasses import replace

import numpy as np

from vidllm_ros.training.rooms import (
    axis_aligned,
    box_in_scene,
    room_sample,
    scene_from_world,
    visibility,
    visible_boxes,
)


def test_scene_frame_is_level_and_looks_along_x():
    for seed in range(8):
        sample = room_sample(seed, "test", 1, (28, 42), style="varied", tasks=0)
        pose, to_scene = sample.T_world_camera[0], scene_from_world(sample.T_world_camera)
        np.testing.assert_allclose(to_scene @ pose[:, 3], [0, 0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(to_scene[:3, :3] @ [0, 0, 1], [0, 0, 1])
        ahead = to_scene[:3, :3] @ pose[:3, 2]
        assert ahead[0] > 0 and abs(ahead[1]) < 1e-12
        right = to_scene[:3, :3] @ pose[:3, 0]
        assert right[1] < -0.9
        np.testing.assert_allclose(np.linalg.det(to_scene[:3, :3]), 1)


def test_scene_frame_of_a_camera_that_looks_straight_down():
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [-1, 0, 0], [0, 0, -1]]
    # The picture's upper edge points along world x.
    np.testing.assert_allclose(scene_from_world(pose)[:3, :3], np.eye(3), atol=1e-12)


def test_boxes_keep_their_corners_in_the_scene_frame():
    sample = room_sample(1, "test", 1, (28, 42), tasks=0)
    to_scene = scene_from_world(sample.T_world_camera)
    for box in sample.boxes:
        moved = box_in_scene(box, to_scene)
        expected = box.corners() @ to_scene[:3, :3].T + to_scene[:3, 3]
        np.testing.assert_allclose(moved.corners(), expected, atol=1e-12)
        low, high = expected.min(axis=0), expected.max(axis=0)
        np.testing.assert_allclose(axis_aligned(moved), [*((low + high) / 2), *(high - low)], atol=1e-12)


def test_pixels_are_counted_per_box_and_frame():
    sample = room_sample(4, "train", 3, tasks=0)
    seen = visibility(sample)
    for index in range(len(sample.boxes)):
        for frame in range(3):
            assert seen.pixels[index, frame] == np.count_nonzero(sample.instances[frame] == index)
    assert not (seen.seen & seen.glimpsed).any()
    assert (seen.seen | ~seen.centered).all()
    most = seen.pixels.max(axis=1)
    assert visible_boxes(sample, 50) == tuple(np.flatnonzero(most >= 50))


def test_an_object_outside_the_frames_is_not_seen():
    sample = room_sample(4, "train", 1, tasks=0)
    empty = replace(sample, instances=np.full_like(sample.instances, -1))
    seen = visibility(empty)
    assert not seen.seen.any() and not seen.glimpsed.any() and not seen.centered.any()
    assert visible_boxes(empty) == ()


def test_boxes_contain_what_the_frames_show_of_them():
    checked = 0
    for seed in range(8):
        sample = room_sample(seed, "val", 2, tasks=0)
        v, u = np.mgrid[0:84, 0:112].reshape(2, -1)
        for frame in (0, 1):
            pose, k, depth = sample.T_world_camera[frame], sample.intrinsics[frame], sample.depth[frame].ravel()
            local = np.stack([(u - k[0, 2]) / k[0, 0] * depth, (v - k[1, 2]) / k[1, 1] * depth, depth], axis=1)
            points = local @ pose[:3, :3].T + pose[:3, 3]
            for index, box in enumerate(sample.boxes):
                mine = points[sample.instances[frame].ravel() == index]
                inside = np.abs((mine - box.center) @ box.rotation) <= box.size / 2 + 2e-3
                assert inside.all(), box.label
                checked += len(mine)
    assert checked > 5000
