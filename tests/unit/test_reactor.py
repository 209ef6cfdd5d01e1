"""The parent's turn: who is served, and signals among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from sidecar.reactor import Reactor


def test_who_has_something_to_say_is_served_and_nobody_else() -> None:
    reactor, served = Reactor(), []
    (one, one_in), (two, _) = os.pipe(), os.pipe()
    reactor.watch(one, lambda: served.append((1, os.read(one, 10))))
    reactor.watch(two, lambda: served.append((2, b"")))
    os.write(one_in, b"x")
    reactor.turn(None)
    reactor.turn(0)
    assert served == [(1, b"x")]


def test_a_hang_up_is_told_and_who_is_forgotten_is_not_served() -> None:
    reactor, served = Reactor(), []
    reader, writer = os.pipe()
    reactor.watch(reader, lambda: served.append(os.read(reader, 10)))
    os.close(writer)
    reactor.turn(None)
    reactor.unwatch(reader)
    reactor.turn(0)
    assert served == [b""]


def test_one_that_is_closed_or_was_never_watched_can_be_forgotten() -> None:
    reactor = Reactor()
    reader, writer = os.pipe()
    reactor.watch(reader, lambda: None)
    os.close(reader)
    os.close(writer)
    reactor.unwatch(reader)
    reactor.unwatch(reader)
    reactor.unwatch(-1)
    reactor.turn(0)


def test_one_that_is_forgotten_in_the_same_turn_is_not_served() -> None:
    reactor, served = Reactor(), []
    ends = [os.pipe(), os.pipe()]

    def serve(number: int) -> None:
        served.append(number)
        reactor.unwatch(ends[1 - number][0])

    for number, (reader, writer) in enumerate(ends):
        reactor.watch(reader, lambda number=number: serve(number))
        os.write(writer, b"x")
    reactor.turn(None)
    assert len(served) == 1


SIGNALS = """
import os, signal
from sidecar.reactor import Reactor
reactor, heard = Reactor(), []
reactor.watch_signals((signal.SIGUSR1, signal.SIGCHLD), heard.append)
os.kill(os.getpid(), signal.SIGUSR1)
assert heard == []
reactor.turn(None)
assert heard == [signal.SIGUSR1], heard
"""


def test_a_signal_is_told_in_a_turn_and_not_before() -> None:
    # In a process of its own: signal handlers are the whole process's.
    done = subprocess.run([sys.executable, "-c", SIGNALS], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
