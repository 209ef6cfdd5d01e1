"""The engine's process, from exec to exit, with us as its parent."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sidecar.children import Child, spawn
from sidecar.ipc.channel import pair
from sidecar.ipc.messages import Bind, Ready, StatusReply, StatusRequest, Stop, Stopped


@contextlib.contextmanager
def running() -> Iterator[Child]:
    """An engine that is ready. In the test itself, so that capfd hears it."""
    engine = spawn("engine", ["node-7", "info", "json"], now=0.0)
    try:
        assert select.select([engine.channel], [], [], 60)[0]
        assert engine.channel.receive() == (Ready(), [])
        yield engine
    finally:
        engine.kill()
        engine.channel.close()
        engine.process.wait()


def answer(engine: Child) -> StatusReply:
    engine.channel.send(StatusRequest(token=5))
    assert select.select([engine.channel], [], [], 60)[0]
    received = engine.channel.receive()
    assert received is not None
    assert isinstance(received[0], StatusReply)
    return received[0]


def test_it_knows_its_node_and_ends_when_told() -> None:
    with running() as engine:
        told = answer(engine)
        assert (told.token, told.node, told.groups, told.interfaces) == (5, "node-7", (), ())
        engine.channel.send(Stop())
        assert engine.process.wait(60) == 0
        assert engine.channel.receive() == (Stopped(), [])


def test_signals_are_the_parents_business() -> None:
    with running() as engine:
        answer(engine)  # it has set itself up
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            engine.process.send_signal(number)
        assert answer(engine).token == 5
        engine.channel.send(Stop())
        assert engine.process.wait(60) == 0


def test_it_logs_under_its_own_name(capfd: pytest.CaptureFixture[str]) -> None:
    with running() as engine:
        engine.channel.send(Bind(group="web", until=1.0))
        engine.channel.send(Stop())
        assert engine.process.wait(60) == 0
    (line,) = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["process"]) == ("error", "engine")


def test_without_its_parent_it_ends() -> None:
    with running() as engine:
        answer(engine)
        engine.channel.close()
        assert engine.process.wait(60) == 1


def test_it_ends_at_once_if_its_parent_is_gone_already() -> None:
    ours, theirs = pair()
    with theirs:
        fd = theirs.fileno()
        command = [sys.executable, "-P", "-m", "sidecar", "engine", str(fd), str(os.getpid() + 1), "n", "info", "json"]
        assert subprocess.run(command, pass_fds=[fd], check=False, timeout=60).returncode == 1
    ours.close()
