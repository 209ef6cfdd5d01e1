"""Child processes: how they are started, how their end is told, and when they may start again."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.children import STEADY, Backoff, Child, Restarts, describe, reap, spawn
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import Ready, Stop, Stopped


@pytest.fixture
def engine() -> Iterator[Child]:
    child = spawn("engine", ["node-1", "error", "text"], now=7.0)
    yield child
    child.kill()
    child.channel.close()
    child.process.wait()


def wait_for_end(pid: int) -> None:
    """Wait without collecting the process: that is what is tested."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_child_speaks_through_its_channel_and_ends_when_told(engine: Child) -> None:
    assert reap([engine]) == []
    engine.channel.send(Stop())
    wait_for_end(engine.process.pid)
    assert engine.channel.receive() == (Ready(), [])
    assert engine.channel.receive() == (Stopped(), [])
    with pytest.raises(ChannelClosedError):
        engine.channel.receive()
    assert reap([engine]) == [(engine, 0)]
    assert reap([engine]) == []
    assert (engine.name, engine.started, engine.process.returncode) == ("engine", 7.0, 0)


def test_a_child_is_an_exec_of_its_own_with_one_descriptor_and_its_parents_pid(engine: Child) -> None:
    engine.process.send_signal(signal.SIGSTOP)  # spawn returned after the exec; from here on nothing changes
    os.waitid(os.P_PID, engine.process.pid, os.WSTOPPED | os.WNOWAIT)
    proc = Path(f"/proc/{engine.process.pid}")
    words = [os.fsdecode(word) for word in (proc / "cmdline").read_bytes().split(b"\0")[:-1]]
    assert words[:5] == [sys.executable, "-P", "-m", "sidecar", "engine"]
    assert words[6:] == [str(os.getpid()), "node-1", "error", "text"]
    assert (proc / "fd" / words[5]).readlink().name.startswith("socket:")
    assert (proc / "fd" / "0").readlink() == Path("/dev/null")
    ours = Path(f"/proc/self/fd/{engine.channel.fileno()}").readlink()
    assert ours not in [path.readlink() for path in (proc / "fd").iterdir()]


def test_a_killed_child_is_told_by_its_signal(engine: Child) -> None:
    engine.kill()
    wait_for_end(engine.process.pid)
    assert reap([engine]) == [(engine, -signal.SIGKILL)]
    engine.kill()  # whoever is gone is not killed again


def test_strangers_are_collected_and_not_told() -> None:
    stranger = subprocess.Popen(["true"])
    wait_for_end(stranger.pid)
    assert reap([]) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(stranger.pid, os.WNOHANG)
    stranger.returncode = 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-9, "was ended by SIGKILL"),
        (-11, "was ended by SIGSEGV"),
        (-34, "was ended by SIGRTMIN"),
        (-35, "was ended by signal 35"),  # real-time signals but for the first and the last have no name
    ],
)
def test_an_exit_code_in_words(code: int, words: str) -> None:
    assert describe(code) == words


def test_a_child_that_keeps_dying_waits_longer_and_longer() -> None:
    backoff = Backoff()
    assert [backoff.after_death(lived=0.1) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_child_that_lived_for_long_starts_anew_at_once() -> None:
    backoff = Backoff()
    delays = [backoff.after_death(lived=lived) for lived in (0.1, 0.1, 0.1, STEADY, STEADY - 0.1, 0.1)]
    assert delays == [0, 1, 2, 0, 1, 2]


def test_even_after_years_of_deaths_the_wait_is_bounded() -> None:
    backoff = Backoff()
    assert max(backoff.after_death(lived=0.0) for _ in range(5000)) == 30.0


def test_restarts_are_due_when_their_wait_is_over_and_once() -> None:
    restarts = Restarts()
    assert (restarts.next(), restarts.due(1e9), restarts.wait("engine", 5.0)) == (math.inf, [], 0.0)
    assert restarts.schedule("engine", lived=0.1, now=10.0) == 0.0
    assert restarts.due(10.0) == ["engine"]
    assert restarts.schedule("engine", lived=0.1, now=10.5) == 1.0
    assert restarts.schedule("agent", lived=0.1, now=10.5) == 0.0  # each has its own patience
    assert (restarts.next(), restarts.wait("engine", 10.5)) == (10.5, 1.0)
    assert restarts.due(11.0) == ["agent"]
    assert restarts.due(11.5) == ["engine"]
    assert restarts.due(99.0) == []


def test_restarts_that_are_cancelled_are_never_due() -> None:
    restarts = Restarts()
    restarts.schedule("engine", lived=0.1, now=10.0)
    restarts.cancel()
    assert (restarts.next(), restarts.due(99.0)) == (math.inf, [])
