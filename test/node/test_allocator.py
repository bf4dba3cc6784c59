"""Memory that threads share."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
from vidllm_ros.node.allocator import limit_arenas

libc = ctypes.CDLL(None)
for name in ("malloc", "fopen"):
    getattr(libc, name).restype = ctypes.c_void_p
assert sys.argv[1] == "default" or limit_arenas(2)
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
