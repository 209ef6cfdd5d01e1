"""What follows from what the observer has seen. Pure; times are seconds on the monotonic clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from bench.failover.observer import Seen

STEADY = 0.25
"""A gap between two probes that is longer than this is the observer's: no figure is made of it."""


def outage(seen: Seen, since: float, until: float) -> float:
    """Return the seconds in which the client's probes stayed unanswered."""
    answered = {probe for probe, _ in seen.client_answers}
    return sum(gap for probe, gap in _gaps(seen.client_sent, since, until) if probe not in answered)


def two_answered(seen: Seen, since: float, until: float) -> float:
    """Return the seconds in which more than one node answered the same probe."""
    answering: dict[int, set[int]] = defaultdict(set)
    for probe, ttl in seen.all_answers:
        answering[probe].add(ttl)
    return sum(gap for probe, gap in _gaps(seen.all_sent, since, until) if len(answering.get(probe, ())) > 1)


def takeover(seen: Seen, since: float, *, ttl: int) -> float | None:
    """Return the seconds until that node first answered a probe of any kind; None where it never did."""
    times = [at for at, by in _answers(seen) if by == ttl and at >= since]
    return min(times) - since if times else None


def last_answer(seen: Seen, since: float, until: float, *, ttl: int) -> float:
    """Return when the last probe was sent that this node answered in that time; ``since`` if there is none."""
    return max((at for at, by in _answers(seen) if by == ttl and since <= at < until), default=since)


def answered_by(seen: Seen, since: float) -> set[int]:
    """Return the TTLs of all who answered a probe that was sent since then."""
    return {by for at, by in _answers(seen) if at >= since}


def pause(seen: Seen, since: float, until: float) -> float:
    """Return the longest time that the observer itself asked nothing."""
    inside = [sent for sent in seen.client_sent if since <= sent < until]
    return max((later - earlier for earlier, later in pairwise(inside)), default=math.inf)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies, between two values in proportion. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _answers(seen: Seen) -> Iterator[tuple[float, int]]:
    """Each answer to a probe of any kind: when the probe was sent, and the TTL of who answered."""
    for sent, answers in ((seen.client_sent, seen.client_answers), (seen.all_sent, seen.all_answers)):
        yield from ((sent[probe], by) for probe, by in answers)


def _gaps(sent: Sequence[float], since: float, until: float) -> Iterator[tuple[int, float]]:
    """Each probe of that time, and how long it stands for: until the next one was sent."""
    for probe, (at, following) in enumerate(pairwise(sent)):
        if since <= at < until:
            yield probe, min(following, until) - at
