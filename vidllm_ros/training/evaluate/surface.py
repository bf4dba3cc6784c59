"""``vidllm evaluate scannet-recon``: a checkpoint's reconstruction of ScanNet scans against their meshes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidllm_ros.evaluation.benchmarks import command
from vidllm_ros.training.evaluate.data import add_scene_arguments, window_of

if TYPE_CHECKING:
    from vidllm_ros.evaluation.benchmarks.surface import ScannedRoom
    from vidllm_ros.model.config import VidLLMConfig
    from vidllm_ros.perception.types import Frame

RATE = 30.0  # of the recordings, Hz


def add_parsers(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = command.add_benchmark(
        subparsers, "scannet-recon", "reconstruction against the meshes of ScanNet", "the folder of scans"
    )
    add_scene_arguments(parser, scans=False, scannet=True)
    parser.add_argument(
        "--stitch",
        action="store_true",
        help="all frames through the robot's perception, window by window; default: one window spread over the scan",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> int:
    """Evaluate and print the table."""
    from dataclasses import replace

    from vidllm_ros.evaluation.benchmarks import surface as surface_benchmark
    from vidllm_ros.perception.config import PerceptionConfig
    from vidllm_ros.training.data.scannet.scans import find_scenes

    data, stitch = arguments.data, arguments.stitch
    scenes = find_scenes(data, arguments.list)
    model = command.load_model(arguments)
    size = arguments.frames or model.config.window_size
    settings = {"data": str(data), "list": str(arguments.list), "frames": size, "stitch": stitch}
    config = replace(model.config, window_size=size)
    perception = PerceptionConfig().replace({"window.size": size, "window.stride": max(1, size // 2)})

    def load(scene: str) -> ScannedRoom:
        return scanned_room(data, arguments.exported, scene, config, stitch)

    score = surface_benchmark.surfaces(model, perception)
    return command.evaluate(arguments, settings, scenes, load, score, surface_benchmark.surface_report)


def scanned_room(
    scans: Path, exported: Path | None, scene: str, config: VidLLMConfig, stitch: bool = False
) -> ScannedRoom:
    """A scan's frames and mesh in its axis-aligned frame; needs no annotation, so test scans will do.

    Args:
        scans: the folder of scans.
        exported: of the frames, where they lie apart.
        scene: the scan's name.
        config: sizes of images and windows.
        stitch: give all frames and no window.

    Raises:
        DataError: no frames, too few usable ones, no mesh, or a broken file.
    """
    from vidllm_ros.evaluation.benchmarks.surface import ScannedRoom
    from vidllm_ros.perception.types import Frame
    from vidllm_ros.training.data.errors import DataError, log
    from vidllm_ros.training.data.frames import read_window
    from vidllm_ros.training.data.scannet.frames import open_frames
    from vidllm_ros.training.data.scannet.objects import object_files, read_mesh
    from vidllm_ros.training.data.scannet.scans import read_axis_alignment

    folder = scans / scene
    T_world_scan = read_axis_alignment(folder / f"{scene}.txt")
    vertices, _ = read_mesh(object_files(folder, scene)[0])
    store = open_frames((exported or scans) / scene, scene)
    store.poses = {number: T_world_scan @ pose for number, pose in store.poses.items()}
    stamps = {number: round(number * 1e9 / RATE) for number in store.poses}

    def frames() -> Iterator[Frame]:
        for number, stamp in stamps.items():
            try:
                rgb, _ = store.read(number)
            except DataError as error:
                log.warning("frame %d is left out: %s", number, error)
                continue
            yield Frame(rgb, stamp)

    return ScannedRoom(
        window=None if stitch else window_of(read_window(store, config).without_labels(f"scannet/{scene}")),
        frames=frames,
        T_world_camera={stamps[number]: pose for number, pose in store.poses.items()},
        vertices=np.asarray(vertices) @ T_world_scan[:3, :3].T + T_world_scan[:3, 3],
    )
