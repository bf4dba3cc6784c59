"""``vidllm evaluate co3d | re10k | nyu``: a checkpoint on sets of images that only evaluation reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vidllm_ros.evaluation.benchmarks import command
from vidllm_ros.evaluation.errors import EvaluationError

ABOUT = {
    "co3d": ("camera poses on Co3Dv2, the 41 seen categories", "the folder of categories"),
    "re10k": ("camera poses on RealEstate10K", "the folder of camera files, CLIP.txt"),
    "nyu": (
        "depth on the 654 test images of NYU Depth v2",
        "nyu_depth_v2_labeled.mat, or the folder that the list's paths start from",
    ),
}


def add_parsers(subparsers: Any) -> None:
    """Add one subcommand for each benchmark."""
    for name, (about, data) in ABOUT.items():
        parser = command.add_benchmark(subparsers, name, about, data)
        if name == "nyu":
            parser.add_argument(
                "--list",
                type=Path,
                metavar="FILE",
                help="images, depths and focal lengths (default: nyudepthv2_test_files_with_gt.txt in --data)",
            )
            parser.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.mat beside the .mat")
        else:
            parser.add_argument("--seed", type=int, default=0, help="of the draw of ten frames from each scene (0)")
            parser.add_argument(
                "--order", choices=("vggt", "posediffusion"), default="vggt", help="of a pair's relative pose (vggt)"
            )
        if name == "re10k":
            parser.add_argument(
                "--images", type=Path, required=True, metavar="DIR", help="images as CLIP/STAMP.jpg, microseconds"
            )
        parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from vidllm_ros.evaluation.benchmarks import images as image_benchmarks
    from vidllm_ros.evaluation.benchmarks import nyu, nyu_mat

    name, data = arguments.name, arguments.data
    mat = name == "nyu" and data.suffix == ".mat"
    if not mat and not data.is_dir():
        raise EvaluationError(f"--data {data} is no folder: it must be {ABOUT[name][1]}.")
    settings: dict[str, Any] = {"data": str(data)}
    items: dict[str, Any]
    if mat:
        items = {image.name: image for image in nyu_mat.read_mat(data, arguments.splits)}
    elif name == "nyu":
        listing = arguments.list or data / "nyudepthv2_test_files_with_gt.txt"
        items = {str(image.rgb_file.relative_to(data)): image for image in nyu.read_list(data, listing)}
        settings["list"] = str(listing)
    else:
        draw = image_benchmarks.co3d_sets(data, arguments.seed) if name == "co3d" else None
        if draw is None:
            draw = image_benchmarks.re10k_sets(data, arguments.images, arguments.seed)
        items = {images.name: images for images in draw}
        settings |= {"seed": arguments.seed, "order": arguments.order}
    model = command.load_model(arguments)

    def score(item: Any) -> dict[str, Any]:
        if name == "nyu":
            return image_benchmarks.score_depth(model, item)
        return image_benchmarks.score_poses(model, item, arguments.order)

    def report(rows: command.Rows, settings: dict[str, Any]) -> Any:
        if name == "nyu":
            return image_benchmarks.depth_report(rows, settings)
        return image_benchmarks.pose_report(name, rows, settings)

    return command.evaluate(arguments, settings, list(items), items.__getitem__, score, report)
