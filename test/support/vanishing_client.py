"""Asks for long answers through the service and the action, says so, and waits to be killed."""

import sys
import threading

from vidllm_ros.action import Query as QueryAction
from vidllm_ros.replay.client import VidllmClient
from vidllm_ros.srv import Query

client = VidllmClient(sys.argv[1], name="vanishing")
assert client._stream.wait_for_server(timeout_sec=60) and client._query.wait_for_service(timeout_sec=60)
goal = client._stream.send_goal_async(QueryAction.Goal(question="Tell me everything", max_new_tokens=60_000))
client._wait(goal, 30)
client._query.call_async(Query.Request(question="And the rest", max_new_tokens=60_000))
print("asked", flush=True)
threading.Event().wait()
