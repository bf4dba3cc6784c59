"""Specifications: what they name, and what they say when they cannot."""

from itertools import islice

import numpy as np
import pytest
from scan_maker import window_config

from vidllm_ros.training.data import SOURCES, DataError, describe_sources, open_data
from vidllm_ros.training.data.registry import parse_spec
from vidllm_ros.training.rooms import room_sample

NAMES = {"rooms", "scannet", "scanqa", "sqa3d", "scanrefer", "scan2cap", "multi3drefer", "nr3d", "sr3d", "tum", "clips"}


def test_every_source_is_described():
    assert set(SOURCES) == NAMES
    for name, source in SOURCES.items():
        assert source.usage.startswith(f"{name}:") and source.usage in describe_sources()
        assert all(f"{option}=" in source.usage for option in source.options)


@pytest.mark.parametrize(
    ("spec", "target", "options"),
    [
        ("scannet:/data/scans", "/data/scans", {}),
        ("scannet:/data/a,b/scans,list=/x/train.txt", "/data/a,b/scans", {"list": "/x/train.txt"}),
        ("scanqa:C:/q.json,scans=/a=b/scans,list=l", "C:/q.json", {"scans": "/a=b/scans", "list": "l"}),
        ("rooms:train,seed=5", "train", {"seed": "5"}),
    ],
)
def test_specifications(spec, target, options):
    parsed = parse_spec(spec)
    assert (parsed.target, parsed.options) == (target, options)


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_spec("scannet:~/scans").path == tmp_path / "scans"
    assert parse_spec("scannet:x,list=~/l.txt").path_option("list") == tmp_path / "l.txt"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scannett:/x", "there is no source 'scannett' (did you mean 'scannet'?). These exist:\n  rooms: procedural"),
        ("/data/scans", "there is no source '/data/scans'. These exist:"),
        ("", "there is no source ''"),
        ("scannet", "nothing stands after 'scannet:'; write scannet:FOLDER[,list=FILE]"),
        ("scannet:", "nothing stands after 'scannet:'"),
        ("scannet:/x,split=train", "unknown option 'split'; 'scannet' knows list, frames: scannet:FOLDER"),
        ("clips:/x,list=a", "unknown option 'list'; 'clips' knows none"),
        ("scannet:/x,list=", "option 'list' is empty"),
        ("rooms:night", "the split must be one of train, val, test"),
        ("rooms:train,seed=-1", "seed a whole number from 0"),
        ("scannet:/nowhere/scans", "/nowhere/scans is no folder; give the one that holds scene0000_00"),
        ("tum:/nowhere", "/nowhere is no TUM RGB-D sequence"),
    ],
)
def test_specifications_that_cannot_be_opened(spec, message):
    with pytest.raises(DataError) as caught:
        open_data(spec, window_config())
    assert message in str(caught.value)


def test_frames_folder_must_exist(tmp_path):
    (tmp_path / "scene0000_00").mkdir()
    with pytest.raises(DataError, match="frames=/nowhere is no folder"):
        open_data(f"scannet:{tmp_path},frames=/nowhere", window_config())


def test_rooms_are_endless_and_repeatable():
    config = window_config(2)
    source = open_data("rooms:val,seed=7", config)
    samples = list(islice(source, 2))
    assert [sample.name for sample in samples] == ["rooms/val/7", "rooms/val/8"]
    assert np.array_equal(next(iter(source)).rgb, samples[0].rgb)
    assert samples[0].rgb.shape == (2, *config.image_size, 3) and samples[0].tasks
    assert np.array_equal(samples[0].rgb, room_sample(7, "val", 2, config.image_size, stride=2).rgb)
