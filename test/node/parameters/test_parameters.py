"""Every parameter is declared with its description, type and range, and either changes or says why not."""

import ast

import pytest
import rclpy
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import REPOSITORY
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from robot import get_parameters, set_parameters

from vidllm_ros.node.parameters.config import Changes, NodeConfig, NodeParameter
from vidllm_ros.node.parameters.declared import Parameters, all_parameters
from vidllm_ros.node.parameters.parameter_file import parameter_file
from vidllm_ros.perception.errors import ConfigError

ALL = {parameter.name: parameter for parameter in all_parameters()}


@pytest.fixture(scope="module")
def context():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def declare(context):
    """Declares everything on a bare node with the given overrides."""
    nodes = []

    def declare(overrides=None, configured=False, listener=lambda *_: None):
        node = Node(
            "parameters",
            context=context,
            parameter_overrides=[RosParameter(name, value=value) for name, value in (overrides or {}).items()],
        )
        nodes.append(node)
        return node, Parameters(node, lambda: configured, listener)

    yield declare
    for node in nodes:
        node.destroy_node()


def test_names_are_unique():
    assert len(ALL) == len(all_parameters())


@pytest.mark.parametrize("name", ALL)
def test_each_is_declared_with_description_type_and_range(declare, name):
    node, _ = declare()
    parameter, descriptor = ALL[name], node.describe_parameter(name)
    assert descriptor.description == parameter.description and parameter.description.endswith(".")
    value = node.get_parameter(name).value
    assert (tuple(value) if parameter.kind is tuple else value) == parameter.default
    if parameter.kind in (int, float):
        ranges = descriptor.integer_range if parameter.kind is int else descriptor.floating_point_range
        assert (ranges[0].from_value, ranges[0].to_value) == (parameter.minimum, parameter.maximum)
    if isinstance(parameter, NodeParameter):
        assert descriptor.read_only == (parameter.changes is Changes.AT_START)
        assert all(choice in descriptor.additional_constraints for choice in parameter.choices)


@pytest.mark.parametrize("name", [name for name, p in ALL.items() if p.kind in (int, float)])
def test_each_number_out_of_range_is_refused_with_the_reason(declare, name):
    node, parameters = declare()
    parameter = ALL[name]
    if node.describe_parameter(name).read_only:
        return
    for value in (parameter.minimum - 1, parameter.maximum + 1):
        (result,) = node.set_parameters([RosParameter(name, value=parameter.kind(value))])
        assert not result.successful and result.reason
        with pytest.raises(ConfigError, match=f"{name} is .*must be from"):
            parameter.check(value)
    assert node.get_parameter(name).value == parameter.default


@pytest.mark.parametrize("name", [n for n, p in ALL.items() if isinstance(p, NodeParameter) and p.choices])
def test_each_choice_is_taken_and_others_are_refused(declare, name):
    node, parameters = declare()
    for choice in ALL[name].choices:
        if (name, choice) == ("anchor", "tf") or name == "publish_tf":
            continue
        (result,) = node.set_parameters([RosParameter(name, value=choice)])
        assert result.successful, result.reason
        assert getattr(parameters.node, name) == choice
    (result,) = node.set_parameters([RosParameter(name, value="nonsense")])
    assert not result.successful and "must be one of" in result.reason


def test_fixed_parameters_change_only_while_unconfigured(declare):
    node, parameters = declare(configured=True)
    (result,) = node.set_parameters([RosParameter("device", value="cpu")])
    assert not result.successful and "while the node is unconfigured" in result.reason and "cleanup" in result.reason
    (result,) = node.set_parameters([RosParameter("tf_timeout", value=1.0)])
    assert result.successful and parameters.node.tf_timeout == 1.0
    (result,) = node.set_parameters([RosParameter("autostart", value=False)])
    assert not result.successful


def test_values_that_contradict_each_other_are_refused(declare):
    node, parameters = declare()
    (result,) = node.set_parameters([RosParameter("window.stride", value=40)])
    assert not result.successful and "window.stride is 40" in result.reason
    assert parameters.perception.window.stride == 16
    result = node.set_parameters_atomically(
        [RosParameter("window.size", value=48), RosParameter("window.stride", value=40)]
    )
    assert result.successful and parameters.perception.window.size == 48
    result = node.set_parameters_atomically(
        [RosParameter("anchor", value="tf"), RosParameter("publish_tf", value="map_to_camera")]
    )
    assert not result.successful and "anchored to the transform it broadcasts itself" in result.reason
    result = node.set_parameters_atomically(
        [
            RosParameter("anchor", value="tf"),
            RosParameter("publish_tf", value="map_to_odom"),
            RosParameter("anchor_frame", value="odom"),
        ]
    )
    assert result.successful and parameters.node.anchors_to_tf


def test_auto_does_not_anchor_to_its_own_broadcast():
    assert NodeConfig().anchors_to_tf
    assert not NodeConfig(publish_tf="map_to_camera").anchors_to_tf
    assert NodeConfig(publish_tf="map_to_odom", anchor_frame="odom").anchors_to_tf
    assert not NodeConfig(anchor="none").anchors_to_tf


def test_a_whole_number_is_taken_for_a_float_at_start(declare):
    node, parameters = declare({"cloud.max_range": 3, "window.size": 8, "window.stride": 4})
    assert parameters.perception.cloud.max_range == 3.0
    assert node.get_parameter("cloud.max_range").value == 3.0


@pytest.mark.parametrize("labels", [[], ["chair", "red sofa"]])
def test_labels_may_be_empty(declare, labels):
    node, parameters = declare({"detection.labels": labels})
    assert parameters.perception.detection.labels == tuple(labels)
    (result,) = node.set_parameters([RosParameter("detection.labels", value=[])])
    assert result.successful and parameters.perception.detection.labels == ()
    (result,) = node.set_parameters([RosParameter("detection.labels", value=["a", " "])])
    assert not result.successful and "non-empty" in result.reason


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("window.size", 1, "window.size is 1; it must be from 2 to 64"),
        ("window.size", "many", "window.size is 'many'; it must be a whole number"),
        ("map.enabled", 1, "map.enabled is 1; it must be true or false"),
        ("image_qos", "fast", "image_qos is 'fast'; it must be one of sensor_data"),
    ],
)
def test_a_bad_value_at_start_is_named(declare, name, value, words):
    with pytest.raises(ConfigError) as caught:
        declare({name: value})
    assert words in str(caught.value)


def test_an_unknown_name_is_reported_with_the_nearest_known_one(declare):
    _, parameters = declare({"window.siez": 8, "qos_overrides./image.subscription.depth": 3, "use_sim_time": True})
    assert parameters.unknown == (
        "unknown parameter 'window.siez' has no effect; the nearest known one is 'window.size'",
    )


def test_a_listener_can_refuse(declare):
    def listener(config, perception):
        raise ConfigError("not now")

    node, parameters = declare(listener=listener)
    (result,) = node.set_parameters([RosParameter("tf_timeout", value=1.0)])
    assert not result.successful and result.reason == "not now" and parameters.node.tf_timeout == 0.2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(ALL)),
    st.one_of(
        st.integers(-(2**62), 2**62), st.floats(), st.text(max_size=20), st.booleans(), st.lists(st.text(max_size=5))
    ),
)
def test_any_value_is_taken_or_refused_with_a_reason(name, value):
    parameter = ALL[name]
    try:
        checked = parameter.check(value)
    except ConfigError as error:
        assert name in str(error)
    else:
        assert isinstance(checked, parameter.kind)


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    result = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        result |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result


def test_the_parameter_file_holds_every_parameter_with_its_default():
    values = flat(yaml.safe_load((REPOSITORY / "config" / "vidllm.yaml").read_text())["/**"]["ros__parameters"])
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()} == {
        name: parameter.default for name, parameter in ALL.items()
    }


def test_the_parameter_file_is_up_to_date():
    """After a change: python -m vidllm_ros.node.parameters.parameter_file > config/vidllm.yaml."""
    assert (REPOSITORY / "config" / "vidllm.yaml").read_text() == parameter_file()


def test_every_node_parameter_is_used():
    """Each field of NodeConfig is read somewhere; that perception's have an effect is tested there."""
    import dataclasses

    attributes: set[str] = set()
    for path in (REPOSITORY / "vidllm_ros" / "node").rglob("*.py"):
        tree = ast.parse(path.read_text())
        attributes |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    assert {field.name for field in dataclasses.fields(NodeConfig)} <= attributes


def test_run_time_changes_take_effect_in_the_running_node(client, robot):
    client.reset()
    robot.windows(1)
    try:
        results = set_parameters(client, {"detection.labels": ["lamp", "red door"], "cloud.max_points": 7})
        assert all(result.successful for result in results.values()), results
        robot.windows(2)
        robot.received["detections"].clear()
        robot.received["points"].clear()
        robot.windows(1)
        assert robot.newest("points").width <= 7
        labels = {d.results[0].hypothesis.class_id for d in robot.newest("detections").detections}
        assert labels == {"lamp", "red door"}
        assert set_parameters(client, {"window.size": 6})["window.size"].successful
        robot.windows(2)
        assert robot.windows(1)[-1].frame_count == 6
    finally:
        set_parameters(client, {"detection.labels": ["chair"], "cloud.max_points": 200_000, "window.size": 4})
    refused = set_parameters(client, {"map_frame": "world"})["map_frame"]
    assert not refused.successful and "unconfigured" in refused.reason
    assert get_parameters(client, ["map_frame", "window.size"]) == ["map", 4]


def test_empty_labels_stop_the_search_for_boxes(client, robot):
    try:
        assert set_parameters(client, {"detection.labels": []})["detection.labels"].successful
        robot.windows(2)
        robot.received["detections"].clear()
        robot.windows(2)
        assert not robot.received["detections"]
    finally:
        set_parameters(client, {"detection.labels": ["chair"]})


def test_every_parameter_of_the_running_node_changes_or_says_why_not(client):
    """Each value is taken and can be read back, or is refused with its reason and stays."""
    before = dict(zip(ALL, get_parameters(client, list(ALL)), strict=True))
    try:
        results = set_parameters(client, {name: before[name] if before[name] != [] else [] for name in ALL})
        for name, parameter in ALL.items():
            fixed = isinstance(parameter, NodeParameter) and parameter.changes is not Changes.ANY_TIME
            assert results[name].successful != fixed, (name, results[name].reason)
            assert results[name].successful or "unconfigured" in results[name].reason or "read" in results[name].reason
        wrong = {n: p.maximum * 2 + 1 for n, p in ALL.items() if p.kind in (int, float) and p.maximum is not None}
        for name, result in set_parameters(client, wrong).items():
            assert not result.successful and result.reason, name
        assert dict(zip(ALL, get_parameters(client, list(ALL)), strict=True)) == before
    finally:
        set_parameters(client, {name: value for name, value in before.items() if name.startswith("window.")})


def test_an_unknown_key_in_a_parameter_file_is_named_in_the_log(capfd, tmp_path):
    from vidllm_ros.node.node import VidllmNode

    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    window.siez: 8\n    map:\n      voxelsize: 0.1\n    autostart: false\n"
    )
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(file), "-r", "__ns:=/typo"], context=context)
    node = VidllmNode(context=context)
    node.close()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    said = "".join(capfd.readouterr())
    assert "unknown parameter 'window.siez' has no effect; the nearest known one is 'window.size'" in said
    assert "unknown parameter 'map.voxelsize' has no effect; the nearest known one is 'map.voxel_size'" in said
