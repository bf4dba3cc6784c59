"""The reconstruction branch as a whole: real scale, cached frames, order of frames, precision."""

import pytest
import torch
from miniature import GRID, IMAGE_SIZE, config, reconstruction_model, window

from vidllm_ros.model.config import AdapterConfig, MetricDepthConfig, ScaleConfig
from vidllm_ros.model.outputs import GeometryOutput
from vidllm_ros.model.reconstruction.branch import ReconstructionModel
from vidllm_ros.model.reconstruction.pose_encoding import decode_pose

PER_FRAME = (
    "pose_encoding", "camera_from_world", "intrinsics", "relative_depth", "confidence", "metric_depth", "depth",
    "semantic_tokens", "geometry_tokens",
)  # fmt: skip


def encoded(model: ReconstructionModel, images: torch.Tensor) -> torch.Tensor:
    return model.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])


def reconstruct(model: ReconstructionModel, images: torch.Tensor) -> GeometryOutput:
    return model(encoded(model, images), (images.shape[-2], images.shape[-1]))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_shapes():
    out = reconstruct(reconstruction_model(), window(frames=5, batch=2))
    b, s, n = 2, 5, GRID[0] * GRID[1]
    image = (b, s, *IMAGE_SIZE)
    assert out.pose_encoding.shape == (b, s, 9) and len(out.pose_encodings) == 3
    assert torch.equal(out.pose_encodings[-1], out.pose_encoding)
    assert out.camera_from_world.shape == (b, s, 3, 4) and out.intrinsics.shape == (b, s, 3, 3)
    for depth in (out.relative_depth, out.confidence, out.metric_depth, out.depth):
        assert depth.shape == image and depth.isfinite().all() and (depth > 0).all()
    assert (out.confidence >= 1).all()
    assert out.scale.shape == out.scale_spread.shape == (b,)
    assert out.semantic_tokens.shape == (b, s, n, 32) and out.geometry_tokens.shape == (b, s, n, 64)
    assert out.patch_size == 14


@torch.no_grad()
@pytest.mark.parametrize("size", [(14, 14), (42, 28), (56, 84)])
def test_any_size_of_whole_patches_works(size):
    out = reconstruct(reconstruction_model(), window(frames=2, image_size=size))
    assert out.depth.shape == (1, 2, *size)
    assert out.intrinsics[0, 0, :2, 2].tolist() == [size[1] / 2, size[0] / 2]


@torch.no_grad()
def test_one_factor_scales_depth_and_translation_and_nothing_else():
    model, raw = reconstruction_model(), {}
    model.camera_head.register_forward_hook(lambda *call: raw.update(encoding=call[2][-1]))
    model.depth_head.register_forward_hook(lambda *call: raw.update(depth=call[2][0], confidence=call[2][1]))
    out = reconstruct(model, window(batch=2))
    assert (out.scale - 1).abs().min() > 1e-3 and out.scale[0] != out.scale[1]
    pose, intrinsics = decode_pose(raw["encoding"], IMAGE_SIZE)
    factor = out.scale[:, None, None]
    torch.testing.assert_close(out.depth, raw["depth"] * factor[..., None])
    torch.testing.assert_close(out.camera_from_world[..., 3], pose[..., 3] * factor)
    assert torch.equal(out.camera_from_world[..., :3], pose[..., :3])
    assert torch.equal(out.intrinsics, intrinsics)
    assert torch.equal(out.confidence, raw["confidence"])
    assert torch.equal(out.relative_depth, raw["depth"])
    assert torch.equal(out.pose_encoding, raw["encoding"])


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1])
def test_the_scale_repeats_itself_under_its_seed(seed):
    model = reconstruction_model(scale=ScaleConfig(frames=2, seed=seed))
    first = reconstruct(model, window(frames=6)).scale
    torch.manual_seed(99)
    assert torch.equal(reconstruct(model, window(frames=6)).scale, first)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_windows_shorter_than_the_draw(frames):
    out = reconstruct(reconstruction_model(), window(frames=frames))
    assert out.depth.shape[1] == frames and out.scale.isfinite().all() and out.scale_spread.isfinite().all()


@torch.no_grad()
def test_without_alignment_the_metric_depth_is_the_depth():
    model = reconstruction_model(scale=ScaleConfig(align=False))
    out, aligned = (reconstruct(m, window()) for m in (model, reconstruction_model()))
    assert torch.equal(out.depth, out.metric_depth)
    torch.testing.assert_close(out.camera_from_world, aligned.camera_from_world)


@torch.no_grad()
def test_without_metric_depth_the_scale_is_one():
    model = reconstruction_model(metric_depth=MetricDepthConfig(enabled=False))
    assert model.metric_depth is None
    out = reconstruct(model, window())
    torch.testing.assert_close(out.scale, torch.ones(1))
    torch.testing.assert_close(out.depth, out.relative_depth)


@torch.no_grad()
def test_frames_encoded_one_by_one_give_the_window():
    model, images = reconstruction_model(), window(frames=6)
    cached = torch.cat([model.encode(frame[None]) for frame in images[0]])[None]
    close(cached, encoded(model, images))
    from_cache, from_scratch = model(cached, IMAGE_SIZE), reconstruct(model, images)
    for name in (*PER_FRAME, "scale"):
        close(getattr(from_cache, name), getattr(from_scratch, name))


@torch.no_grad()
def test_an_overlapping_window_reuses_the_frames_it_shares():
    model, images = reconstruction_model(), window(frames=6)
    features = encoded(model, images)
    second = model(torch.cat([features[:, 2:4], encoded(model, images[:, 4:])], dim=1), IMAGE_SIZE)
    from_scratch = reconstruct(model, images[:, 2:])
    for name in PER_FRAME:
        close(getattr(second, name), getattr(from_scratch, name))


@torch.no_grad()
def test_frames_after_the_first_may_come_in_any_order():
    model, images, order = reconstruction_model(), window(frames=5, batch=2), [0, 3, 1, 4, 2]
    out, shuffled = reconstruct(model, images), reconstruct(model, images[:, order])
    for name in PER_FRAME:
        close(getattr(shuffled, name), getattr(out, name)[:, order])
    close(shuffled.scale, out.scale)
    close(shuffled.scale_spread, out.scale_spread)


@torch.no_grad()
def test_another_first_frame_changes_the_result():
    model, images = reconstruction_model(), window(frames=3)
    out, swapped = reconstruct(model, images), reconstruct(model, images[:, [1, 0, 2]])
    assert (swapped.pose_encoding - out.pose_encoding[:, [1, 0, 2]]).abs().max() > 1e-3


@torch.no_grad()
def test_windows_of_a_batch_do_not_mix():
    model, images = reconstruction_model(), window(batch=3)
    together, alone = reconstruct(model, images), reconstruct(model, images[1:2])
    for name in (*PER_FRAME, "scale"):
        close(getattr(together, name)[1:2], getattr(alone, name))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_and_geometry_are_float32_under_autocast(dtype):
    model = reconstruction_model()
    exact = reconstruct(model, window())
    with torch.autocast("cpu", dtype=dtype):
        out = reconstruct(model, window())
    for name in set(PER_FRAME) - {"semantic_tokens"}:
        value = getattr(out, name)
        assert value.dtype == torch.float32 and value.isfinite().all(), name
    assert ((out.depth - exact.depth).abs() / exact.depth).mean() < 0.2


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_leave_the_heads_exact(dtype):
    model, before = reconstruction_model(), reconstruction_model().state_dict()
    model.set_precision(dtype)
    for part in (model.encoder.dinov2, model.adapter, model.backbone):
        assert {parameter.dtype for parameter in part.parameters()} == {dtype}
    for name, tensor in model.state_dict().items():
        if "_head." in name or "metric_depth." in name:
            assert torch.equal(tensor, before[name]), name
    assert model.encoder.mean.dtype == model.metric_depth.centres.dtype == torch.float32
    out, exact = reconstruct(model, window()), reconstruct(reconstruction_model(), window())
    assert out.depth.dtype == out.pose_encoding.dtype == torch.float32
    assert ((out.depth - exact.depth).abs() / exact.depth).mean() < 0.2
    model.set_precision(None)
    assert model.backbone.camera_token.dtype == dtype


@torch.no_grad()
def test_large_logits_do_not_overflow_under_half_precision():
    model = reconstruction_model()
    model.depth_head.conv3.bias.copy_(torch.tensor([15.0, 12.0]))  # exp(15) is far beyond half precision
    model.set_precision(torch.float16)
    out = reconstruct(model, window())
    assert out.relative_depth.isfinite().all() and out.relative_depth.max() > 65504
    assert out.confidence.isfinite().all() and out.scale.isfinite().all()


@pytest.mark.parametrize("variant", ["bridge", "cross", "concat", "none"])
def test_gradients_are_finite_and_reach_every_weight(variant):
    model = reconstruction_model(adapter=AdapterConfig(variant=variant, bridge_tokens=4, heads=2, expansion=2))
    out = reconstruct(model, window(frames=3))
    loss = out.pose_encodings[0].square().sum() + out.pose_encoding.square().sum() + out.semantic_tokens.square().sum()
    for depth in (out.relative_depth, out.confidence, out.metric_depth):
        loss = loss + (depth.log() * torch.linspace(-1, 1, depth.numel()).view(depth.shape)).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("shape", [(4, 3, 6, 32), (1, 4, 3, 7, 32)])
def test_features_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"do not fit \[B, S, L, N, C\] with N = 2 \* 3 patches of a 28 x 42 image"):
        reconstruction_model()(torch.zeros(shape), IMAGE_SIZE)


def test_an_adapter_at_its_start_changes_nothing():
    torch.manual_seed(0)
    model = ReconstructionModel(config()).eval()
    plain = ReconstructionModel(config(adapter=AdapterConfig(variant="none"))).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("adapter.")})
    with torch.no_grad():
        out, without = reconstruct(model, window()), reconstruct(plain, window())
    for name in PER_FRAME:
        assert torch.equal(getattr(out, name), getattr(without, name)), name
