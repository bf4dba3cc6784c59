"""The real node, with faults that a question can call for: what hardware and bugs do, but on demand."""

import torch

from vidllm_ros.node import query_server
from vidllm_ros.node.main import main
from vidllm_ros.perception.pipeline import Pipeline

_ask = Pipeline.ask
_process = Pipeline.process
_check = query_server.check_request
_broken_windows = False


def ask(self, question, **changes):
    global _broken_windows
    if "windows" in question:
        _broken_windows = "break" in question
    if "run out of memory" in question:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if "fail" in question:
        raise RuntimeError("a kernel broke")
    return _ask(self, question, **changes)


def process(self, window, *arguments):
    if _broken_windows:
        raise RuntimeError("a kernel broke")
    return _process(self, window, *arguments)


def check_request(text, *arguments, **limits):
    if "break the node" in text:
        raise ZeroDivisionError("a bug")
    return _check(text, *arguments, **limits)


Pipeline.ask, Pipeline.process = ask, process
query_server.check_request = check_request
main()
