"""What training and evaluation see of a window is what the node sees: cameras after bundle adjustment."""

from __future__ import annotations

import numpy as np
import torch

from vidllm_ros.checkpoints import NANO
from vidllm_ros.evaluation.metrics.poses import relative_pose_errors
from vidllm_ros.model import VidLLM
from vidllm_ros.perception.geometry.images import to_tensor
from vidllm_ros.training.rooms import room_sample
from vidllm_ros.training.stages.adjusted_cameras import adjust_cameras


def test_each_window_of_a_batch_is_adjusted_by_itself():
    model = VidLLM.from_pretrained(NANO)
    samples = [room_sample(seed, "val", frames=8, tasks=0) for seed in (0, 1)]
    images = [sample.rgb for sample in samples]
    output = model.reconstruct(torch.stack([to_tensor(list(window), model.device) for window in images]))
    before = output.camera_from_world.clone()
    adjusted = adjust_cameras(output, images)
    torch.testing.assert_close(output.camera_from_world, before, rtol=0, atol=0)
    for index, sample in enumerate(samples):
        truth = np.linalg.inv(sample.T_world_camera)
        errors = [
            relative_pose_errors(cameras[index].double().numpy(), truth).rotation.mean()
            for cameras in (before, adjusted.camera_from_world)
        ]
        assert errors[1] < 0.7 * errors[0], errors
        # By itself the second window comes out as in the batch, up to the order of the network's sums.
        alone = adjust_cameras(model.reconstruct(to_tensor(list(sample.rgb), model.device)[None]), [sample.rgb])
        torch.testing.assert_close(adjusted.camera_from_world[index], alone.camera_from_world[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(adjusted.depth[index], alone.depth[0], rtol=1e-3, atol=1e-3)
