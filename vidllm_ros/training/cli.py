"""``vidllm train``: the bundled model's recipe, and ``vidllm evaluate rooms``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

CONFIGS = ("nano",)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model on procedural rooms",
        description="Train on procedural rooms, first the geometry, then language and grounding on top of it. Run it "
        "under torchrun for several processes. A killed run continues with --resume.",
    )
    parser.add_argument("--config", choices=CONFIGS, default="nano", help="network size")
    parser.add_argument("--phase", choices=("geometry", "reasoning"), required=True, help="what to train")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and result")
    parser.add_argument("--geometry", type=Path, help="for the reasoning phase: the geometry phase's folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time in all, resumed runs included")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int:
    """Train one phase."""
    import torch
    import torch.distributed as dist

    from vidllm_ros.training.loop import LoopConfig, is_main_process
    from vidllm_ros.training.recipe import train_geometry, train_reasoning

    if (args.out / "state.pt").exists() and not args.resume:
        print(f"vidllm train: {args.out} holds a run already; give --resume to continue it, or another --out")
        return 2
    if args.phase == "reasoning" and args.geometry is None:
        print("vidllm train: the reasoning phase needs --geometry, the folder of a finished geometry phase")
        return 2
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = LoopConfig(minutes=args.minutes, lr=args.lr)
    if args.phase == "geometry":
        train_geometry(args.out, config)
    else:
        train_reasoning(args.out, args.geometry, config)
    if is_main_process():
        print(f"written to {args.out}")
    return 0


def add_evaluate_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a checkpoint on held-out procedural rooms",
        description="Score a checkpoint on held-out procedural rooms against baselines that see nothing.",
    )
    parser.add_argument("benchmark", choices=("rooms",), help="what to evaluate on")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder; the bundled nano when not given")
    parser.add_argument("--rooms", type=int, default=50, help="number of rooms")
    parser.add_argument("--frames", type=int, default=32, help="frames per window")
    parser.add_argument("--first-seed", type=int, default=0, help="first room of the test split")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate on rooms and print the table."""
    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.model import VidLLM
    from vidllm_ros.training.evaluate_rooms import evaluate_rooms, table, write

    model = VidLLM.from_pretrained(args.checkpoint or NANO)
    rows, further = evaluate_rooms(model, args.rooms, args.frames, args.first_seed)
    print(table(rows, further))
    if args.out:
        write(rows, further, args.out)
    return 0
