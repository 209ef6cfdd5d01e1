"""The parent's side of the agent, with a real agent that is never let run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sidecar.children import Restarts
from sidecar.ipc.messages import GroupRole, Snapshot
from sidecar.mirror import Mirror
from sidecar.reactor import Reactor
from tests.fakes.plans import group_plan, node_plan


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror(node_plan(group_plan()), Reactor(), Restarts())
    mirror.start()
    yield mirror
    end(mirror)


def end(mirror: Mirror) -> None:
    child = mirror.child
    if child is not None:
        child.kill()
        child.process.wait()
        child.channel.close()
        mirror.ended()


def snapshot(role: str = "master") -> Snapshot:
    return Snapshot(groups=(GroupRole(name="web", role=role, since=0.0, reason="start", transitions=1),))


def test_where_the_mirror_is_off_there_is_no_agent() -> None:
    mirror = Mirror(node_plan(group_plan(), kubernetes=False), Reactor(), Restarts())
    mirror.start()
    mirror.show(snapshot())
    mirror.stop()
    assert mirror.child is None


def test_one_that_does_not_read_is_ended_and_the_next_begins_with_the_newest_roles(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    assert mirror.child is not None
    first = mirror.child.process
    os.kill(first.pid, signal.SIGSTOP)
    while not caplog.messages:
        mirror.show(snapshot())
    assert caplog.messages == ["the agent does not read; it is started anew"]
    assert first.wait() == -signal.SIGKILL
    end(mirror)
    mirror.show(snapshot("backup"))
    assert mirror.child is None
    mirror.start()
    assert mirror.child is not None
    assert mirror.child.process.pid != first.pid
