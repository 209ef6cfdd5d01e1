"""The measurements in a file that grows with each run, so that they can be made in pieces."""

from __future__ import annotations

import fnmatch
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import msgspec

from bench.failover.faults import PLAYS, Cost, Outcome
from bench.failover.setups import Fastest, Fault, Setup
from bench.machine import Machine, machine

COST = "cost"
COST_RUNS = 3
"""Seconds of CPU time say the same each time."""
_COUNTS = {"crash": Fault.CRASH, "freeze": Fault.FREEZE, "link down": Fault.LINK_DOWN, "cut off": Fault.CUT_OFF,
           "planned stop": Fault.STOP}  # fmt: skip
"""By which of a play's outcomes its runs are counted."""


class Book(msgspec.Struct, kw_only=True):
    """All that was measured, on which machine, and which settings were the fastest."""

    machine: Machine | None = None
    fastest: Fastest | None = None
    outcomes: list[Outcome] = []
    costs: list[Cost] = []


@dataclass(frozen=True, slots=True)
class Unit:
    """One setup and one play: what a run measures at a time."""

    setup: Setup
    play: str

    @property
    def name(self) -> str:
        return f"{self.setup.name}: {self.play}"


def units(setups: Sequence[Setup], pattern: str) -> list[Unit]:
    """Return all whose name matches a shell pattern, or contains it."""
    every = [Unit(setup, play) for setup in setups for play in (*PLAYS, COST)]
    return [unit for unit in every if fnmatch.fnmatch(unit.name, pattern) or pattern in unit.name]


def missing(book: Book, wanted: Sequence[Unit], *, runs: int, shuffle: Callable[[list[Unit]], None]) -> list[Unit]:
    """Return what is still to be run, round by round, so that each product is measured all the time; mixed in a round.

    Runs with other settings than these do not count.
    """
    done = Counter((one.setup, one.speed, one.fault) for one in book.outcomes if one.version == 4)
    costs = Counter((one.setup, one.speed) for one in book.costs)
    rounds: list[list[Unit]] = [[] for _ in range(runs)]
    for unit in wanted:
        name, speed = unit.setup.name, unit.setup.speed.name
        if unit.play == COST:
            have, need = costs[name, speed], min(runs, COST_RUNS)
        else:
            have, need = done[name, speed, _COUNTS[unit.play]], runs
        for number in range(have, need):
            rounds[number].append(unit)
    for each in rounds:
        shuffle(each)
    return [unit for each in rounds for unit in each]


class Shelf:
    """The file of a book; whoever adds to it leaves it complete. For several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self.book = msgspec.json.decode(path.read_bytes(), type=Book) if path.exists() else Book()

    def add(self, *, outcomes: Sequence[Outcome] = (), costs: Sequence[Cost] = ()) -> None:
        with self._lock:
            self.book.outcomes += outcomes
            self.book.costs += costs
            self._write()

    def remember(self, fastest: Fastest) -> None:
        """Take over what a soak has found."""
        with self._lock:
            self.book.fastest = fastest
            self._write()

    def _write(self) -> None:
        self.book.machine = machine()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self.book), indent=0) + b"\n")
        new.replace(self._path)


def mixed(items: list[Unit]) -> None:
    random.shuffle(items)
