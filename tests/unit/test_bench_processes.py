"""What /proc says of processes: CPU that grows with work, memory whose shared part is counted once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench.processes import cpu_seconds, memory

MEGABYTES = 32


@pytest.fixture
def other() -> Iterator[int]:
    """A second Python that holds some memory."""
    code = f"held = bytes([1]) * {MEGABYTES * 10**6}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_the_time_that_a_process_ran_grows() -> None:
    before = cpu_seconds(os.getpid())
    enough = time.process_time() + 5
    while cpu_seconds(os.getpid()) == before and time.process_time() < enough:
        sum(range(10_000))  # the scheduler's count goes on with its tick
    assert cpu_seconds(os.getpid()) > before > 0


def test_of_two_processes_each_has_its_own_memory_and_a_share_of_the_common_files(other: int) -> None:
    alone = memory({"other": other})
    both = memory({"other": other, "self": os.getpid()})
    assert MEGABYTES < both["other"] < alone["other"] < 2 * MEGABYTES
    assert sum(both.values()) < alone["other"] + memory({"self": os.getpid()})["self"]
