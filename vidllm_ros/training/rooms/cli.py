"""``vidllm rooms``: previews, frame folders and bags of procedural rooms."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2

from vidllm_ros.training.rooms.errors import RoomError
from vidllm_ros.training.rooms.generate import SPLITS, RoomVideo, room_video
from vidllm_ros.training.rooms.style import STYLES

SUMMARY = "Make procedural rooms with exact ground truth, or a bag of one."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its arguments."""
    parser = subparsers.add_parser(
        "rooms",
        help=SUMMARY,
        description=f"{SUMMARY} Give at least one of --preview, --folder and --bag.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    outputs = parser.add_argument_group("what to write")
    outputs.add_argument("--preview", metavar="FILE", help="a picture (.png) with one row for each of several rooms")
    outputs.add_argument("--folder", metavar="DIR", help="a folder of images, depth, poses, boxes and questions")
    outputs.add_argument("--bag", metavar="DIR", help="a ROS 2 bag (mcap) of a video, with ground_truth inside")
    parser.add_argument("--seed", type=int, default=0, help="which room; the first one of a preview")
    parser.add_argument(
        "--split", choices=tuple(SPLITS), default="test", help="rooms of different splits never coincide"
    )
    parser.add_argument("--style", choices=tuple(STYLES), default="robot", help="how rooms and cameras vary")
    parser.add_argument("--size", type=_size, default="336x252", metavar="WxH", help="pixels")
    parser.add_argument("--rooms", type=int, default=6, help="rooms in a preview")
    parser.add_argument("--seconds", type=float, default=18.0, help="length of a video")
    parser.add_argument("--rate", type=float, default=8.0, metavar="HZ", help="frames per second of a video")
    parser.add_argument("--questions", type=int, default=40, help="questions in the ground truth")
    parser.add_argument("--compressed", action="store_true", help="JPEG images in the bag")
    parser.add_argument("--depth", action="store_true", help="true depth in the bag")
    parser.add_argument(
        "--tf", action="store_true", help="true camera poses on /tf in the bag, as localisation gives them"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write what was asked for."""
    if not (arguments.preview or arguments.folder or arguments.bag):
        raise RoomError("nothing to write: give --preview FILE, --folder DIR or --bag DIR")
    if arguments.preview:
        _write_preview(arguments)
    for path, write in ((arguments.folder, _write_folder), (arguments.bag, _write_bag)):
        if path:
            video = _video(arguments)
            write(arguments, video)
            print(f"{path}: {len(video)} frames of room {video.split}/{video.seed}, {len(video.boxes)} objects")
    return 0


def _write_preview(arguments: argparse.Namespace) -> None:
    from vidllm_ros.training.rooms.preview import contact_sheet

    if arguments.rooms < 1:
        raise RoomError(f"--rooms is {arguments.rooms}; at least 1 is needed")
    sheet = contact_sheet(arguments.seed, arguments.rooms, arguments.split, arguments.size, arguments.style)
    path = Path(arguments.preview)
    if path.suffix.lower() not in (".png", ".jpg"):
        raise RoomError(f"--preview {path} must end in .png or .jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f"{path} cannot be written")
    print(f"{path}: {arguments.rooms} rooms of split {arguments.split}")


def _video(arguments: argparse.Namespace) -> RoomVideo:
    if not arguments.rate > 0 or not arguments.seconds > 0:
        raise RoomError(f"--rate {arguments.rate} and --seconds {arguments.seconds} must both be positive")
    frames = max(1, round(arguments.seconds * arguments.rate))
    size, style = arguments.size, arguments.style
    return room_video(arguments.seed, arguments.split, frames, size, arguments.rate, style=style, threads=0)


def _write_folder(arguments: argparse.Namespace, video: RoomVideo) -> None:
    from vidllm_ros.training.rooms.export import write_folder

    write_folder(video, arguments.folder, arguments.questions, _progress(len(video)))


def _write_bag(arguments: argparse.Namespace, video: RoomVideo) -> None:
    from vidllm_ros.training.rooms.bag import write_bag

    write_bag(
        video,
        arguments.bag,
        questions=arguments.questions,
        compressed=arguments.compressed,
        depth=arguments.depth,
        tf=arguments.tf,
        on_frame=_progress(len(video)),
    )


def _progress(total: int) -> Callable[[int], None] | None:
    """A counter on the terminal; nothing in a log."""
    if not sys.stderr.isatty():
        return None
    return lambda done: print(
        f"\r{done}/{total} frames", end="\n" if done == total else "", file=sys.stderr, flush=True
    )


def _size(text: str) -> tuple[int, int]:
    """``336x252`` to (H, W)."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WIDTHxHEIGHT, for example 336x252") from None
    return height, width
