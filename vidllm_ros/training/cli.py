"""``vidllm train``: the two stages and the bundled model's recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidllm_ros.training.loop import LoopConfig
    from vidllm_ros.training.stages.teachers import Teacher

CONFIGS = ("nano", "small", "large")
# Where no --lr is given. The paper gives none; VGGT was trained at 2e-4 from scratch, and this continues it.
LEARNING_RATES = {"muon": 1.5e-3, "adamw": 1e-4}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a network",
        description="Train in the paper's two stages: distillation from two teachers into encoder and adapter (1), "
        "then everything together (2). --phase trains one half of stage 2 after the other on rooms, which is how the "
        "bundled nano was made. `accelerate launch` runs it in several processes, on many GPUs and machines. A killed "
        "run continues with --resume.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", type=int, choices=(1, 2), help="stage of the paper")
    what.add_argument("--phase", choices=("geometry", "reasoning"), help="half of stage 2, on rooms")
    what.add_argument(
        "--ablate",
        nargs="*",
        metavar="NAME",
        help="the paper's ablations on rooms, --minutes or --steps each, scored; all without a NAME, a wrong one lists "
        "them",
    )
    parser.add_argument("--config", choices=CONFIGS, default="nano", help="without --init: random weights of this size")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FOLDER",
        help="start from this checkpoint; ablations take all of it but the adapter and the metric depth model",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=["rooms:train"],
        metavar="SOURCE:TARGET",
        help="training data of the stages, e.g. scanqa:FILE,scans=FOLDER; an unknown one lists all (rooms:train)",
    )
    parser.add_argument("--windows", type=int, default=2, help="windows per step and process; the stages only")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and result")
    parser.add_argument("--geometry", type=Path, help="for the reasoning phase: the geometry phase's folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time in all, resumed runs included")
    parser.add_argument("--steps", type=int, help="steps in all, whatever time they take; instead of --minutes")
    parser.add_argument(
        "--optimizer",
        choices=("auto", "adamw", "muon"),
        default="auto",
        help="auto: the paper's AdamW, but for nano Muon on the matrices of its blocks",
    )
    parser.add_argument("--lr", type=float, help="peak learning rate (1.5e-3 with Muon, 1e-4 with AdamW)")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU where there is one")
    parser.add_argument("--workers", type=int, default=1, help="processes that load data; the stages only")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument(
        "--lora", type=int, metavar="RANK", help="stage 2: the language model learns additions of this rank only"
    )
    parser.add_argument("--test-rooms", type=int, default=50, help="of --ablate: held-out rooms of the scores")
    teachers = parser.add_argument_group("teachers of stage 1")
    teachers.add_argument(
        "--geometry-teacher", type=Path, metavar="FOLDER", help="checkpoint whose encoder teaches; the bundled nano"
    )
    teachers.add_argument(
        "--semantic-teacher",
        metavar="clip:FOLDER_OR_ID|FOLDER",
        help="a CLIP vision tower, or a checkpoint whose semantic stream teaches; the bundled nano",
    )
    teachers.add_argument("--teacher-cache", type=Path, metavar="FOLDER", help="keep their features here")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int:
    """Train one stage or phase."""
    problem = _wrong_use(args)
    if problem:
        print(f"vidllm train: {problem}")
        return 2
    import torch

    from vidllm_ros.training.processes import connect
    from vidllm_ros.training.stages.recipe import train_geometry, train_reasoning

    accelerator = connect(cpu=args.device == "cpu")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.phase == "geometry":
        train_geometry(args.out, loop_config(args, "nano"))
    elif args.phase == "reasoning":
        train_reasoning(args.out, args.geometry, loop_config(args, "nano"))
    elif args.ablate is not None:
        _run_ablations(args, str(accelerator.device))
    else:
        _run_stage(args, str(accelerator.device))
    accelerator.print(f"written to {args.out}")
    accelerator.end_training()
    return 0


def _wrong_use(args: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, or None."""
    if (args.out / "state.pt").exists() and not args.resume:
        return f"{args.out} holds a run already; give --resume to continue it, or another --out"
    if args.phase == "reasoning" and args.geometry is None:
        return "the reasoning phase needs --geometry, the folder of a finished geometry phase"
    if args.steps is not None and args.steps < 1:
        return f"--steps {args.steps}: there must be at least one"
    if args.lora is not None and args.stage != 2:
        return "--lora is for stage 2, which trains the language model"
    if args.lora is not None and args.lora < 1:
        return f"--lora {args.lora}: the rank must be at least 1"
    return None


def loop_config(args: argparse.Namespace, size: str) -> LoopConfig:
    """Budget and optimiser for a network of that size: the paper's AdamW (section 4.1) except for nano."""
    from vidllm_ros.training.loop import LoopConfig

    optimizer = args.optimizer
    if optimizer == "auto":
        optimizer = "muon" if size == "nano" else "adamw"
    lr = args.lr if args.lr is not None else LEARNING_RATES[optimizer]
    return LoopConfig(minutes=args.minutes, lr=lr, muon=optimizer == "muon", steps=args.steps)


def _run_stage(args: argparse.Namespace, device: str) -> None:
    from vidllm_ros.model import VidLLM
    from vidllm_ros.training.stages.recipe import new_network, train_stage_1, train_stage_2

    model = VidLLM.from_pretrained(args.init) if args.init else new_network(args.config)
    model.float()
    config = loop_config(args, model.config.name)
    if args.stage == 2:
        train_stage_2(model, args.data, args.out, config, args.windows, workers=args.workers, lora=args.lora)
        return
    pair = _teachers(args, device)
    train_stage_1(model, pair, args.data, args.out, config, args.windows, workers=args.workers)


def _teachers(args: argparse.Namespace, device: str) -> tuple[Teacher, Teacher]:
    """Geometry and semantics; the bundled nano where none is given."""
    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.training.stages.teachers import CachedTeacher, CheckpointTeacher, ClipTeacher

    named = args.semantic_teacher or str(NANO)
    geometry: Teacher = CheckpointTeacher(args.geometry_teacher or NANO, device=device)
    semantic: Teacher
    if named.startswith("clip:"):
        semantic = ClipTeacher(named.removeprefix("clip:"), device=device)
    else:
        semantic = CheckpointTeacher(Path(named), "semantic", device)
    if args.teacher_cache:
        return CachedTeacher(geometry, args.teacher_cache), CachedTeacher(semantic, args.teacher_cache)
    return geometry, semantic


def _run_ablations(args: argparse.Namespace, device: str) -> None:
    from vidllm_ros.model import VidLLM
    from vidllm_ros.model.sizes import SIZES
    from vidllm_ros.training.ablation.ablate import Budget, run_ablations
    from vidllm_ros.training.ablation.ablations import chosen
    from vidllm_ros.training.stages.recipe import room_tokenizer

    names = chosen(args.ablate)
    start = VidLLM.from_pretrained(args.init).float() if args.init else None
    base = start.config if start else SIZES[args.config]()
    tokenizer = start.language.tokenizer if start else room_tokenizer()
    loop = loop_config(args, base.name)
    budget = Budget(
        loop.minutes,
        loop.steps,
        lr=loop.lr,
        muon=loop.muon,
        windows=args.windows,
        rooms=args.test_rooms,
        seed=args.seed,
    )
    print(run_ablations(names, base, tokenizer, _teachers(args, device), budget, args.out, args.workers, start))
