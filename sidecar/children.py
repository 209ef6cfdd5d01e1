"""Child processes: started by exec, ended for certain, reaped as PID 1 must."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sidecar.ipc.channel import Channel, pair

log = logging.getLogger(__name__)

STEADY = 10.0
"""A child that lived for this many seconds starts anew without delay."""


@dataclass(slots=True)
class Child:
    """A running child and our end of its channel."""

    name: str
    process: subprocess.Popen[bytes]
    channel: Channel
    started: float

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)


def spawn(name: str, arguments: Sequence[str], *, now: float) -> Child:
    """Start ``python -m sidecar NAME`` with one end of a new channel. Raises OSError.

    By exec and not by fork alone: a child inherits none of the parent's memory; its environment is the parent's, which
    holds no settings.
    """
    ours, theirs = pair()
    with theirs:
        command = [sys.executable, "-P", "-m", "sidecar", name, str(theirs.fileno()), str(os.getpid()), *arguments]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
    return Child(name, process, ours, now)


class Started(Protocol):
    """Whatever has a process of ours."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process."""


S = TypeVar("S", bound=Started)


def reap(children: Sequence[S]) -> list[tuple[S, int]]:
    """Collect every ended process, also orphans that PID 1 inherits; return ours among them and their exit codes."""
    ended: list[tuple[S, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        for child in children:
            if child.process.pid == pid:
                child.process.returncode = code
                ended.append((child, code))


def describe(code: int) -> str:
    """Put an exit code into words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"was ended by signal {-code}"


class Backoff:
    """When a child that keeps dying may start again: at once, then after 1, 2, 4 ... 30 s."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures = 0

    def after_death(self, *, lived: float) -> float:
        """Return the seconds to wait, given how long the child lived."""
        if lived >= STEADY:
            self._failures = 0
        delay = 0.0 if self._failures == 0 else min(30.0, 2.0 ** min(self._failures - 1, 5))
        self._failures += 1
        return delay


class Restarts:
    """Which of the children that died start again, and when. ``now`` is in monotonic seconds."""

    __slots__ = ("_at", "_backoff")

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._backoff: dict[str, Backoff] = {}

    def schedule(self, name: str, *, lived: float, now: float) -> float:
        """Plan the next start of a child that lived for so long; return the seconds until then."""
        delay = self._backoff.setdefault(name, Backoff()).after_death(lived=lived)
        self._at[name] = now + delay
        return delay

    def due(self, now: float) -> list[str]:
        """Return who starts now, each once."""
        names = [name for name, at in self._at.items() if at <= now]
        for name in names:
            del self._at[name]
        return names

    def wait(self, name: str, now: float) -> float:
        """Return the seconds until this child starts again; 0 if it is not planned."""
        return max(0.0, self._at.get(name, 0.0) - now)

    def planned(self, name: str) -> bool:
        """Tell whether this child starts again."""
        return name in self._at

    def next(self) -> float:
        """Return when the next one is due, infinity if none is planned."""
        return min(self._at.values(), default=math.inf)

    def cancel(self) -> None:
        """Start none of them."""
        self._at.clear()
