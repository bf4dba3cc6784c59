"""Starts nodes within a second: imports everything once, and forks one for each request on standard input.

A request is a line of JSON: {"start": [ROS arguments], "log": FILE} prints the process id, {"wait": ID} its exit code.
"""

import json
import os
import sys

from vidllm_ros.node import node  # noqa: F401  (imports everything)
from vidllm_ros.node.main import main

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        main(["--ros-args", *request["start"]])
    print(child, flush=True)
