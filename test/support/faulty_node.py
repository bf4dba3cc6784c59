"""The real node, with faults that a question can call for: what hardware and bugs do, but on demand."""

import sys
import threading
import time
from dataclasses import replace

import numpy as np
import torch

from vidllm_ros.node.main import main
from vidllm_ros.node.questions import query_server
from vidllm_ros.perception import pipeline
from vidllm_ros.perception.mapping import save
from vidllm_ros.perception.pipeline import Pipeline

_ask = Pipeline.ask
_reconstruct = pipeline.reconstruct
_check = query_server.check_request
_fsync = save.os.fsync
_faults: set[str] = set()
SWITCHES = (
    "break the windows",
    "starve the windows",
    "slow the windows",
    "end the thread at a window",
    "hang at a window",
    "hold the camera still",
    "fill the disk",
)
_go_on = threading.Event()


def ask(self, question, **changes):
    if "run out of memory once" in question and "once" not in _faults:
        _faults.add("once")
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if "run out of memory always" in question:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if "fail" in question:
        raise RuntimeError("a kernel broke")
    if "end the thread" in question:
        sys.exit(3)
    return _ask(self, question, **changes)


def reconstruct(model, window, *arguments):
    if "break the windows" in _faults:
        raise RuntimeError("a kernel broke")
    if "starve the windows" in _faults and len(window.frames) > 2:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if "slow the windows" in _faults:
        time.sleep(0.4)
    if "end the thread at a window" in _faults:
        _faults.discard("end the thread at a window")
        sys.exit(3)
    if "hang at a window" in _faults:
        _go_on.wait()
    result = _reconstruct(model, window, *arguments)
    if "hold the camera still" in _faults:
        result = replace(result, T_window_camera=np.tile(np.eye(4), (len(window.frames), 1, 1)))
    return result


def check_request(text, *arguments, **limits):
    """A question is taken before it waits, so a fault can be mended while the worker hangs."""
    if "break the node" in text:
        raise ZeroDivisionError("a bug")
    if "hang at a window" in text:
        _go_on.clear()
    _faults.update(words for words in SWITCHES if words in text)
    if "mend" in text:
        _faults.clear()
        _go_on.set()
    return _check(text, *arguments, **limits)


def fsync(descriptor):
    if "fill the disk" in _faults:
        raise OSError(28, "No space left on device")
    _fsync(descriptor)


Pipeline.ask = ask
pipeline.reconstruct = reconstruct
query_server.check_request = check_request
save.os.fsync = fsync
if __name__ == "__main__":
    main()
