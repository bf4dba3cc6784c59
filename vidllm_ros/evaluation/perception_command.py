"""``vidllm evaluate perception``: windows, tracks, adjustment and stitching of the node on clips with true poses."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "perception",
        help="the node's perception on clips with true poses, with parts of the network replaced by the truth",
        description="Runs the pipeline of the node (windows, tracks, adjustment, stitching) on posed clips: folders "
        "with a frames.json, or of the TUM RGB-D benchmark. Every frame goes in; no rate and no motion is waited for.",
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="CLIP", help="folders of posed clips")
    parser.add_argument("--depth", choices=("truth", "network"), default="network", help="(%(default)s)")
    parser.add_argument("--start", choices=("truth", "network", "identity"), default="network", help="(%(default)s)")
    parser.add_argument("--intrinsics", choices=("truth", "network"), default="truth", help="(%(default)s)")
    parser.add_argument("--frames-step", type=int, default=1, metavar="N", help="every N-th frame only (1)")
    parser.add_argument("--limit-frames", type=int, metavar="N", help="the first N frames of a clip only")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder; the bundled nano when not given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="e.g. --set window.stride=8"
    )
    parser.add_argument("--out", type=Path, default=Path("evaluate_perception"), metavar="DIR", help="(%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate each clip, print a line about each and write ``perception.json``."""
    import json

    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.evaluation.errors import EvaluationError
    from vidllm_ros.evaluation.perception_clips import Replacement, describe, evaluate_clip
    from vidllm_ros.evaluation.recordings.clips import read_clip
    from vidllm_ros.model import VidLLM
    from vidllm_ros.perception.cli import parse_settings

    if arguments.frames_step < 1:
        raise EvaluationError(f"--frames-step is {arguments.frames_step}; it must be at least 1")
    config = parse_settings(arguments.settings)
    clips = [read_clip(path) for path in arguments.data]
    model = VidLLM.from_pretrained(arguments.checkpoint or NANO, device=arguments.device)
    replacement = Replacement(arguments.depth, arguments.start, arguments.intrinsics)
    results = {}
    for clip in clips:
        chosen = clip.every(arguments.frames_step, arguments.limit_frames)
        results[clip.name] = evaluate_clip(model, chosen, replacement, config)
        print(describe(clip.name, results[clip.name]), flush=True)
    settings = {
        "checkpoint": str(arguments.checkpoint or NANO),
        "depth": arguments.depth,
        "start": arguments.start,
        "intrinsics": arguments.intrinsics,
        "frames_step": arguments.frames_step,
        "set": arguments.settings,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "clips": results}, indent=2)
    (arguments.out / "perception.json").write_text(text + "\n", encoding="utf-8")
    return 0
