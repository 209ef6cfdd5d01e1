"""Who answered when: what a prober saw, and what follows from it. Pure; times are seconds on the monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby, pairwise


@dataclass(frozen=True, slots=True)
class Answer:
    """``node`` answered the probe of that number (an index into ``Answers.sent``); the answer came ``at``."""

    at: float
    probe: int
    node: str


@dataclass(frozen=True, slots=True)
class Outage:
    """From the last answer before it to the first one after it; ``lost`` probes were sent into it in vain."""

    start: float
    end: float
    lost: int

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All that a prober saw until ``taken_at``: when it asked (``sent``, ascending) and the answers, in any order.

    ``interval`` is the time between probes, and so how exact the figures are. A probe is lost where no answer came
    within ``patience``; one that is younger than that at ``taken_at`` is not judged.
    """

    interval: float
    sent: tuple[float, ...]
    received: tuple[Answer, ...]
    taken_at: float
    patience: float = 0.1

    def outages(self, since: float = -math.inf, until: float = math.inf) -> tuple[Outage, ...]:
        """Return the outages that touch that time. One that lasts still ends at ``taken_at``.

        A time in which no probe was sent, since the prober itself was starved, is not one.
        """
        arrival = self._timely()
        judged = sum(1 for sent in self.sent if sent + self.patience <= self.taken_at)
        found: list[Outage] = []
        before, after = -math.inf, self._earliest_from(arrival)
        for answered, probes in groupby(range(judged), key=arrival.__contains__):
            run = list(probes)
            if answered:
                before = max(before, *(arrival[probe] for probe in run))
            else:
                start = before if math.isfinite(before) else self.sent[run[0]]
                outage = Outage(start, max(start, after[run[-1] + 1]), len(run))
                # Sent before the last one ended: a cache had held back some probes, but not these.
                if found and self.sent[run[0]] <= found[-1].end:
                    outage = Outage(found[-1].start, outage.end, found.pop().lost + outage.lost)
                found.append(outage)
        return tuple(outage for outage in found if outage.end >= since and outage.start <= until)

    def longest_gap(self, since: float, until: float) -> float:
        """Return the longest time between ``since`` and ``until`` in which no answer came, in seconds."""
        inside = sorted(answer.at for answer in self.received if since < answer.at < until)
        return max(later - earlier for earlier, later in pairwise((since, *inside, until)))

    def answerers(self, since: float, until: float) -> frozenset[str]:
        """Return the nodes whose answers came in that time."""
        return frozenset(answer.node for answer in self.received if since <= answer.at <= until)

    def since_when(self, node: str) -> float | None:
        """Return when the node's latest unbroken run of answers began: no other node has answered since."""
        began = None
        for answer in sorted(self.received, key=lambda answer: -answer.at):
            if answer.node != node:
                break
            began = answer.at
        return began

    def overlap(self, since: float = -math.inf, until: float = math.inf) -> float:
        """Return the seconds in which two nodes answered: each probe that more than one answered is an interval."""
        nodes: dict[int, set[str]] = {}
        for answer in self.received:
            if since <= answer.at <= until:
                nodes.setdefault(answer.probe, set()).add(answer.node)
        return self.interval * sum(1 for answering in nodes.values() if len(answering) > 1)

    def _timely(self) -> dict[int, float]:
        """Return when each probe was first answered, for those that were in time."""
        arrival: dict[int, float] = {}
        for answer in self.received:
            if answer.at - self.sent[answer.probe] <= self.patience:
                arrival[answer.probe] = min(answer.at, arrival.get(answer.probe, math.inf))
        return arrival

    def _earliest_from(self, arrival: dict[int, float]) -> list[float]:
        """Return, for each probe, the earliest timely answer to it or a later one; ``taken_at`` where there is none."""
        earliest = [self.taken_at]
        for probe in range(len(self.sent) - 1, -1, -1):
            earliest.append(min(earliest[-1], arrival.get(probe, math.inf)))
        return earliest[::-1]
