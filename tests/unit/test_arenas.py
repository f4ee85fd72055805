"""Threads share few heaps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api.arenas import MOST_ARENAS

CROWD = """
import ctypes, sys, threading
from api import arenas
if sys.argv[1] == "few":
    arenas.keep_few()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
everybody = threading.Barrier(8)
def allocate():
    everybody.wait()
    libc.malloc(ctypes.c_size_t(1000))
    everybody.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""
"""Eight threads that allocate at the same time; glibc then writes down its heaps."""


@pytest.mark.parametrize("how", ["few", "many"])
def test_a_crowd_of_threads_shares_few_heaps(how: str, tmp_path: Path) -> None:
    """A worker's memory crept up by 80 MiB an hour, in heaps that no other thread could use."""
    heaps = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", CROWD, how, heaps], check=True, timeout=60)
    found = heaps.read_text().count("<heap nr=")
    assert found <= MOST_ARENAS if how == "few" else found > MOST_ARENAS
