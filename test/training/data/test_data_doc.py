"""docs/data.md names every source, in specifications that can be read."""

import re

import pytest
from places import REPOSITORY

from vidllm_ros.training.data import SOURCES
from vidllm_ros.training.data.registry import parse_spec

TEXT = (REPOSITORY / "docs/data.md").read_text(encoding="utf-8")
SPECS = [spec for line in re.findall(r"--data ((?:[a-z0-9]+:\S+ ?)+)", TEXT) for spec in line.strip(" `.").split()]


@pytest.mark.parametrize("spec", SPECS)
def test_specification_is_readable(spec):
    parsed = parse_spec(spec)
    needed = "scans" in SOURCES[parsed.source].options
    assert not needed or "scans" in parsed.options


def test_every_source_has_a_command():
    assert {spec.partition(":")[0] for spec in SPECS} == set(SOURCES)


def test_every_option_is_explained():
    for source in SOURCES.values():
        assert all(f"{option}=" in TEXT for option in source.options), source.usage
