"""Threads that hold memory share few heaps, according to glibc's statistics."""

import platform
import subprocess
import sys

import pytest

COUNT_HEAPS = """
import ctypes, sys, threading
from zeroseg.live.memory import limit_arenas
if sys.argv[2] == "limited":
    assert limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype, libc.malloc_info.argtypes, libc.fclose.argtypes = (
    ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p])
together = threading.Barrier(6)
def hold():
    together.wait()
    libc.malloc(50_000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("how, expected", [("limited", range(1, 3)), ("free", range(3, 8))])
def test_threads_share_heaps(tmp_path, how, expected):
    account = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", COUNT_HEAPS, account, how], check=True)
    assert account.read_text().count("<heap nr=") in expected
