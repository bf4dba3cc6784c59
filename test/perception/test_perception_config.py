"""Every configuration value describes itself and refuses what it cannot be."""

from __future__ import annotations

import pytest

from vidllm_ros.perception.config import PerceptionConfig, WindowConfig
from vidllm_ros.perception.errors import ConfigError

PARAMETERS = list(PerceptionConfig.parameters())


def test_names_are_unique_and_defaults_are_the_documented_ones():
    names = [parameter.name for parameter in PARAMETERS]
    assert len(names) == len(set(names))
    values = PerceptionConfig().values()
    assert list(values) == names
    expected = {
        "window.size": 32,
        "window.stride": 16,
        "window.sample_rate": 4.0,
        "window.max_frame_gap": 1.0,
        "window.history": 4,
        "scale.max_spread": 0.15,
        "cloud.max_range": 8.0,
        "cloud.voxel_size": 0.03,
        "cloud.max_points": 200_000,
        "map.enabled": True,
        "map.voxel_size": 0.05,
        "map.max_points": 2_000_000,
        "path.max_poses": 1024,
        "query.max_new_tokens": 256,
        "query.temperature": 0.0,
    }
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_each_value_has_a_description_and_a_range_that_holds(parameter):
    assert parameter.description.endswith(".") and len(parameter.description) > 15
    config = PerceptionConfig()
    assert config.replace({parameter.name: parameter.default}) == config
    if parameter.kind in (int, float):
        assert parameter.minimum <= parameter.default <= parameter.maximum
        for beyond in (parameter.minimum - 1, parameter.maximum + 1):
            with pytest.raises(ConfigError, match=f"{parameter.name} is {parameter.kind(beyond)}; it must be from"):
                config.replace({parameter.name: parameter.kind(beyond)})
        edges = {parameter.kind(parameter.minimum), parameter.kind(parameter.maximum)}
        for edge in edges - {1} if parameter.name == "window.size" else edges:
            other = {"window.stride": 1} if parameter.name == "window.size" else {"window.size": 64}
            assert config.replace({**other, parameter.name: edge}).values()[parameter.name] == edge
    wrong = 3 if parameter.kind is not int else "3"
    if parameter.kind is not float:
        with pytest.raises(ConfigError, match=f"{parameter.name} is {wrong!r}; it must be"):
            config.replace({parameter.name: wrong})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1.0", None])
def test_a_number_must_be_a_finite_number(value):
    with pytest.raises(ConfigError, match="cloud.max_range is"):
        PerceptionConfig().replace({"cloud.max_range": value})


def test_whole_numbers_are_accepted_for_numbers_but_not_the_other_way_round():
    assert PerceptionConfig().replace({"cloud.max_range": 5}).cloud.max_range == 5.0
    with pytest.raises(ConfigError, match="window.size is 8.0; it must be a whole number"):
        PerceptionConfig().replace({"window.size": 8.0})


def test_labels_are_a_list_of_texts():
    assert PerceptionConfig().replace({"detection.labels": ["plant"]}).detection.labels == ("plant",)
    assert PerceptionConfig().replace({"detection.labels": []}).detection.labels == ()
    for wrong in (["plant", ""], [3], "plant"):
        with pytest.raises(ConfigError, match=r"detection\.labels"):
            PerceptionConfig().replace({"detection.labels": wrong})


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"unknown parameter 'window.strid'.*'window.stride'"):
        PerceptionConfig().replace({"window.strid": 8})


def test_stride_must_not_exceed_size():
    with pytest.raises(ConfigError, match=r"window.stride is 16; it must not be above window.size \(8\)"):
        PerceptionConfig().replace({"window.size": 8})
    assert PerceptionConfig().replace({"window.size": 8, "window.stride": 8}).window == WindowConfig(size=8, stride=8)


def test_values_rebuild_the_configuration():
    config = PerceptionConfig().replace({"window.size": 8, "window.stride": 2, "map.enabled": False})
    assert PerceptionConfig().replace(config.values()) == config
