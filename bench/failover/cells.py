"""The measurements by cell, and what is said of each. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.failover.faults import Cost, Outcome
from bench.failover.figures import quantile
from bench.failover.setups import Fastest, Fault, Mac, Product, Setup, Timing, setups
from bench.failover.store import Book

Key = tuple[str, Fault, int]
"""A setup's name, a fault, an IP version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds: the median, the 95th percentile (between two values in proportion), and the largest."""

    median: float
    p95: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """All runs of one setup, one fault and one IP version."""

    runs: int
    outage: Spread
    two: Spread
    takeover: Spread | None
    left: int
    """In how many runs the VIP was still on the node at the end."""
    looked: float
    """How long it was looked at, at least."""


class Cells:
    """The cells of a book; runs with settings that are not in force any more are left out."""

    def __init__(self, book: Book) -> None:
        self.setups = setups(book.fastest or Fastest(seconds=0.0, load=0.0))
        speeds = {setup.name: setup.speed.name for setup in self.setups}
        by_key: dict[Key, list[Outcome]] = defaultdict(list)
        for one in book.outcomes:
            if speeds.get(one.setup) == one.speed:
                by_key[one.setup, one.fault, one.version].append(one)
        self._cells = {key: summary(each) for key, each in by_key.items()}
        self._costs: dict[str, list[Cost]] = defaultdict(list)
        for cost in book.costs:
            if speeds.get(cost.setup) == cost.speed:
                self._costs[cost.setup].append(cost)

    def find(self, product: Product, timing: Timing, mac: Mac) -> Setup | None:
        """Return that setup, or None where there is none."""
        wanted = (product, timing, mac)
        return next((each for each in self.setups if (each.product, each.timing, each.mac) == wanted), None)

    def cell(self, setup: Setup | None, fault: Fault, version: int = 4) -> Cell | None:
        """Return a cell, or None where nothing was measured."""
        return None if setup is None else self._cells.get((setup.name, fault, version))

    def of(self, setups: Iterable[Setup], faults: Iterable[Fault]) -> list[tuple[Setup, Fault, int, Cell]]:
        """Return all cells of these setups and faults."""
        kinds = list(faults)
        return [
            (setup, fault, version, cell)
            for setup in setups
            for fault in kinds
            for version in setup.versions
            if (cell := self.cell(setup, fault, version))
        ]

    def costs(self, setup: Setup) -> Cost | None:
        """Return the median of each process's costs, or None where nothing was measured."""
        found = self._costs.get(setup.name, [])
        if not found:
            return None
        last = found[-1]
        return Cost(
            setup=last.setup,
            speed=last.speed,
            at=last.at,
            load=last.load,
            cpu=_medians([each.cpu for each in found], last.cpu),
            memory=_medians([each.memory for each in found], last.memory),
        )


def summary(runs: Sequence[Outcome]) -> Cell:
    """Sum up the runs of one cell; there is at least one."""
    takeovers = [one.takeover for one in runs if one.takeover is not None]
    return Cell(
        runs=len(runs),
        outage=spread([one.outage for one in runs]),
        two=spread([one.two for one in runs]),
        takeover=spread(takeovers) if takeovers else None,
        left=sum(one.left for one in runs),
        looked=min(one.looked for one in runs),
    )


def spread(values: Sequence[float]) -> Spread:
    return Spread(median=quantile(values, 0.5), p95=quantile(values, 0.95), most=max(values))


def _medians(found: Sequence[dict[str, float]], names: Iterable[str]) -> dict[str, float]:
    return {name: quantile([each[name] for each in found if name in each], 0.5) for name in names}
