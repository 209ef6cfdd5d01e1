"""What the results of the health probes come to. Pure.

As with keepalived's checkers, nothing is known of a probe before its first result, which decides alone; from then on it
takes ``fall`` failures in a row to fail and ``rise`` successes in a row to be well again. What could not be found out
changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from sidecar.ipc.plan import ProbeKind, ProbePlan


@dataclass(frozen=True, slots=True)
class Well:
    """What was asked for is as it should be."""


@dataclass(frozen=True, slots=True)
class Ill:
    """It is not; ``fault`` goes on the sentence that its name begins."""

    fault: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell: whom we would ask is away, or we were not run ourselves."""


Result: TypeAlias = Well | Ill | Unknown


class Verdict:
    """One probe. ``failing`` says why it fails, in a sentence for people; None: it does not."""

    __slots__ = ("_against", "_fall", "_rise", "failing", "known")

    def __init__(self, *, rise: int, fall: int, known: bool = False, failing: str | None = None) -> None:
        self._rise = rise
        self._fall = fall
        self._against = 0
        """Results in a row that speak against the verdict."""
        self.known = known
        self.failing = failing

    def heard(self, result: Result, *, about: str) -> bool:
        """Take a result about what is called so; return whether the verdict is another one now."""
        match result:
            case Unknown():
                return False
            case Well():
                return self._weigh(self._rise, against=self.failing is not None, verdict=None)
            case Ill(fault=fault):
                needed = self._fall if self.known else 1
                times = f", {needed} times in a row" if needed > 1 else ""
                return self._weigh(needed, against=self.failing is None, verdict=f"{about} {fault}{times}")
            case _:
                assert_never(result)

    def _weigh(self, needed: int, *, against: bool, verdict: str | None) -> bool:
        first, self.known = not self.known, True
        self._against = self._against + 1 if against else 0
        if self._against < needed:
            return first
        self._against = 0
        self.failing = verdict
        return True


class Health:
    """All probes of a node. ``before`` is what an earlier agent found (``Probed``), None if it found nothing out."""

    def __init__(self, probes: Sequence[ProbePlan], before: Mapping[int, str] | None) -> None:
        self._probes = probes
        self._told = before
        self._verdicts = [
            Verdict(rise=probe.rise, fall=probe.fall, known=before is not None, failing=(before or {}).get(number))
            for number, probe in enumerate(probes)
        ]

    def heard(self, number: int, result: Result) -> bool:
        """Take a result of the probe of that number; return whether its verdict is another one now."""
        return self._verdicts[number].heard(result, about=called(self._probes[number]))

    def failing(self) -> dict[int, str]:
        """Return which probes fail, by number, and why."""
        return {number: each.failing for number, each in enumerate(self._verdicts) if each.failing is not None}

    def news(self) -> dict[int, str] | None:
        """Return ``failing``, if that has not been told; nothing before the first result."""
        found = self.failing()
        return found if found != self._told and any(each.known for each in self._verdicts) else None

    def told(self, found: Mapping[int, str]) -> None:
        """Note that the parent knows."""
        self._told = found


def called(probe: ProbePlan) -> str:
    """Return what a probe asks, for people: without a command's arguments, which may hold what is nobody's business."""
    target = probe.target[0]
    match probe.kind:
        case ProbeKind.HTTP | ProbeKind.TCP | ProbeKind.EXEC | ProbeKind.FILE:
            return target
        case ProbeKind.CONTAINER:
            return f"container {target}"
        case ProbeKind.NODE_CONDITION:
            return f"the node's condition {target.partition('=')[0]}"
        case ProbeKind.GATEWAY:
            return f"the default gateway of {target}"
        case _:
            assert_never(probe.kind)
