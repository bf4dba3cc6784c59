"""Every published name has its place here, and whatever has none stops the conversion."""

import re
from dataclasses import replace

import pytest
import torch
from vggt_layout import VGGT_1B, Sizes, encoder_shapes, published_names, random_tensors, vggt_shapes

from vidllm_ros.model.convert.conversion import GEOMETRY, check
from vidllm_ros.model.convert.names import DINOV2_HUB, DROPPED_PARTS, ENCODER, VGGT, Renamed, dinov2_rules, rename
from vidllm_ros.model.convert.shapes import Heads, implied_config
from vidllm_ros.model.convert.sources import ConversionError
from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.model.sizes import large, small

TRACK = {name: shape for name, shape in published_names().items() if name.startswith("track_head.")}


def empty(shapes) -> dict[str, torch.Tensor]:
    """Tensors that have a shape and nothing else: the whole of VGGT-1B weighs nothing."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def renamed(tensors) -> Renamed:
    return rename(tensors, VGGT, DROPPED_PARTS)


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    return empty(published_names())


@pytest.fixture(scope="module")
def network() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return ReconstructionModel(large()).state_dict()


def test_the_list_is_that_of_vggt_1b(published):
    assert len(published) == 1797
    assert sum(tensor.numel() for tensor in published.values()) == 1_256_537_516
    assert vggt_shapes(VGGT_1B) | TRACK == published_names()


def test_every_published_tensor_is_taken_or_left_out_on_purpose(published, network):
    given = renamed(published)
    dropped = set(given.dropped)
    assert len(given.dropped) == 62 + 394 and {name.split(".")[0] for name in dropped} == {"point_head", "track_head"}
    assert set(given.origin.values()) | dropped == set(published)
    taken = sum(tensor.numel() for name, tensor in published.items() if name not in dropped)
    assert taken == sum(tensor.numel() for tensor in given.tensors.values())
    assert {name: tuple(tensor.shape) for name, tensor in given.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in network.items() if name.startswith(GEOMETRY)
    }
    check(given, network)


def test_what_is_left_to_train_is_the_adapter_and_the_metric_depth(network):
    assert {name.split(".")[0] for name in network if not name.startswith(GEOMETRY)} == {"adapter", "metric_depth"}


def test_the_shapes_of_vggt_1b_imply_the_large_configuration(published):
    config = implied_config(renamed(published).tensors, large(), Heads())
    assert (config.encoder, config.backbone, config.camera_head) == (
        large().encoder, large().backbone, large().camera_head,
    )  # fmt: skip
    assert (config.depth_head, config.metric_depth, config.name) == (
        large().depth_head, large().metric_depth, "large",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "aggregator.frame_blocks.0.attn.qkv.gamma",
        "aggregator.frame_blocks.x.norm1.weight",
        "aggregator.third_blocks.0.norm1.weight",
        "aggregator.patch_embed.blocks.0.mlp.w12.weight",
        "aggregator.patch_embed.blocks.0.0.norm1.weight",
        "aggregator.inter_frame.weight",
        "camera_head.trunk.0.attn.rope",
        "depth_head.scratch.output_conv3.weight",
        "module.aggregator.camera_token",
        "point_heads.norm.weight",
        "_track_head.norm.weight",
        "",
    ],
)
def test_an_unknown_name_stops_the_conversion(name):
    with pytest.raises(ConversionError, match=re.escape(f"the tensor '{name}' of shape (2, 3) is not known")):
        rename({name: torch.zeros(2, 3)}, VGGT, DROPPED_PARTS)


@pytest.mark.parametrize(
    "name",
    ["depth_head.projects.4.weight", "depth_head.scratch.refinenet4.resConfUnit1.conv1.weight",
     "depth_head.resize_layers.2.weight", "depth_head.scratch.layer5_rn.weight", "depth_head.norm.gamma",
     "aggregator.patch_embed.blocks.24.norm1.weight", "camera_head.trunk.0.attn.q_norm.weight"],
)  # fmt: skip
def test_a_name_without_a_place_in_the_network_stops_the_conversion(published, network, name):
    given = renamed(published | {name: torch.zeros(2, 3)})
    with pytest.raises(ConversionError, match=re.escape(f"the network has no place for '{name}', of shape (2, 3)")):
        check(given, network)


@pytest.fixture(scope="module")
def miniature() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A checkpoint and the network it makes."""
    tensors = empty(vggt_shapes(Sizes()))
    with torch.device("meta"):
        config = implied_config(renamed(tensors).tensors, large(), Heads(encoder=2))
        return tensors, ReconstructionModel(config).state_dict()


def test_no_tensor_may_be_missing(miniature):
    tensors, network = miniature
    for name in tensors:
        rest = renamed({other: tensor for other, tensor in tensors.items() if other != name})
        if name.startswith("point_head."):
            check(rest, network)
        else:
            with pytest.raises(ConversionError, match="the weights lack [1-3] tensors, first"):
                check(rest, network)


def test_no_tensor_may_have_another_shape(miniature):
    tensors, network = miniature
    for name, tensor in tensors.items():
        changed = renamed(tensors | {name: torch.cat([tensor, tensor])})
        if name.startswith("point_head."):
            check(changed, network)
        else:
            with pytest.raises(ConversionError, match=f"'{re.escape(name)}' makes '.*' of shape .* makes it"):
                check(changed, network)


def test_two_tensors_for_one_place():
    tensors = {"cls_token": torch.zeros(1, 1, 4), "dinov2_with_registers.embeddings.cls_token": torch.zeros(1, 1, 4)}
    with pytest.raises(ConversionError, match="is not known"):
        rename(tensors, dinov2_rules(tensors))
    twice = {"embeddings.cls_token": torch.zeros(4), "dinov2_with_registers.embeddings.cls_token": torch.zeros(4)}
    with pytest.raises(ConversionError, match="are two tensors for one place"):
        rename(twice, dinov2_rules(twice))


def test_queries_keys_and_values_are_equal_parts():
    with pytest.raises(ConversionError, match=r"has shape \(4, 2\); it must be 3 equal parts"):
        rename({"blocks.0.attn.qkv.weight": torch.zeros(4, 2)}, DINOV2_HUB)
    parts = rename({"blocks.1.attn.qkv.bias": torch.arange(6.0)}, DINOV2_HUB).tensors
    layer = f"{ENCODER}encoder.layer.1.attention"
    values = {name: tensor.tolist() for name, tensor in parts.items()}
    assert values == {f"{layer}.q_proj.bias": [0, 1], f"{layer}.k_proj.bias": [2, 3], f"{layer}.v_proj.bias": [4, 5]}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("register_tokens", None, "no register tokens: take a DINOv2 model with registers"),
        ("pos_embed", (1, 18, 32), "17 patch positions .* must make a square"),
        ("blocks.0.mlp.fc1.weight", (70, 32), "MLPs of 70 for 32 channels"),
        ("cls_token", (1, 1, 0), r"has the unusable shape \(1, 1, 0\)"),
        ("cls_token", (1, 1, 32), "32 channels, no multiple of the 64 per head .* --encoder-heads"),
    ],
)
def test_encoders_that_cannot_be_represented(name, shape, message):
    tensors = random_tensors(encoder_shapes(Sizes()))
    del tensors[name]
    if shape is not None:
        tensors[name] = torch.zeros(shape)
    with pytest.raises(ConversionError, match=message):
        implied_config(rename(tensors, DINOV2_HUB).tensors, large(), Heads())


def test_the_number_of_heads_follows_the_family():
    tensors = renamed(empty(vggt_shapes(Sizes(dim=128, encoder_heads=2, head_dim=32)))).tensors
    config = implied_config(tensors, large(), Heads())
    assert (config.encoder.heads, config.backbone.heads, config.camera_head.heads) == (2, 4, 4)
    assert config.name == "converted"
    config = implied_config(tensors, large(), Heads(encoder=8, camera=16))
    assert (config.encoder.heads, config.backbone.heads, config.camera_head.heads) == (8, 4, 16)


@pytest.mark.parametrize(
    ("make", "published_encoder"),
    [
        (small, Sizes(dim=384, encoder_layers=12, encoder_registers=4, grid=37, mlp_ratio=4)),  # dinov2_vits14_reg
        (large, VGGT_1B),  # dinov2_vitl14_reg
    ],
)
def test_dinov2_with_registers_is_the_encoder_of_its_size(make, published_encoder):
    tensors = rename(empty(encoder_shapes(published_encoder)), DINOV2_HUB)
    config = implied_config(tensors.tensors, make(), Heads())
    assert config == replace(make(), patches=None, language=None, grounding=None)
    with torch.device("meta"):
        check(tensors, ReconstructionModel(config).state_dict())
