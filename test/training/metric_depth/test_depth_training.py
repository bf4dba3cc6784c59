"""The training of the convolutional depth model, on miniatures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig, ConvDepthModel, ConvEncoder
from vidllm_ros.training.metric_depth.batches import Mixture
from vidllm_ros.training.metric_depth.files import load_model, save_model
from vidllm_ros.training.metric_depth.frame_cache import Frames, write_shard
from vidllm_ros.training.metric_depth.imagenet_weights import load_imagenet, parameter_names
from vidllm_ros.training.metric_depth.train import TrainConfig, Trainer, begin_with, parameter_groups

SIZE = (28, 42)
CONFIG = ConvDepthConfig(image_size=SIZE, features=8, fine_features=8)


def bright_is_near(count: int, seed: int) -> Frames:
    """Frames whose depth can be read off their brightness."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 4, (count, 2, 3)).repeat(28, 1).repeat(28, 2)
    rgb = np.repeat((255 / depth)[..., None], 3, 3).astype(np.uint8)
    return Frames(rgb, depth.astype(np.float16), np.full(count, 0.8, np.float32))


@pytest.fixture
def mixture(tmp_path) -> Mixture:
    write_shard(tmp_path / "rooms", 0, bright_is_near(16, 0))
    real = {"one": bright_is_near(4, 1), "other": bright_is_near(9, 2)}
    return Mixture({tmp_path / "rooms": 1.0}, real, 0.5, SIZE, (14, 21))


def trainer(mixture: Mixture, folder, minutes: float) -> Trainer:
    torch.manual_seed(0)
    config = TrainConfig(minutes=minutes, batch=4, warmup=2)
    return Trainer(ConvDepthModel(CONFIG), mixture, config, folder, {"held out": bright_is_near(3, 5)})


def test_batches_mix_sources_and_repeat_themselves(mixture):
    batch, again = (mixture.draw(8, np.random.default_rng(3)) for _ in range(2))
    assert batch.images.shape == (8, 3, *SIZE) and batch.depth.shape == (8, 14, 21) and batch.focal.shape == (8,)
    assert torch.equal(batch.images, again.images) and torch.equal(batch.depth, again.depth)
    assert batch.images.min() >= 0 and batch.images.max() <= 1 and (batch.focal >= 0.79).all()
    assert mixture.counts() == {"rooms": 16, "one": 4, "other": 9}


def test_missing_sources_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        Mixture({tmp_path / "empty": 1.0}, {}, 0.0, SIZE, (14, 21))
    with pytest.raises(ValueError, match="no real frames"):
        Mixture({}, {}, 0.5, SIZE, (14, 21))


def test_a_run_stops_at_its_time_and_goes_on_where_it_was(mixture, tmp_path):
    first = trainer(mixture, tmp_path / "run", 0.02)
    first.run()
    assert first.step > 0 and first.seconds >= 1.2
    # A step may have taken longer than the run had.
    second = trainer(mixture, tmp_path / "run", first.seconds / 60 + 0.02)
    assert second.resume() and second.step == first.step
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, first.model.state_dict()[name])
    second.run()
    assert second.step > first.step
    header, *rows = (tmp_path / "run" / "scores.csv").read_text().splitlines()
    assert header == "minutes,step,frames,absrel,delta1,fitted,scale" and len(rows) == 2
    assert not trainer(mixture, tmp_path / "other", 0.02).resume()


def test_a_stored_model_measures_as_it_did(tmp_path):
    torch.manual_seed(0)
    model = ConvDepthModel(CONFIG).eval()
    save_model(model, tmp_path)
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path).measure(images), model.measure(images), rtol=0.02, atol=0.02)


def test_every_parameter_learns_at_the_rate_of_its_part():
    model, config = ConvDepthModel(CONFIG), TrainConfig(minutes=1)
    groups = parameter_groups(model, config)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    rates = {id(p): (g["peak"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert rates[id(model.encoder.stem[0].weight)] == (config.lr * config.encoder_lr, config.weight_decay)
    assert rates[id(model.output.bias)] == (config.lr, 0.0)


def test_public_weights_find_their_places(tmp_path):
    torch.manual_seed(1)
    source, public = ConvEncoder(), {}
    names = parameter_names(source)
    for ours, theirs in names.items():
        public |= {theirs + k[len(ours) :]: v for k, v in source.state_dict().items() if k.startswith(f"{ours}.")}
    assert len(public) == len(source.state_dict())
    assert {"_conv_stem.weight", "_bn0.running_mean", "_blocks.0._depthwise_conv.weight"} <= set(public)
    assert "_blocks.0._expand_conv.weight" not in public and "_blocks.15._project_conv.weight" in public
    torch.save(public, tmp_path / "public.pth")
    torch.manual_seed(2)
    encoder = ConvEncoder()
    load_imagenet(encoder, tmp_path / "public.pth")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


@torch.no_grad()
def test_a_network_that_is_told_the_focal_length_begins_as_one_that_is_not():
    torch.manual_seed(0)
    untold = ConvDepthModel(replace(CONFIG, told_focal=False)).eval()
    torch.nn.init.normal_(untold.output.weight, std=0.1)
    told = ConvDepthModel(CONFIG).eval()
    begin_with(told, untold)
    images, focal = torch.rand(2, 3, *SIZE), torch.tensor([0.6, torch.nan])
    torch.testing.assert_close(told.measure(images, focal), untold.measure(images, focal))
    with pytest.raises(ValueError, match="another network"):
        begin_with(untold, told)
