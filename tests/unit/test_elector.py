"""The parent's side of the engine: real engines, and processes that stand in for broken ones."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from sidecar.children import Child
from sidecar.elector import Elector
from sidecar.ipc.channel import pair
from sidecar.ipc.messages import Bind, Message, Release, Renew, StatusReply, StatusRequest, Stop, Stopped
from sidecar.reactor import Reactor
from tests.fakes.plans import node_plan


class Parent:
    """An elector whose words are kept."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.heard: list[Message] = []
        self.elector = Elector(node_plan(), self.reactor, self.heard.append)
        self.far: socket.socket | None = None

    @property
    def child(self) -> Child:
        assert self.elector.child is not None
        return self.elector.child

    def stand_in(self) -> socket.socket:
        """Put a process that does nothing in an engine's place; return the engine's end of the channel."""
        ours, self.far = pair()
        process = subprocess.Popen(["sleep", "1000"])
        self.elector.child, self.elector.ready = Child("engine", process, ours, 0.0), True
        return self.far

    def close(self) -> None:
        if self.elector.child is not None:
            self.child.kill()
            self.child.process.wait()
            self.child.channel.close()
        if self.far is not None:
            self.far.close()


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.close()


def test_an_engine_is_introduced_told_and_listened_to(parent: Parent) -> None:
    parent.elector.tell(Stop())  # to nobody
    parent.elector.start(lambda: [(StatusRequest(token=1), []), (StatusRequest(token=2), [])])
    parent.elector.tell(StatusRequest(token=3))  # not before it is ready
    assert not parent.elector.ready
    assert parent.elector.begins_by < time.monotonic() + 60
    while not parent.elector.ready:
        parent.reactor.turn(30)
    assert parent.elector.begins_by == math.inf
    parent.elector.stop()
    while not any(isinstance(message, Stopped) for message in parent.heard):
        parent.reactor.turn(30)
    first, second, _ = parent.heard
    assert isinstance(first, StatusReply)
    assert isinstance(second, StatusReply)
    assert (first.token, second.token) == (1, 2)


def test_the_last_words_of_one_that_is_gone_are_heard(parent: Parent) -> None:
    channel = parent.stand_in()
    child = parent.child
    channel.send(b'\1{"kind":"Bind","group":"web","until":1.5}')
    channel.close()
    parent.elector.ended()
    assert (parent.heard, parent.elector.child) == ([Bind(group="web", until=1.5)], None)
    parent.elector.tell(Stop())  # to nobody
    child.kill()
    child.process.wait()
    child.channel.close()


def test_what_the_engine_gave_up_while_this_process_slept_is_not_bound_again(parent: Parent) -> None:
    channel = parent.stand_in()
    for kind, group in [("Renew", "web"), ("Renew", "db"), ("Renew", "web"), ("Release", "web"), ("Bind", "web")]:
        until = "" if kind == "Release" else ',"until":1.5'
        channel.send(f'\1{{"kind":"{kind}","group":"{group}"{until}}}'.encode())
    parent.elector.listen()
    assert parent.heard == [Renew(group="db", until=1.5), Release(group="web"), Bind(group="web", until=1.5)]
    assert not parent.elector.waiting


def test_nonsense_is_its_end(parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
    parent.stand_in().send(b"\1nonsense")
    parent.elector.listen()
    assert parent.child.process.wait() == -signal.SIGKILL
    assert caplog.messages[0].startswith("the engine sent nonsense (")


def test_one_that_does_not_read_is_ended(parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
    parent.elector.start(tuple)
    while not parent.elector.ready:
        parent.reactor.turn(30)
    os.kill(parent.child.process.pid, signal.SIGSTOP)
    while not caplog.messages:
        parent.elector.tell(StatusRequest(token=1))
    assert caplog.messages == ["the engine does not read what it is told; it is started anew"]
    assert parent.child.process.wait() == -signal.SIGKILL


def test_one_that_died_at_once_is_no_error_here(parent: Parent) -> None:
    def introduction() -> Iterator[tuple[Message, list[int]]]:
        parent.child.kill()
        os.waitid(os.P_PID, parent.child.process.pid, os.WEXITED | os.WNOWAIT)
        yield StatusRequest(token=1), []

    parent.elector.start(introduction)
    while not parent.elector.ready:
        parent.reactor.turn(30)


def test_one_that_does_not_become_ready_is_ended(parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
    parent.elector.start(tuple)
    os.kill(parent.child.process.pid, signal.SIGSTOP)
    parent.elector.check(parent.elector.begins_by - 1)
    assert caplog.messages == []
    parent.elector.check(parent.elector.begins_by)
    assert caplog.messages == ["the engine does not read what it is told; it is started anew"]
    parent.elector.check(time.monotonic() + 100)
    assert len(caplog.messages) == 1
    assert parent.child.process.wait() == -signal.SIGKILL


def test_a_stop_ends_one_that_is_not_ready(parent: Parent) -> None:
    parent.elector.start(tuple)
    parent.elector.stop()
    assert parent.child.process.wait() == -signal.SIGKILL
