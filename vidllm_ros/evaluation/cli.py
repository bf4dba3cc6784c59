"""``vidllm evaluate co3d | re10k | nyu``: a checkpoint on sets of images that only evaluation reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vidllm_ros.evaluation.errors import EvaluationError

ABOUT = {
    "co3d": ("camera poses on Co3Dv2, the 41 seen categories", "the folder of categories"),
    "re10k": ("camera poses on RealEstate10K", "the folder of camera files, CLIP.txt"),
    "nyu": ("depth on the 654 test images of NYU Depth v2", "the folder that the list's paths start from"),
}


def add_parsers(subparsers: Any) -> None:
    """Add one subcommand for each benchmark."""
    for name, (about, data) in ABOUT.items():
        parser = subparsers.add_parser(name, help=about, description=f"Score a checkpoint: {about}.")
        parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=data)
        parser.add_argument("--checkpoint", type=Path, help="checkpoint folder; the bundled nano when not given")
        parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to write (default: evaluate_{name})")
        parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
        if name == "nyu":
            parser.add_argument(
                "--list",
                type=Path,
                metavar="FILE",
                help="images, depths and focal lengths (default: nyudepthv2_test_files_with_gt.txt in --data)",
            )
        else:
            parser.add_argument("--seed", type=int, default=0, help="of the draw of ten frames from each scene (0)")
            parser.add_argument(
                "--order", choices=("vggt", "posediffusion"), default="vggt", help="of a pair's relative pose (vggt)"
            )
        if name == "re10k":
            parser.add_argument(
                "--images", type=Path, required=True, metavar="DIR", help="images as CLIP/STAMP.jpg, microseconds"
            )
        parser.set_defaults(run=run, name=name)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from vidllm_ros.checkpoints import NANO
    from vidllm_ros.evaluation import benchmark, image_benchmarks, nyu
    from vidllm_ros.model import VidLLM

    name, data = arguments.name, arguments.data
    out, checkpoint = arguments.out or Path(f"evaluate_{name}"), arguments.checkpoint or NANO
    if not data.is_dir():
        raise EvaluationError(f"--data {data} is no folder: it must be {ABOUT[name][1]}.")
    settings: dict[str, Any] = {"checkpoint": str(checkpoint), "data": str(data)}
    items: dict[str, Any]
    if name == "nyu":
        listing = arguments.list or data / "nyudepthv2_test_files_with_gt.txt"
        items = {str(image.rgb_file.relative_to(data)): image for image in nyu.read_list(data, listing)}
        settings["list"] = str(listing)
    else:
        draw = image_benchmarks.co3d_sets(data, arguments.seed) if name == "co3d" else None
        if draw is None:
            draw = image_benchmarks.re10k_sets(data, arguments.images, arguments.seed)
        items = {images.name: images for images in draw}
        settings |= {"seed": arguments.seed, "order": arguments.order}
    model = VidLLM.from_pretrained(checkpoint, device=arguments.device)
    benchmark.same_run(out, settings)

    def evaluate(item: Any) -> dict[str, Any]:
        if name == "nyu":
            return image_benchmarks.score_depth(model, item)
        return image_benchmarks.score_poses(model, item, arguments.order)

    rows = benchmark.run(list(items), items.__getitem__, evaluate, out)
    if name == "nyu":
        report = image_benchmarks.depth_report(rows, settings)
    else:
        report = image_benchmarks.pose_report(name, rows, settings)
    report.write(out)
    print(report.table())
    print(f"written to {out}")
    return 0
