"""Data sources by name: ``--data scannet:/data/scans``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.data.clips import Clips, find_clips
from vidllm_ros.training.data.errors import DataError, log
from vidllm_ros.training.data.rooms import SPLITS, RoomSource
from vidllm_ros.training.data.scannet.annotations import AnnotatedScans, Annotation, by_scene
from vidllm_ros.training.data.scannet.multi3drefer import read_multi3drefer
from vidllm_ros.training.data.scannet.referit3d import read_referit3d
from vidllm_ros.training.data.scannet.scan2cap import read_scan2cap
from vidllm_ros.training.data.scannet.scanqa import read_scanqa
from vidllm_ros.training.data.scannet.scanrefer import read_scanrefer
from vidllm_ros.training.data.scannet.scans import Scans, find_scenes
from vidllm_ros.training.data.scannet.scenes import SceneSource
from vidllm_ros.training.data.scannet.sqa3d import read_sqa3d
from vidllm_ros.training.data.tum import CAMERAS, TumSequences, find_sequences
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class DataSpec:
    """A parsed specification.

    Attributes:
        text: as it was written.
        source: the source's name.
        target: what stands after the colon, usually a path.
        options: ``key=value`` pairs behind it.
    """

    text: str
    source: str
    target: str
    options: dict[str, str]

    @property
    def path(self) -> Path:
        """The target as a path, ``~`` expanded."""
        return Path(self.target).expanduser()

    def path_option(self, name: str) -> Path | None:
        """An option as a path, or None."""
        return Path(self.options[name]).expanduser() if name in self.options else None


@dataclass(frozen=True)
class DataSource:
    """A kind of data that can be opened.

    Attributes:
        usage: how to write its specification.
        about: what it is, in a few words.
        options: the keys that it knows.
        open: opens it.
    """

    usage: str
    about: str
    options: tuple[str, ...]
    open: Callable[[DataSpec, VidLLMConfig], Iterable[Sample]]


def open_data(spec: str, config: VidLLMConfig) -> Iterable[Sample]:
    """Open a data source.

    What the specification names is checked at once, scenes are loaded while the result is iterated. The result can be
    iterated more than once; ``rooms`` never ends, the others are a ``SceneSource``.

    Args:
        spec: ``source:target[,key=value...]``; ``describe_sources`` lists what exists.
        config: image, patch and window sizes of the network.

    Raises:
        DataError: the specification cannot be understood, or what it names does not exist.
    """
    parsed = parse_spec(spec)
    return SOURCES[parsed.source].open(parsed, config)


def parse_spec(spec: str) -> DataSpec:
    """Take a specification apart; raises DataError when it names no known source, or an option that it lacks."""
    name, colon, rest = spec.partition(":")
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise DataError(f"data '{spec}': there is no source '{name}'{hint}. These exist:\n{describe_sources()}")
    source = SOURCES[name]
    # A comma separates only where an option follows, so that paths may hold commas.
    target, *pieces = re.split(r",(?=[a-z_]+=)", rest)
    if not colon or not target:
        raise DataError(f"data '{spec}': nothing stands after '{name}:'; write {source.usage}")
    options = dict(piece.split("=", 1) for piece in pieces)
    for key, value in options.items():
        if key not in source.options:
            known = f"'{name}' knows {', '.join(source.options)}" if source.options else f"'{name}' knows none"
            raise DataError(f"data '{spec}': unknown option '{key}'; {known}: {source.usage}")
        if not value:
            raise DataError(f"data '{spec}': option '{key}' is empty; write {source.usage}")
    return DataSpec(spec, name, target, options)


def describe_sources() -> str:
    """All sources: what each is, and below it how to write it."""
    return "\n".join(f"  {name}: {source.about}\n      {source.usage}" for name, source in SOURCES.items())


def _rooms(spec: DataSpec, config: VidLLMConfig) -> Iterable[Sample]:
    seed = spec.options.get("seed", "0")
    if spec.target not in SPLITS or not seed.isdigit():
        raise DataError(
            f"data '{spec.text}': the split must be one of {', '.join(SPLITS)} and seed a whole number from 0"
        )
    return RoomSource(spec.target, config, int(seed))


def _scannet(spec: DataSpec, config: VidLLMConfig) -> Iterable[Sample]:
    scenes, listing = find_scenes(spec.path), spec.path_option("list")
    if listing is not None:
        scenes = _present(spec, find_scenes(spec.path, listing), spec.path, f"that {listing} lists")
    return SceneSource(spec.text, scenes, Scans(spec.path, config, _frames(spec)).load)


def _annotated(read: Callable[[DataSpec], list[Annotation]]) -> Callable[[DataSpec, VidLLMConfig], Iterable[Sample]]:
    def opened(spec: DataSpec, config: VidLLMConfig) -> Iterable[Sample]:
        folder, listing = spec.path_option("scans"), spec.path_option("list")
        if folder is None:
            raise DataError(
                f"data '{spec.text}': the scans that it is about are missing; write {SOURCES[spec.source].usage}"
            )
        annotations = by_scene(read(spec))
        wanted, which = tuple(annotations), f"that {spec.path} is about"
        if listing is not None:
            listed = set(find_scenes(folder, listing))
            wanted, which = tuple(scene for scene in wanted if scene in listed), f"{which} and {listing} lists"
        scenes = _present(spec, wanted, folder, which)
        scans = AnnotatedScans(spec.path, Scans(folder, config, _frames(spec)), annotations)
        return SceneSource(spec.text, scenes, scans.load, scans.annotated)

    return opened


def _present(spec: DataSpec, wanted: tuple[str, ...], folder: Path, which: str) -> tuple[str, ...]:
    """Those of the wanted scans that are in the folder, with one warning about all others."""
    present = set(find_scenes(folder))
    absent = [scene for scene in wanted if scene not in present]
    example = f"; the first: {absent[0]}" if absent else ""
    if len(absent) == len(wanted):
        raise DataError(f"data '{spec.text}': none of the {len(wanted)} scans {which} is in {folder}{example}.")
    if absent:
        log.warning(
            "%d of the %d scans %s are not in %s and are left out%s", len(absent), len(wanted), which, folder, example
        )
    return tuple(scene for scene in wanted if scene in present)


def _frames(spec: DataSpec) -> Path | None:
    frames = spec.path_option("frames")
    if frames is not None and not frames.is_dir():
        raise DataError(f"data '{spec.text}': frames={frames} is no folder; give one that holds scene0000_00, ...")
    return frames


def _tum(spec: DataSpec, config: VidLLMConfig) -> Iterable[Sample]:
    camera = spec.options.get("camera")
    if camera is not None and camera not in CAMERAS:
        raise DataError(f"data '{spec.text}': camera '{camera}' is unknown; choose from {', '.join(CAMERAS)}")
    folders = find_sequences(spec.path)
    return SceneSource(spec.text, tuple(folders), TumSequences(folders, config, camera).load)


def _clips(spec: DataSpec, config: VidLLMConfig) -> Iterable[Sample]:
    folders = find_clips(spec.path)
    return SceneSource(spec.text, tuple(folders), Clips(folders, config).load)


def _on_scans(name: str, file: str, about: str, read: Callable[[Path], list[Annotation]]) -> DataSource:
    usage = f"{name}:{file},scans=FOLDER[,list=FILE][,frames=FOLDER]"
    return DataSource(usage, about, ("scans", "list", "frames"), _annotated(lambda spec: read(spec.path)))


SOURCES: dict[str, DataSource] = {
    "rooms": DataSource("rooms:SPLIT[,seed=N]", "procedural rooms, endless; train, val or test", ("seed",), _rooms),
    "scannet": DataSource(
        "scannet:FOLDER[,list=FILE][,frames=FOLDER]", "ScanNet scans: geometry and boxes", ("list", "frames"), _scannet
    ),
    "scanqa": _on_scans("scanqa", "ScanQA_v1.0_train.json", "questions about a scan", read_scanqa),
    "sqa3d": DataSource(
        "sqa3d:v1_balanced_questions_train_scannetv2.json,scans=FOLDER[,annotations=FILE][,list=FILE][,frames=FOLDER]",
        "questions from somebody's situation",
        ("scans", "annotations", "list", "frames"),
        _annotated(lambda spec: read_sqa3d(spec.path, spec.path_option("annotations"))),
    ),
    "scanrefer": _on_scans("scanrefer", "ScanRefer_filtered_train.json", "locate one object", read_scanrefer),
    "scan2cap": _on_scans("scan2cap", "ScanRefer_filtered_train.json", "describe one object", read_scan2cap),
    "multi3drefer": _on_scans("multi3drefer", "multi3drefer_train.json", "locate any number", read_multi3drefer),
    "nr3d": _on_scans("nr3d", "nr3d.csv", "locate one object, people's words", read_referit3d),
    "sr3d": _on_scans("sr3d", "sr3d.csv", "locate one object, template words", read_referit3d),
    "tum": DataSource("tum:FOLDER[,camera=NAME]", "TUM RGB-D sequences: geometry", ("camera",), _tum),
    "clips": DataSource("clips:FOLDER", "folders with frames.json: geometry and boxes", (), _clips),
}
