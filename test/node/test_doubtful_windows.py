"""Windows that must not be believed: they say so, leave the map alone, and the node recovers by itself."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_process import wait_for
from robot import set_parameters

from vidllm_ros.msg import WindowInfo

SANE = {"scale.max_spread": 0.15, "stitch.max_residual": 10.0, "stitch.max_rejections": 0}


@pytest.fixture
def change(client, robot):
    """Changes parameters of the running node; everything is as before afterwards, and windows are placed again."""
    client.reset()
    robot.now_ns += 10**12
    robot.windows(1)

    def apply(**values) -> None:
        results = set_parameters(client, {name.replace("__", "."): value for name, value in values.items()})
        assert all(result.successful for result in results.values()), results

    yield apply
    set_parameters(client, SANE)
    placed = (WindowInfo.STATUS_FIRST, WindowInfo.STATUS_STITCHED)
    wait_for(lambda: robot.windows(1)[-1].status in placed, 60)


def status(robot) -> DiagnosticStatus:
    robot.received["diagnostics"].clear()
    return {s.name: s for s in robot.newest("diagnostics").status}["vidllm: windows"]


def window_that(robot, condition) -> WindowInfo:
    return wait_for(lambda: next((w for w in robot.windows(1) if condition(w)), None), 60)


def test_a_scale_that_spreads_too_much(change, robot):
    change(scale__max_spread=0.0)
    window = window_that(robot, lambda w: w.scale_source == WindowInfo.SCALE_UNRELIABLE)
    assert window.scale_spread > 0
    wait_for(lambda: "the scale is unreliable" in status(robot).message, 30)
    assert status(robot).level == DiagnosticStatus.WARN
    change(scale__max_spread=10.0)
    window_that(robot, lambda w: w.scale_source == WindowInfo.SCALE_METRIC)


def test_an_overlap_that_does_not_align(change, client, robot, tmp_path):
    change(map__publish_period=0.0)
    robot.windows(2)
    change(stitch__max_residual=1e-4, stitch__max_rejections=100)
    window = window_that(robot, lambda w: w.status == WindowInfo.STATUS_REJECTED)
    assert "stitch.max_residual" in window.reason or "degrees" in window.reason or "times the map's" in window.reason
    assert window.point_count == 0
    wait_for(lambda: "the last window is not in the map: " in status(robot).message, 30)
    points = client.save_map(str(tmp_path / "before.ply"))
    rejected = [w for w in robot.windows(4) if w.status == WindowInfo.STATUS_REJECTED]
    assert len(rejected) >= 3
    assert client.save_map(str(tmp_path / "after.ply")) == points
    poses = (np.loadtxt(tmp_path / f"{name}.tum", ndmin=2) for name in ("before", "after"))
    np.testing.assert_array_equal(*poses)
    assert client.ask("Still there?", max_new_tokens=2).success  # from the window that is in the map


def test_a_map_that_does_not_align_any_more_starts_again_after_the_limit(change, robot):
    change(stitch__max_residual=1e-4, stitch__max_rejections=2)
    window_that(robot, lambda w: w.status == WindowInfo.STATUS_REJECTED)
    window_that(robot, lambda w: w.status == WindowInfo.STATUS_FIRST)


def test_a_reset_helps_out_of_rejections(change, client, robot):
    change(stitch__max_residual=1e-4, stitch__max_rejections=100)
    window_that(robot, lambda w: w.status == WindowInfo.STATUS_REJECTED)
    client.reset()
    window = window_that(robot, lambda w: w.window_id == 0)
    assert window.status == WindowInfo.STATUS_FIRST
