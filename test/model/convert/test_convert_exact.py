"""A converted network computes what VGGT computes; each test names its point of the list of silent mistakes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from float64_layers import inside
from safetensors.torch import save_file
from vggt_layout import Sizes, encoder_shapes, miniature_vggt, random_tensors
from vggt_reference import aggregator, camera_encodings, depth_and_confidence, encoder, vggt

from vidllm_ros.model import VidLLM, VidLLMConfig
from vidllm_ros.model.convert.conversion import Request, convert
from vidllm_ros.model.convert.shapes import Heads
from vidllm_ros.model.reconstruction.pose_encoding import decode_pose
from vidllm_ros.model.sizes import large

S = Sizes()
SIZES = [(28, 42), (56, 56), (70, 28), (14, 98), (84, 56)]


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return miniature_vggt()


@pytest.fixture(scope="module")
def model(tensors, tmp_path_factory) -> VidLLM:
    return converted(tensors, tmp_path_factory.mktemp("vggt"))


def converted(tensors, folder) -> VidLLM:
    save_file(tensors, folder / "model.safetensors")
    return convert(Request(base=large(), vggt=folder / "model.safetensors", heads=Heads(encoder=S.encoder_heads))).model


def doubles(tensors) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


@cache
def frames(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def relative(got: torch.Tensor, expected: np.ndarray) -> float:
    """The largest error in units of the expected value, or of its ordinary size where it is smaller."""
    unit = np.maximum(np.abs(expected), np.abs(expected).mean())
    return float((np.abs(got.double().numpy() - expected) / unit).max())


def assert_same(out, expected) -> None:
    encodings, depth, confidence = expected
    assert len(out.pose_encodings) == len(encodings) == 4
    for got, wanted in zip(out.pose_encodings, encodings, strict=True):
        assert relative(got[0], wanted) < 1e-4
    assert relative(out.relative_depth[0], depth) < 1e-4
    assert relative(out.confidence[0], confidence) < 1e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_every_refinement_depth_and_confidence_at_several_sizes(model, tensors, size, count):
    images = frames(count, *size)
    assert_same(model.reconstruct(images[None]), vggt(doubles(tensors), images.double().numpy(), S))


@pytest.mark.parametrize("count", [2, 4, 5, 6, 7, 8])
def test_every_refinement_depth_and_confidence_for_several_window_lengths(model, tensors, count):
    images = frames(count, 28, 42)
    assert_same(model.reconstruct(images[None]), vggt(doubles(tensors), images.double().numpy(), S))


def test_more_frames_than_the_heads_take_at_once(model, tensors):
    assert model.config.depth_head.frames_chunk == 8
    images = frames(9, 28, 28)
    assert_same(model.reconstruct(images[None]), vggt(doubles(tensors), images.double().numpy(), S))


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(
            dim=48, encoder_layers=5, encoder_heads=4, encoder_registers=4, grid=3, pairs=4, registers=4, head_dim=12
        ),
        Sizes(dim=24, encoder_layers=1, encoder_heads=3, pairs=1, registers=1, mlp_ratio=3, camera_blocks=1),
        Sizes(dim=64, encoder_heads=1, head_dim=16, pairs=7, features=16, channels=(4, 8, 8, 16), head_features=3),
        Sizes(patch=16, grid=2),
    ],
)
def test_any_width_and_depth(sizes, tmp_path):
    tensors = miniature_vggt(sizes, seed=1)
    save_file(tensors, tmp_path / "model.safetensors")
    request = Request(base=large(), vggt=tmp_path, heads=Heads(encoder=sizes.encoder_heads))
    if sizes.patch != 14:
        request = Request(base=_with_patches_of(sizes.patch), vggt=tmp_path, heads=request.heads)
    model = convert(request).model
    images = frames(3, 2 * sizes.patch, 3 * sizes.patch)
    assert_same(model.reconstruct(images[None]), vggt(doubles(tensors), images.double().numpy(), sizes))


def _with_patches_of(pixels: int) -> VidLLMConfig:
    base = large()
    size = (32 * pixels, 42 * pixels)
    return replace(base, image_size=size, encoder=replace(base.encoder, patch_size=pixels))


# 1: LayerNorm epsilons. Weights that make a norm's input tiny tell one epsilon from another.


def test_1_the_encoder_divides_by_one_millionth(tensors, tmp_path):
    small = dict(tensors)
    for name in tensors:
        if name.startswith("aggregator.patch_embed.") and ".blocks." not in name and ".norm." not in name:
            small[name] = 2e-3 * tensors[name]
    images = frames(1, 28, 42)
    got = converted(small, tmp_path).encode(images)[0, -1]
    w = inside(doubles(small), "aggregator.patch_embed")
    assert relative(got, encoder(w, images.double().numpy(), S)[0]) < 1e-3
    assert relative(got, encoder(w, images.double().numpy(), S, eps=1e-5)[0]) > 1e-2


def test_1_the_backbone_divides_by_one_hundred_thousandth(tensors, tmp_path):
    small = dict(tensors)
    for name in ("camera_token", "register_token", "patch_embed.norm.weight", "patch_embed.norm.bias"):
        small[f"aggregator.{name}"] = 2e-3 * tensors[f"aggregator.{name}"]
    model, images = converted(small, tmp_path), frames(2, 28, 42)
    w = inside(doubles(small), "aggregator")
    tokens = encoder(inside(w, "patch_embed"), images.double().numpy(), S)
    got = model.reconstruct(images[None]).geometry_tokens[0]
    right, wrong = (aggregator(w, tokens, (2, 3), S, eps)[-1][:, 1 + S.registers :] for eps in (1e-5, 1e-6))
    assert relative(got, right) < 1e-4 < 1e-2 < relative(got, wrong)


@torch.no_grad()
def test_1_the_camera_head_has_two_epsilons(model, tensors):
    tokens = 1e-2 * torch.randn(3, 2 * S.dim, generator=torch.Generator().manual_seed(0))
    w = inside(doubles(tensors), "camera_head")
    got = model.reconstruction.camera_head(tokens[None])[-1][0]
    assert relative(got, camera_encodings(w, tokens.double().numpy(), S)[-1]) < 1e-4
    assert relative(got, camera_encodings(w, tokens.double().numpy(), S, eps=1e-6)[-1]) > 1e-3
    # The norm without weights comes after another one: its epsilon shows where that one's gain is small.
    w["token_norm.weight"], w["token_norm.bias"] = 1e-2 * w["token_norm.weight"], 0 * w["token_norm.bias"]
    head = model.reconstruction.camera_head
    kept = {name: value.clone() for name, value in head.token_norm.state_dict().items()}
    head.token_norm.load_state_dict({"weight": 1e-2 * kept["weight"], "bias": 0 * kept["bias"]})
    got = head(tokens[None])[-1][0]
    head.token_norm.load_state_dict(kept)
    assert relative(got, camera_encodings(w, tokens.double().numpy(), S)[-1]) < 1e-4
    assert relative(got, camera_encodings(w, tokens.double().numpy(), S, adaptive_eps=1e-5)[-1]) > 1e-3


@torch.no_grad()
def test_1_the_depth_head_divides_by_one_hundred_thousandth(model, tensors):
    generator = torch.Generator().manual_seed(0)
    layers = list(2e-3 * torch.randn(4, 2, 6, 2 * S.dim, generator=generator))
    w, arrays = inside(doubles(tensors), "depth_head"), [layer.double().numpy() for layer in layers]
    depth, _ = model.reconstruction.depth_head([layer[None] for layer in layers], (2, 3), (28, 42))
    right, wrong = (depth_and_confidence(w, arrays, (28, 42), S, eps)[0] for eps in (1e-5, 1e-6))
    assert relative(depth[0], right) < 1e-4 < 1e-3 < relative(depth[0], wrong)


# 2: query and key norm in the alternating blocks and nowhere else.


def test_2_queries_and_keys_are_normalised_in_the_backbone_only(model):
    normed = {
        name.split(".")[0] for name in model.reconstruction.state_dict() if ".q_norm." in name or ".k_norm." in name
    }
    assert normed == {"backbone"}
    kinds = {name.split(".")[1] for name in model.reconstruction.state_dict() if "q_norm" in name}
    assert kinds == {"frame_blocks", "global_blocks"}


# 3: rotary positions. Transposing the image's grid must not transpose the result; test_rope has base and order.


def test_3_rows_and_columns_are_told_apart(model, tensors):
    images = frames(2, 28, 70)
    right = vggt(doubles(tensors), images.double().numpy(), S)
    turned = model.reconstruct(images.transpose(2, 3)[None])
    assert relative(turned.pose_encoding[0], right[0][-1]) > 1e-2
    assert_same(model.reconstruct(images[None]), right)


# 4: the first frame is the world.


def test_4_the_first_frame_alone_has_tokens_of_its_own(model, tensors):
    images = frames(4, 28, 42)
    w = doubles(tensors)
    for order in ([1, 0, 2, 3], [0, 3, 1, 2]):
        out = model.reconstruct(images[None, order])
        assert_same(out, vggt(w, images[order].double().numpy(), S))
        moved = relative(out.pose_encoding[0], model.reconstruct(images[None]).pose_encoding[0, order].numpy())
        assert (moved < 1e-3) == (order[0] == 0)


# 5: the encoder's output.


def test_5_the_backbone_reads_final_normed_patch_tokens(model, tensors):
    images = frames(2, 28, 42)
    w = inside(doubles(tensors), "aggregator.patch_embed")
    expected = encoder(w, images.double().numpy(), S)
    assert relative(model.encode(images)[:, -1], expected) < 1e-4
    assert expected.shape == (2, 6, S.dim)  # neither the class token nor the registers


# 6: the adapter at its start.


def test_6_the_adapter_changes_nothing_yet_and_can_learn(model):
    adapter, tokens = model.reconstruction.adapter, torch.randn(1, 3, 6, S.dim)
    geometry, semantic = adapter(tokens)
    assert torch.equal(geometry, tokens) and torch.equal(semantic, tokens)
    assert model.config.adapter.variant == "bridge" and model.config.adapter.bridge_tokens == 16
    (geometry * torch.randn_like(tokens)).sum().backward()
    assert adapter.phi_geom.mlp.fc2.weight.grad.any() and adapter.exchange.read_geometry.proj.weight.grad.any()


# 7: position embedding at other sizes.


@pytest.mark.parametrize("size", [(14, 14), (42, 42), (56, 56), (56, 70), (112, 28)])
def test_7_positions_are_interpolated_without_offset_and_against_aliasing(model, tensors, size):
    images = frames(1, *size)
    w = inside(doubles(tensors), "aggregator.patch_embed")
    assert relative(model.encode(images)[:, -1], encoder(w, images.double().numpy(), S)) < 1e-4


# 8: precision of the heads.


def test_8_heads_stay_in_float32_and_do_not_overflow(tensors, tmp_path):
    large_depths = tensors | {"depth_head.scratch.output_conv2.2.bias": torch.tensor([14.0, 12.0])}
    converted(large_depths, tmp_path).save_pretrained(tmp_path / "half", dtype="float16")
    out = VidLLM.from_pretrained(tmp_path / "half", dtype="float16").reconstruct(frames(2, 28, 42)[None])
    assert out.relative_depth.dtype == out.pose_encoding.dtype == torch.float32
    assert out.relative_depth.isfinite().all() and out.relative_depth.max() > 65504


# 9 and 10: what the nine numbers mean. test_pose_encoding compares with scipy.


def test_9_and_10_the_encoding_is_decoded_as_vggt_means_it(model, tensors):
    size = (28, 42)
    expected = vggt(doubles(tensors), frames(3, *size).double().numpy(), S)[0][-1]
    out = model.reconstruct(frames(3, *size)[None])
    for frame, (tx, ty, tz, x, y, z, w, vertical, horizontal) in enumerate(expected):
        n = x * x + y * y + z * z + w * w
        rotation = np.eye(3) + 2 / n * (
            np.array([[-y * y - z * z, x * y, x * z], [x * y, -x * x - z * z, y * z], [x * z, y * z, -x * x - y * y]])
            + w * np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        )
        pose = out.camera_from_world[0, frame].double().numpy()
        np.testing.assert_allclose(pose[:, :3], rotation, atol=1e-4)
        np.testing.assert_allclose(pose[:, 3], out.scale.item() * np.array([tx, ty, tz]), rtol=1e-3, atol=1e-4)
        k = out.intrinsics[0, frame].double().numpy()
        assert (k[0, 2], k[1, 2]) == (21, 14)
        for focal, half, angle in ((k[1, 1], 14, vertical), (k[0, 0], 21, horizontal)):
            if 0.02 < angle < 3.1:
                assert focal == pytest.approx(half / np.tan(angle / 2), rel=1e-3)


# 11: one factor.


def test_11_depth_and_translation_share_one_factor_and_confidence_has_none(model, tensors):
    images = frames(3, 28, 42)
    encodings, depth, confidence = vggt(doubles(tensors), images.double().numpy(), S)
    out = model.reconstruct(images[None])
    scale = out.scale.item()
    assert scale != pytest.approx(1, abs=1e-3)
    assert relative(out.depth[0], scale * depth) < 2e-4
    pose, _ = decode_pose(out.pose_encoding, (28, 42))
    torch.testing.assert_close(out.camera_from_world[..., 3], scale * pose[..., 3])
    assert torch.equal(out.camera_from_world[..., :3], pose[..., :3])
    assert relative(out.confidence[0], confidence) < 1e-4
    assert relative(out.pose_encoding[0], encodings[-1]) < 1e-4


# 12 is hygiene of the losses: test_language and the tests of training.


# DINOv2 alone.


def test_a_plain_dinov2_is_the_encoder(tmp_path):
    tensors = random_tensors(encoder_shapes(S), seed=3)
    torch.save(tensors, tmp_path / "dinov2.pth")
    images, base = frames(2, 42, 28), large()
    # Four pairs and a narrow head instead of the paper's: only to keep this quick.
    shallow = replace(base, backbone=replace(base.backbone, pairs=4, heads=4, head_layers=(0, 1, 2, 3)))
    shallow = replace(shallow, depth_head=replace(base.depth_head, features=8, channels=(8, 8, 8, 8)))
    heads = Heads(encoder=S.encoder_heads)
    model = convert(Request(base=shallow, dinov2=tmp_path / "dinov2.pth", heads=heads)).model
    assert relative(model.encode(images)[:, -1], encoder(doubles(tensors), images.double().numpy(), S)) < 1e-4
