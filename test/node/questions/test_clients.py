"""Clients that change their mind, vanish, or ask nonsense."""

import random
import subprocess
import sys
import threading

import pytest
from action_msgs.msg import GoalStatus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import SUPPORT
from robot import set_parameters

from vidllm_ros.action import Query as QueryAction
from vidllm_ros.replay.client import ClientError
from vidllm_ros.srv import Query


@pytest.fixture(autouse=True)
def seen(client, robot):
    robot.now_ns += 10**12
    robot.windows(1)


def test_a_client_that_is_killed_in_mid_answer(client, node):
    """Its questions end at their deadline at the latest, and others are served."""
    assert set_parameters(client, {"query.timeout": 2.0})["query.timeout"].successful
    script = SUPPORT / "vanishing_client.py"
    process = subprocess.Popen([sys.executable, str(script), "/vidllm"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "asked"
    finally:
        process.kill()
        process.wait()
    start = len(node.log)
    try:
        assert client.ask("Is there still somebody?", max_new_tokens=2, timeout=60.0).success
    finally:
        set_parameters(client, {"query.timeout": 8.0})
    assert "Traceback" not in node.log[start:]


def test_numbers_of_another_type_do_not_end_the_program(client, tmp_path):
    """An int for a float field would."""
    assert client.ask("Is it?", timeout=30, max_new_tokens=2.0, stamp_ns=0.0).success
    assert client.save_map(tmp_path / "map.ply", overwrite=1) > 0


def test_cancelling_at_any_moment(client):
    """Before it starts, while it waits, at the first token, at a later one."""
    source = random.Random(0)
    for number in range(15):
        goal = QueryAction.Goal(question="How many?", max_new_tokens=60_000)
        sent = client._stream.send_goal_async(goal, feedback_callback=lambda _: None)
        handle = client._wait(sent, 20)
        threading.Event().wait(source.choice([0.0, 0.001, 0.01, 0.05, 0.1]) if number else 0.0)
        handle.cancel_goal_async()
        outcome = client._wait(handle.get_result_async(), 30)
        assert outcome.status == GoalStatus.STATUS_CANCELED and "cancelled" in outcome.result.message
    assert client.ask("And now?", max_new_tokens=2).success


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.text(st.characters(max_codepoint=31), max_size=50),
        st.lists(
            st.sampled_from(
                ["<scene>", "</scene>", "<user>", "<assistant>", "<eos>", "<bos>", "<LOC>", "<pad>", "%s", "{0}"]
            ),
            max_size=12,
        ).map("".join),
        st.integers(1, 200_000).map(lambda length: "?" * length),
    ),
    st.integers(0, 255),
    st.integers(0, 255),
    st.text(max_size=20),
)
def test_any_question_gets_an_answer_or_a_reason(client, text, task, scope, frame_id):
    """Whatever the text, it is text: nothing in it is run, opened or taken for the prompt's own marks."""
    text, frame_id = (value.replace("\0", " ") for value in (text, frame_id))  # DDS strings end at a zero
    try:
        reply = client.ask(text, task=task, scope=scope, frame_id=frame_id, max_new_tokens=2)
        assert reply.success
    except ClientError as error:
        assert error.code in (Query.Response.INVALID_REQUEST, Query.Response.TF_ERROR) and str(error)
