"""Train the convolutional Metric Depth Model: ``python -m vidllm_ros.training.metric_depth.train --help``.

A killed run goes on with the same command and ``--resume``. ``--out`` gets ``state.pt``, ``log.csv``, ``scores.csv``
(held-out frames) and ``model/``, the averaged weights in float16.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vidllm_ros.model.reconstruction.conv_depth import ConvDepthConfig, ConvDepthModel
from vidllm_ros.model.whole_files import replacing
from vidllm_ros.training.metric_depth.batches import Mixture
from vidllm_ros.training.metric_depth.evaluate import predict, score
from vidllm_ros.training.metric_depth.files import load_model, save_model
from vidllm_ros.training.metric_depth.frame_cache import Frames, read_shards
from vidllm_ros.training.metric_depth.imagenet_weights import load_imagenet
from vidllm_ros.training.metric_depth.losses import depth_loss
from vidllm_ros.training.metric_depth.real_frames import held_out_clips, training_clips

LOG_STEPS = 50
#: Frames of each held-out set that are scored on the way.
SCORED_FRAMES = 256


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast.

    Args:
        minutes: training time in all, over all resumed runs; the learning rate falls to nothing at its end.
        batch: frames of a step.
        lr: peak learning rate.
        encoder_lr: the pretrained encoder's share of it.
        weight_decay: of matrices and kernels.
        unknown_share: of frames whose focal length the network is not told.
        warmup: steps.
        average_decay: of the exponential average of the weights.
        clip: gradient norm limit.
        checkpoint_minutes: between checkpoints.
        seed: of the draws.
    """

    minutes: float
    batch: int = 24
    lr: float = 1.5e-3
    encoder_lr: float = 0.5
    weight_decay: float = 0.02
    unknown_share: float = 0.2
    warmup: int = 150
    average_decay: float = 0.998
    clip: float = 2.0
    checkpoint_minutes: float = 3.0
    seed: int = 0


class Average:
    """The exponential average of weights and of the statistics of batch normalisation."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Move towards the model; faster at the beginning."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            mean = self.values[name]
            if mean.is_floating_point():
                mean.lerp_(value.detach(), 1 - decay)
            else:
                mean.copy_(value)


@dataclass
class Trainer:
    """One training run in its folder.

    Args:
        model: what is trained.
        mixture: where frames come from.
        config: how long and how fast.
        folder: of the run.
        held_out: frames that are scored on the way, by name.
    """

    model: ConvDepthModel
    mixture: Mixture
    config: TrainConfig
    folder: Path
    held_out: dict[str, Frames] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Optimiser, average and counters."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.to(memory_format=torch.channels_last)
        groups = parameter_groups(self.model, self.config)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), foreach=True)
        self.average = Average(self.model, self.config.average_decay)
        self.step, self.seconds = 0, 0.0

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False when there is none."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values, self.average.updates = state["average"], state["updates"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def save(self) -> None:
        """Write the checkpoint and the averaged model, and score that on the held-out frames."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
            "step": self.step,
            "seconds": self.seconds,
        }
        with replacing(self.folder / "state.pt") as partial:
            torch.save(state, partial)
        averaged = ConvDepthModel(self.model.config)
        averaged.load_state_dict(self.average.values)
        save_model(averaged, self.folder / "model")
        averaged = load_model(self.folder / "model")
        for name, frames in self.held_out.items():
            scores = score(predict(averaged, frames), frames.depth)
            means = {"absrel": scores.absrel, "delta1": scores.delta1, "fitted": scores.fitted, "scale": scores.scale}
            row = {"minutes": round(self.seconds / 60, 1), "step": self.step, "frames": name}
            self._append("scores.csv", {**row, **{k: round(float(v.mean()), 4) for k, v in means.items()}})

    def run(self) -> None:
        """Train until the time is spent."""
        saved, seen = self.seconds, []
        self.model.train()
        while self.seconds < 60 * self.config.minutes:
            started = time.monotonic()
            # A resumed run draws other frames than the one it goes on from.
            rng = np.random.default_rng((self.config.seed, self.step))
            batch = self.mixture.draw(self.config.batch, rng)
            # Some cameras stay unknown, and the decoder is told the network's own estimate of them.
            unknown = torch.from_numpy(rng.random(len(batch.focal)) < self.config.unknown_share)
            told = torch.where(unknown, torch.nan, batch.focal.log())
            loss, parts = depth_loss(self.model(batch.images, told), batch.depth, batch.focal)
            if not torch.isfinite(loss):
                raise RuntimeError(f"step {self.step}: the loss is {loss.item()}")
            self._set_rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.average.update(self.model)
            self.step += 1
            self.seconds += time.monotonic() - started
            seen.append({"loss": float(loss.detach()), **parts})
            if self.step % LOG_STEPS == 0:
                means = {name: round(float(np.mean([s[name] for s in seen])), 4) for name in seen[0]}
                self._append("log.csv", {"step": self.step, "minutes": round(self.seconds / 60, 2), **means})
                seen = []
            if self.seconds - saved > 60 * self.config.checkpoint_minutes:
                self.save()
                self.mixture.refresh()
                saved = self.seconds
        self.save()

    def _set_rate(self) -> None:
        """Warm up, then fall along a cosine of the share of time that is spent."""
        progress = min(1.0, self.seconds / (60 * self.config.minutes))
        factor = min(1.0, (self.step + 1) / self.config.warmup) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * max(factor, 0.002)

    def _append(self, name: str, row: dict[str, object]) -> None:
        path = self.folder / name
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


def parameter_groups(model: ConvDepthModel, config: TrainConfig) -> list[dict[str, object]]:
    """Encoder and rest, each with and without weight decay (biases and normalisations have none)."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, value in model.named_parameters():
        groups.setdefault((name.startswith("encoder."), value.ndim > 1), []).append(value)
    return [
        {
            "params": values,
            "peak": config.lr * (config.encoder_lr if encoder else 1.0),
            "lr": config.lr,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (encoder, decays), values in groups.items()
    ]


def begin_with(model: ConvDepthModel, other: ConvDepthModel) -> None:
    """Take the weights of another model; what that does not have stays as it is."""
    missing, unexpected = model.load_state_dict(other.state_dict(), strict=False)
    odd = [name for name in missing if not name.startswith("lens.")] + unexpected
    if odd:
        raise ValueError(f"the model to begin with is another network: {', '.join(odd[:5])}")


def _held_out(arguments: argparse.Namespace) -> dict[str, Frames]:
    sets = dict(held_out_clips(arguments.real, arguments.hold_out)) if arguments.hold_out else {}
    for folder in arguments.rooms_val:
        sets[f"rooms {folder.name}"] = read_shards(folder)[0]
    chosen = {}
    for name, frames in sets.items():
        index = np.linspace(0, len(frames) - 1, min(len(frames), SCORED_FRAMES)).astype(int)
        chosen[name] = Frames(np.asarray(frames.rgb[index]), np.asarray(frames.depth[index]), frames.focal[index])
    return chosen


def _weighted(text: str) -> tuple[Path, float]:
    path, _, weight = text.partition("=")
    return Path(path), float(weight or 1)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--rooms", type=_weighted, nargs="+", required=True, metavar="DIR[=WEIGHT]", help="caches")
    parser.add_argument("--rooms-val", type=Path, nargs="*", default=[], help="caches of validation rooms")
    parser.add_argument("--real", type=Path, help="folder of small clips with depth")
    parser.add_argument("--real-share", type=float, default=0.35, help="share of real frames in a batch")
    parser.add_argument("--hold-out", nargs="*", default=[], help="rooms of --real to score on instead of training")
    parser.add_argument("--minutes", type=float, required=True, help="training time in all")
    parser.add_argument("--batch", type=int, default=24, help="frames of a step")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--encoder-lr", type=float, default=0.5, help="the encoder's share of it")
    parser.add_argument("--size", default="112x84", metavar="WxH", help="pixels of the network's pictures")
    parser.add_argument("--imagenet", type=Path, help="file of EfficientNet-Lite0's weights; the installed package's")
    parser.add_argument("--from-nothing", action="store_true", help="begin with random weights")
    parser.add_argument("--init", type=Path, help="begin with this model folder instead")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="cores")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    width, height = (int(side) for side in arguments.size.split("x"))
    model = ConvDepthModel(ConvDepthConfig(image_size=(height, width)))
    if arguments.init:
        begin_with(model, load_model(arguments.init))
    elif not arguments.from_nothing:
        load_imagenet(model.encoder, arguments.imagenet)
    real = training_clips(arguments.real, arguments.hold_out) if arguments.real else {}
    share = arguments.real_share if real else 0.0
    mixture = Mixture(dict(arguments.rooms), real, share, (height, width), (height // 2, width // 2))
    print(mixture.counts(), flush=True)
    config = TrainConfig(
        minutes=arguments.minutes, batch=arguments.batch, lr=arguments.lr, encoder_lr=arguments.encoder_lr
    )
    trainer = Trainer(model, mixture, config, arguments.out, _held_out(arguments))
    if arguments.resume and not trainer.resume():
        print("there is no checkpoint yet: begin", flush=True)
    trainer.run()


if __name__ == "__main__":
    main()
