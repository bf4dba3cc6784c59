"""A trained depth model in a whole network."""

import torch
from miniature import vidllm, window

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig, ConvDepthModel
from vidllm_ros.training.metric_depth.files import load_model, save_model
from vidllm_ros.training.metric_depth.install import REPLACED, install


@torch.no_grad()
def test_all_other_parts_stay_and_depth_is_the_new_one(tmp_path):
    torch.manual_seed(0)
    save_model(ConvDepthModel(ConvDepthConfig(image_size=(28, 42), features=8, fine_features=8)), tmp_path)
    network = vidllm(seed=3)
    made = install(network, tmp_path)
    before, after = network.state_dict(), made.state_dict()
    kept = [name for name in before if not name.startswith(REPLACED)]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    shown = window(frames=2)
    out = made.reconstruct(shown)
    torch.testing.assert_close(out.depth[0], load_model(tmp_path).measure(shown[0]))
    torch.testing.assert_close(out.relative_depth, network.reconstruct(shown).relative_depth)
    assert not torch.equal(install(network, tmp_path, align=True).reconstruct(shown).depth, out.depth)
