"""The search for the fastest setting of each product that holds a stable master.

Each product, with each kind of MAC, goes through its candidates from fast to slow, all of them side by side: so no more
than a few LANs are there at a time, and the machine is as good as idle. One that changes anything is out at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Lock

from bench.failover import figures
from bench.failover.setups import CANDIDATES, Fastest, Product, Setup, Timing, key, macs
from bench.failover.stage import Stage, StageError, stage
from sidecar.demo.lan import LanError

_SETTLES = 5.0
_LOOKS_EVERY = 2.0
_PROBE_EVERY = 0.02


def candidates() -> list[Setup]:
    """Return all that may be the fastest: together what has the same product and MAC, from fast to slow."""
    return [
        Setup(product=product, timing=Timing.FASTEST, mac=mac, speed=speed)
        for product in Product
        for mac in macs(product)
        for speed in CANDIDATES[product]
    ]


def search(seconds: float, wanted: Sequence[Setup], *, tell: Callable[[str, Fastest], None]) -> None:
    """Find the fastest that holds for so long; ``tell`` each verdict, and all that is known by then."""
    names: dict[str, str] = {}
    unstable: dict[str, dict[str, str]] = {}
    lock = Lock()

    def walk(name: str, setups: list[Setup]) -> None:
        for setup in setups:
            ailment = _ailment(setup, seconds)
            with lock:
                if ailment:
                    unstable.setdefault(name, {})[setup.speed.name] = ailment
                else:
                    names[name] = setup.speed.name
                known = Fastest(seconds=seconds, load=os.getloadavg()[0], names=names, unstable=unstable)
                tell(f"{name}, {setup.speed.name}: {ailment or 'stable'}", known)
            if not ailment:
                return

    families = [(name, list(each)) for name, each in groupby(wanted, key=lambda one: key(one.product, one.mac))]
    with ThreadPoolExecutor(max(1, len(families))) as pool:
        list(pool.map(lambda family: walk(*family), families))


def _ailment(setup: Setup, seconds: float) -> str:
    """Run one until something is wrong with it, or the time is over; return what was wrong."""
    try:
        with stage(setup, interval=_PROBE_EVERY) as on:
            on.begin()
            time.sleep(_SETTLES)
            since, before = time.monotonic(), _masters(on)
            while _masters(on) == before and time.monotonic() < since + seconds:
                time.sleep(_LOOKS_EVERY)
            passed, after = time.monotonic() - since, _masters(on)
            lanes = on.observer.end()
            ttl = on.first.node.ttl
    except (LanError, StageError) as error:
        return str(error).partition("\n")[0]
    if before != after:
        return f"after {passed:.0f} s a node became master"
    others = {answering for seen in lanes for answering in figures.answered_by(seen, since)} - {ttl}
    return "the backup answered" if others else ""


def _masters(on: Stage) -> int:
    """How often anybody became master; -1 where one can't be asked."""
    counts = [contender.masters() for contender in (on.first, on.other)]
    return -1 if None in counts else sum(count or 0 for count in counts)
