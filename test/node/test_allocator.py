"""Memory that threads share, and that is used again."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
from vidllm_ros.node.allocator import tune_allocator

libc = ctypes.CDLL(None)
for name in ("malloc", "fopen"):
    getattr(libc, name).restype = ctypes.c_void_p
assert sys.argv[1] == "default" or tune_allocator(2)
together = threading.Barrier(8)

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_two_arenas(tmp_path):
    arenas = {}
    for limit in ("default", "two"):
        path = tmp_path / limit
        subprocess.run([sys.executable, "-c", SCRIPT, limit, str(path)], check=True, timeout=60)
        arenas[limit] = path.read_text().count("<heap nr=")
    assert arenas["two"] == 2 < arenas["default"]


REUSE = """
import resource, sys
import numpy as np
from vidllm_ros.node.allocator import tune_allocator

assert sys.argv[1] == "default" or tune_allocator()
for round in range(40):
    np.ones(1_000_000 + 50_000 * (round % 5))  # 8 to 10 MB
    if round == 4:
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_large_arrays_are_used_again():
    """Without, these cost 800 page faults, although glibc adapts to the largest array that it has seen freed."""
    command = [sys.executable, "-c", REUSE, "tuned"]
    faults = int(subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout)
    assert faults < 100
