"""What is done to the master, and what is measured then."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bench.failover import figures
from bench.failover.nodes import VIPS, frozen, kill
from bench.failover.observer import Seen
from bench.failover.setups import Fault, Setup
from bench.failover.stage import Stage, holds, stage
from bench.failover.together import Together
from bench.processes import cpu_seconds, memory

SETTLED = 1.2
"""Seconds from where both stand as they should to the fault: keepalived and we repeat the announcements after 1 s."""
LATEST = 12.0
"""Seconds after which nobody waits for a takeover any more."""
LOOKS = 10.0
"""Seconds that CPU time is counted."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one fault did over one IP version, in seconds. ``left``: the VIP was still on the node at the end."""

    setup: str
    speed: str
    fault: Fault
    version: int
    at: float
    load: float
    outage: float
    two: float
    takeover: float | None
    left: bool
    looked: float
    """How long it was looked at."""
    pause: float
    """The longest time that the observer asked nothing."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a master's processes cost: CPU in % of a core and memory in MB, by process."""

    setup: str
    speed: str
    at: float
    load: float
    cpu: dict[str, float]
    memory: dict[str, float]


@dataclass(slots=True, kw_only=True)
class _Look:
    """A fault and the time that it was looked at. ``heir`` is whose first answer is the takeover."""

    fault: Fault
    since: float
    until: float
    heir: int
    left: dict[int, bool]


def crash(setup: Setup, on: Stage) -> list[_Look]:
    since = time.monotonic()
    kill(on.first)
    return [_look(Fault.CRASH, setup, on, since)]


def freeze(setup: Setup, on: Stage) -> list[_Look]:
    since = time.monotonic()
    with frozen(on.first):
        return [_look(Fault.FREEZE, setup, on, since)]


def link_down(setup: Setup, on: Stage) -> list[_Look]:
    since = time.monotonic()
    on.lan.link_down(on.first.node)
    return [_look(Fault.LINK_DOWN, setup, on, since)]


def cut_off(setup: Setup, on: Stage) -> list[_Look]:
    """And back on the LAN, once the other one has taken over."""
    since = time.monotonic()
    on.lan.cut(on.first.node)
    cut = _look(Fault.CUT_OFF, setup, on, since)
    since = time.monotonic()
    on.lan.heal(on.first.node)
    time.sleep(setup.window)
    return [cut, _Look(fault=Fault.HEALED, since=since, until=time.monotonic(), heir=on.first.node.ttl, left={})]


def stop(setup: Setup, on: Stage) -> list[_Look]:
    """And start it again: it takes over."""
    since = time.monotonic()
    on.first.stop()
    stopped = _look(Fault.STOP, setup, on, since)
    on.until(lambda: not on.first.pids(), "it has stopped")
    since = time.monotonic()
    on.first.start()
    on.until(lambda: on.answers(on.first), "the preferred node has taken over")
    time.sleep(SETTLED)
    back = _Look(fault=Fault.RETURN, since=since, until=time.monotonic(), heir=on.first.node.ttl, left={})
    return [stopped, back]


PLAYS: dict[str, Callable[[Setup, Stage], list[_Look]]] = {
    "crash": crash,
    "freeze": freeze,
    "link down": link_down,
    "cut off": cut_off,
    "planned stop": stop,
}


def measure(setup: Setup, play: str, together: Together) -> list[Outcome]:
    """Run one play from a fresh start, beside the others. Raises LanError, StageError."""
    with stage(setup) as on:
        on.begin()
        together.wait()
        # At any moment between two adverts, and not at the same one as beside it.
        time.sleep(SETTLED + random.uniform(0, max(1.0, setup.speed.interval)))
        on.until(lambda: on.answers(on.first), "the first one still leads")
        looks = PLAYS[play](setup, on)
        lanes = on.observer.end()
        together.wait()
    return [
        Outcome(
            setup=setup.name,
            speed=setup.speed.name,
            fault=look.fault,
            version=seen.version,
            at=time.time(),
            load=os.getloadavg()[0],
            outage=figures.outage(seen, look.since, look.until),
            two=figures.two_answered(seen, look.since, look.until),
            takeover=figures.takeover(seen, _began(look, seen, on.first.node.ttl), ttl=look.heir),
            left=look.left.get(seen.version, False),
            looked=look.until - look.since,
            pause=figures.pause(seen, look.since, look.until),
        )
        for look in looks
        for seen in lanes
    ]


def _began(look: _Look, seen: Seen, ttl: int) -> float:
    """When the fault was: a machine that is busy takes a while to take a link down, but then nobody answers."""
    if look.fault in (Fault.CUT_OFF, Fault.LINK_DOWN):
        return figures.last_answer(seen, look.since, look.until, ttl=ttl)
    return look.since


def cost(setup: Setup, together: Together) -> Cost:
    """Look at a master in peace, ours with all three processes. Raises LanError, StageError."""
    with stage(setup, mirror=True, interval=0.05) as on:
        on.begin()
        together.wait()
        time.sleep(5.0)  # what it announces in the beginning is not what it costs in the long run
        pids = on.first.pids()
        before, begun = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(LOOKS)
        passed = time.monotonic() - begun
        cpu = {name: (cpu_seconds(pid) - before[name]) / passed * 100 for name, pid in pids.items()}
        together.wait()
        return Cost(
            setup=setup.name,
            speed=setup.speed.name,
            at=time.time(),
            load=os.getloadavg()[0],
            cpu=cpu,
            memory=memory(pids),
        )


def _look(fault: Fault, setup: Setup, on: Stage, since: float) -> _Look:
    """Wait until it is over, and then see whether the VIP is still on the node."""
    time.sleep(max(0.0, since + setup.window - time.monotonic()))
    if fault in (Fault.CUT_OFF, Fault.LINK_DOWN, Fault.STOP):
        while not on.answers(on.other) and time.monotonic() < since + LATEST:
            time.sleep(0.05)
    left = {version: holds(on.first, VIPS[version]) for version in setup.versions}
    return _Look(fault=fault, since=since, until=time.monotonic(), heir=on.other.node.ttl, left=left)
