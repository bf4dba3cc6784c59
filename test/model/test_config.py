"""The typed configuration: what survives JSON, and what is refused with a sentence."""

import json
from dataclasses import replace

import pytest
from miniature import config, full_config

from vidllm_ros.model import ConfigError, VidLLMConfig
from vidllm_ros.model.config import (
    AdapterConfig,
    BackboneConfig,
    EncoderConfig,
    MetricDepthConfig,
    ScaleConfig,
)
from vidllm_ros.model.sizes import SIZES, large


@pytest.mark.parametrize("make", [VidLLMConfig, config, full_config, *SIZES.values()])
def test_json_keeps_everything(make):
    original = make()
    assert VidLLMConfig.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_missing_keys_take_their_defaults():
    assert VidLLMConfig.from_dict({"encoder": {"registers": 3}}).encoder == EncoderConfig(registers=3)


def test_sizes_know_their_names():
    assert {name: make().name for name, make in SIZES.items()} == {name: name for name in SIZES}


def test_large_is_the_papers_network():
    defaults = VidLLMConfig()
    assert replace(large(), patches=None, language=None, grounding=None) == defaults
    assert_paper(defaults)


def assert_paper(large: VidLLMConfig) -> None:
    assert (large.encoder.dim, large.encoder.layers, large.encoder.patch_size) == (1024, 24, 14)
    assert (large.encoder.registers, large.encoder.position_grid, large.encoder.layer_scale) == (4, 37, 1.0)
    assert (large.backbone.pairs, large.backbone.registers, large.backbone.rope_base) == (24, 4, 100.0)
    assert large.backbone.head_layers == (4, 11, 17, 23)
    assert (large.adapter.variant, large.adapter.bridge_tokens, large.adapter.expansion) == ("bridge", 16, 4)
    assert (large.camera_head.blocks, large.camera_head.iterations) == (4, 4)
    assert large.depth_head.channels == (256, 512, 1024, 1024) and large.depth_head.frames_chunk == 8
    assert large.metric_depth.normalization == "log_binomial" and large.scale.frames == 16
    assert min(large.image_size) == 518 and large.window_size == 32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "unknown configuration key 'colour'; known keys are adapter, backbone"),
        ({"encoder": {"width": 1}}, "unknown configuration key 'encoder.width'; known keys are dim, feature_layers"),
        ({"encoder": 3}, "configuration key 'encoder' must hold a mapping, not 3"),
        ({"image_size": 518}, "configuration key 'image_size' must be a list, not 518"),
        ({"encoder": {"feature_layers": 5}}, "configuration key 'encoder.feature_layers' must be a list, not 5"),
    ],
)
def test_unusable_mappings(values, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        VidLLMConfig.from_dict(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EncoderConfig(layers=6, feature_layers=(1, 3)), r"feature_layers \(1, 3\) .* the last layer 5"),
        (lambda: EncoderConfig(layers=2, feature_layers=()), r"feature_layers \(\) must ascend"),
        (lambda: EncoderConfig(layers=2, feature_layers=(1, 1)), r"feature_layers \(1, 1\) must ascend"),
        (lambda: AdapterConfig(variant="bridges"), "variant 'bridges' is not one of bridge, cross, concat, none"),
        (lambda: AdapterConfig(bridge_tokens=0), "bridge_tokens 0 must be at least 1"),
        (lambda: BackboneConfig(pairs=4, head_layers=(0, 1, 2, 4)), r"head_layers .* ending with 3"),
        (lambda: BackboneConfig(pairs=4, head_layers=(2, 1, 2, 3)), "head_layers .* ascending"),
        (lambda: MetricDepthConfig(normalization="soft"), "normalization 'soft' is not one of log_binomial, softmax"),
        (lambda: MetricDepthConfig(bins=1), "bins 1 must be at least 2"),
        (lambda: MetricDepthConfig(min_depth=5, max_depth=5), "range 5 to 5 m must be positive and ascending"),
        (lambda: MetricDepthConfig(min_depth=0), "range 0 to 10.0 m must be positive and ascending"),
        (lambda: ScaleConfig(weighting="equal"), "weighting 'equal' is not one of relative, absolute"),
        (lambda: ScaleConfig(frames=-1), "frames -1 must not be negative"),
        (lambda: config(image_size=(28, 43)), r"image_size \(28, 43\) must be positive multiples of the patch size 14"),
        (lambda: config(image_size=(0, 14)), r"image_size \(0, 14\) must be positive multiples"),
        (lambda: config(encoder=replace(config().encoder, heads=0)), "encoder.heads is 0; .* at least 1"),
        (lambda: config(encoder=replace(config().encoder, registers=-1)), "encoder.registers is -1; .* at least 0"),
        (lambda: config(backbone=replace(config().backbone, heads=2.5)), "backbone.heads is 2.5; .* whole number"),
        (lambda: config(depth_head=replace(config().depth_head, frames_chunk=True)), "frames_chunk is True; .* whole"),
        (lambda: config(encoder=replace(config().encoder, heads=5)), "encoder.dim is 32; .* encoder.heads, 5"),
        (lambda: replace(full_config(), grounding=None), "come together: configure all three or none"),
    ],
)
def test_values_that_cannot_work(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_parts_that_are_left_out_stay_out():
    values = config().to_dict()
    assert values["language"] is None
    assert VidLLMConfig.from_dict(values).language is None
