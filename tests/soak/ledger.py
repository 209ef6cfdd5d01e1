"""What a long run has covered: kept over all LANs, told at the end."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

from sidecar.protocol import effects, events
from sidecar.protocol.transitions import TRANSITIONS
from sidecar.protocol.types import Role
from tests.fakes.clocks import ClockedLan
from tests.fakes.faults import Fault
from tests.fakes.host import Node
from tests.fakes.lan import Lan
from tests.fakes.watchers import hear_each_other

LIMITS = (0.1, 1.0, 2.0, 4.0, 10.0, 40.0, math.inf)
YEAR = 365.25 * 86400


class Ledger:
    """Everything that was seen."""

    def __init__(self) -> None:
        self.lans = 0
        self.seconds = 0.0
        self.kinds: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.changes: Counter[tuple[Role, str]] = Counter()
        self.adverts = 0
        self.drops: Counter[str] = Counter()
        self.attacks = 0
        self.outages: dict[str, list[float]] = {}
        """By the fault that came last before it."""
        self.two_masters = 0.0
        """For how long two masters that hear one another stood together, at most."""

    def open(self, lan: Lan, kind: str) -> Page:
        """Begin to watch a LAN."""
        self.lans += 1
        self.kinds[kind] += 1
        return Page(self, lan)

    def lines(self) -> list[str]:
        """Tell all of it."""
        years = self.seconds / YEAR
        lines = [
            f"{self.lans} LANs ({_told(self.kinds)})",
            f"{self.seconds:.0f} s of virtual time, {years:.2f} years, and {self.adverts} adverts",
            f"faults: {_told(self.faults)}",
            f"attacks: {self.attacks}; adverts refused: {_told(self.drops) or 'none'}",
        ]
        missing = [f"{role} + {reason}" for role, reason in TRANSITIONS if (role, reason) not in self.changes]
        lines.append(
            f"{len(TRANSITIONS) - len(missing)} of {len(TRANSITIONS)} transitions; missing: {missing or 'none'}"
        )
        lines += [
            f"  {role:6} {reason:17} -> {TRANSITIONS[role, reason]:6} {self.changes[role, reason]:>9}"  # type: ignore[index]
            for role, reason in TRANSITIONS
        ]
        lines.append(f"two masters that hear one another: {self.two_masters:.3f} s at most")
        lines.append("nobody answers, though somebody could, by the fault before it:")
        head = "".join(f"{'<' + format(limit, 'g') + ' s' if limit < math.inf else 'more':>9}" for limit in LIMITS)
        lines.append(f"  {'':14} {'times':>8} {'longest':>9}{head}")
        for fault, lasted in sorted(self.outages.items()):
            shares = "".join(f"{count:>9}" for count in _histogram(lasted))
            lines.append(f"  {fault:14} {len(lasted):>8} {max(lasted):>7.2f} s{shares}")
        return lines


class Page:
    """One LAN of the ledger."""

    def __init__(self, ledger: Ledger, lan: Lan) -> None:
        self._ledger = ledger
        self._lan = lan
        self._together: dict[tuple[int, int], float] = {}
        self._silent_since: float | None = None
        self._answered = False
        self._last_fault = "start"
        lan.watchers.append(self._watch)
        lan.listeners.append(self._listen)
        lan.observers.append(self._note)

    def close(self) -> None:
        """Enter what is only known at the end."""
        self._ledger.seconds += self._lan.now
        self._ledger.adverts += sum(node.sent for node in self._lan.nodes)
        if isinstance(self._lan, ClockedLan):
            self._ledger.attacks += self._lan.attacks
            for node in self._lan.nodes:
                self._ledger.drops.update({reason.value: count for reason, count in node.drops.items()})

    def _note(self, fault: Fault) -> None:
        self._last_fault = type(fault).__name__
        self._ledger.faults[self._last_fault] += 1

    def _listen(self, _: Node, __: events.Event, wanted: tuple[effects.Effect, ...]) -> None:
        for effect in wanted:
            if isinstance(effect, effects.RoleChanged):
                self._ledger.changes[effect.before, effect.reason] += 1

    def _watch(self) -> None:
        lan = self._lan
        masters = lan.masters()
        for first, second in combinations(masters, 2):
            if hear_each_other(lan, first, second):
                since = self._together.setdefault((first.number, second.number), lan.now)
                self._ledger.two_masters = max(self._ledger.two_masters, lan.now - since)
            else:
                self._together.pop((first.number, second.number), None)
        if len(masters) < 2:
            self._together.clear()
        self._watch_answers()

    def _watch_answers(self) -> None:
        now = self._lan.now
        if any(node.answers() for node in self._lan.nodes):
            self._answered = True
            if self._silent_since is not None:
                self._ledger.outages.setdefault(self._last_fault, []).append(now - self._silent_since)
            self._silent_since = None
        elif not any(node.runs and node.parent_serves and not node.refusals for node in self._lan.contenders()):
            self._silent_since = None
            self._answered = False
        elif self._answered and self._silent_since is None:
            self._silent_since = now


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _histogram(values: list[float]) -> list[int]:
    counts = [0] * len(LIMITS)
    for value in values:
        counts[next(place for place, limit in enumerate(LIMITS) if value < limit)] += 1
    return counts
