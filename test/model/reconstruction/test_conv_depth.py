"""The convolutional Metric Depth Model: canonical camera, frames on their own, and its place in the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from miniature import config, reconstruction_model, vidllm, window

from vidllm_ros.model.config import ConfigError, MetricDepthConfig, ScaleConfig, VidLLMConfig
from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig, ConvDepthModel, SameConv
from vidllm_ros.perception.geometry.features import FeatureCache
from vidllm_ros.perception.geometry.images import image_to_network
from vidllm_ros.perception.types import Frame

SMALL = ConvDepthConfig(image_size=(28, 42), features=8, fine_features=8)
CONVOLUTIONAL = MetricDepthConfig(encoder="convolutional", convolutional=SMALL)


def model(seed: int = 0, **changes) -> ConvDepthModel:
    torch.manual_seed(seed)
    made = ConvDepthModel(replace(SMALL, **changes)).eval()
    torch.nn.init.normal_(made.output.weight, std=0.1)
    if made.lens is not None:
        torch.nn.init.normal_(made.lens[2].weight, std=0.3)
    return made


def frames(count: int = 3, size: tuple[int, int] = SMALL.image_size) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 8), (7, 9), (6, 9)])
def test_same_padding_adds_the_odd_pixel_behind(kernel, stride, size):
    torch.manual_seed(0)
    conv, x = SameConv(2, 3, kernel, stride, bias=False), torch.rand(1, 2, *size)
    pads = []
    for side in (size[1], size[0]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, pads), conv.weight, stride=stride))


def test_the_encoder_has_the_size_of_the_public_one():
    # EfficientNet-Lite0 has 4.65 million parameters; 1280 * (320 + 2) of its last convolution and 1281 * 1000 of its
    # classifier are not ours.
    count = sum(p.numel() for p in ConvDepthModel(ConvDepthConfig()).encoder.parameters())
    assert count == 4_652_008 - 1280 * 322 - 1281 * 1000 == 2_958_848


@torch.no_grad()
@pytest.mark.parametrize("told", [True, False])
def test_depth_goes_with_the_focal_length(told):
    made = model(told_focal=told)
    near, far = (made.measure(frames(), torch.full((3,), focal)) for focal in (0.5, 1.0))
    assert near.shape == (3, *SMALL.image_size)
    # A network that is told the focal length may bend the rule.
    assert torch.allclose(2 * near, far, rtol=1e-5) is not told


@torch.no_grad()
def test_a_new_network_that_is_told_the_focal_length_ignores_it_at_first():
    torch.manual_seed(0)
    made = ConvDepthModel(SMALL).eval()
    one, other = (made(frames(), torch.full((3,), focal).log()).log_canonical for focal in (0.5, 1.0))
    torch.testing.assert_close(one, other)


def test_depth_does_not_teach_the_estimate_of_the_focal_length():
    made = model()
    made(frames()).log_canonical.sum().backward()
    assert all(parameter.grad is None for parameter in made.focal.parameters())
    assert made.lens[0].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_an_unknown_camera_takes_the_estimate():
    made, shown = model(), frames()
    estimate = made(shown).log_focal.exp()
    mixed = torch.tensor([torch.nan, 0.7, torch.nan])
    got = made.measure(shown, mixed)
    torch.testing.assert_close(got, made.measure(shown, torch.where(mixed.isnan(), estimate, mixed)))
    torch.testing.assert_close(made.measure(shown), made.measure(shown, estimate))


@torch.no_grad()
def test_a_frame_is_measured_on_its_own_and_at_any_size():
    made, shown = model(), frames()
    torch.testing.assert_close(made.measure(shown)[1:2], made.measure(shown[1:2]), rtol=1e-4, atol=1e-5)
    large = F.interpolate(shown, (56, 84), mode="nearest")
    assert made.measure(large).shape == (3, 56, 84)
    assert made.measure(shown, size=(14, 21)).shape == (3, 14, 21)


def test_depth_stays_within_its_range():
    made = model()
    torch.nn.init.constant_(made.output.bias, 50.0)
    with torch.no_grad():
        assert (made.measure(frames()) == SMALL.max_depth).all()


def test_configurations_say_which_kind():
    whole = config(metric_depth=CONVOLUTIONAL)
    assert VidLLMConfig.from_dict(whole.to_dict()) == whole
    with pytest.raises(ConfigError, match="tokens, convolutional"):
        MetricDepthConfig(encoder="other")


@torch.no_grad()
def test_it_is_the_depth_of_a_frame_without_alignment():
    made = reconstruction_model(metric_depth=CONVOLUTIONAL, scale=ScaleConfig(align=False))
    shown = window(frames=2)
    size = (shown.shape[-2], shown.shape[-1])
    features = made.encode(shown.flatten(0, 1)).unflatten(0, shown.shape[:2])
    focal = torch.tensor([[0.8, torch.nan]])
    out = made(features, size, images=shown, focal=focal)
    assert isinstance(made.metric_depth, ConvDepthModel)
    torch.testing.assert_close(out.depth[0], made.metric_depth.measure(shown[0], focal[0]))
    with pytest.raises(ValueError, match="looks at images"):
        made(features, size)


def test_a_whole_network_with_it_is_saved_and_loaded(tmp_path):
    made = vidllm(metric_depth=replace(CONVOLUTIONAL))
    made.save_pretrained(tmp_path, dtype="float16")
    loaded = type(made).from_pretrained(tmp_path)
    assert loaded.measured_size == SMALL.image_size
    shown = window(frames=2)
    close = {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(loaded.reconstruct(shown).metric_depth, made.reconstruct(shown).metric_depth, **close)


@pytest.mark.parametrize("known", [True, False])
def test_perception_shows_it_the_frame_and_tells_the_focal_length(known):
    made = vidllm(metric_depth=CONVOLUTIONAL)
    rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    K = np.array([[70.0, 0, 40], [0, 70, 30], [0, 0, 1]])
    features = FeatureCache(made, known).get([Frame(rgb, 0, intrinsics=K)])
    measured = made.reconstruction.metric_depth
    assert isinstance(measured, ConvDepthModel)
    focal = (image_to_network((60, 80), SMALL.image_size) @ K)[0, 0] / SMALL.image_size[1] if known else float("nan")
    from vidllm_ros.perception.geometry.images import fit_image, to_tensor

    shown = to_tensor([fit_image(rgb, SMALL.image_size)], made.device)
    with torch.no_grad():
        expected = measured.measure(shown, torch.tensor([focal]).float(), made.config.image_size)
    torch.testing.assert_close(features.metric_depth, expected)
