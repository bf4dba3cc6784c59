"""The real node, with faults that a question can call for: what hardware and bugs do, but on demand."""

import torch

from vidllm_ros.node import query_server
from vidllm_ros.node.main import main
from vidllm_ros.perception.pipeline import Pipeline

_ask = Pipeline.ask
_check = query_server.check_request


def ask(self, question, **changes):
    if "run out of memory" in question:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if "fail" in question:
        raise RuntimeError("a kernel broke")
    return _ask(self, question, **changes)


def check_request(text, *arguments, **limits):
    if "break the node" in text:
        raise ZeroDivisionError("a bug")
    return _check(text, *arguments, **limits)


Pipeline.ask = ask
query_server.check_request = check_request
main()
