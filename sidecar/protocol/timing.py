"""CARP's intervals in seconds, from advbase (seconds) and advskew (1/256 s)."""

from __future__ import annotations

TICK = 1 / 256
"""The unit of advskew, and the shortest interval."""
LATE_BY = 1.5
"""So many intervals after the last advert the next one is late: a dead ratio of 1 must not depose who is on time."""


def interval(*, advbase: int, advskew: int) -> float:
    """Return the seconds between two adverts; 0/0 means 1/256 s (``carp_setrun``, OpenBSD ip_carp.c)."""
    return advbase + advskew * TICK or TICK


def master_down(*, advbase: int, advskew: int, dead_ratio: int) -> float:
    """Return the seconds without an advert after which a backup takes over.

    dead_ratio x advbase + advskew/256, as ucarp and FreeBSD have it, so that the lower skew stands up first; where
    advbase is 0, dead_ratio intervals, as OpenBSD has it.
    """
    if advbase == 0:
        return dead_ratio * interval(advbase=0, advskew=advskew)
    return dead_ratio * advbase + advskew * TICK


def patience(*, advbase: int, advskew: int, dead_ratio: int) -> float:
    """Return how many seconds after the last advert the earliest peer takes over: one without a skew of its own."""
    return master_down(advbase=advbase, advskew=advskew if advbase == 0 else 0, dead_ratio=dead_ratio)


def standing(*, advbase: int, advskew: int, dead_ratio: int) -> float:
    """Return how many seconds after an advert the lease that came with it may stand.

    A little less than the earliest peer waits: 1 ms for what the clocks and the wire round, and 1/64 since a kernel's
    ticks and a clock that NTP slews do not run at one speed. Where the patience is shorter than it takes to be missed
    (a dead ratio of 1, or of 2 with a high skew), the lease outlasts the interval all the same.
    """
    timers = {"advbase": advbase, "advskew": advskew}
    waits = max(patience(**timers, dead_ratio=dead_ratio), LATE_BY * interval(**timers))
    return waits * 63 / 64 - 0.001


def succession(*, advbase: int, advskew: int) -> float:
    """Return for how many seconds a node that has said goodbye waits to hear its successor.

    Who heard the goodbye stands up in his turn, within 1/16 s; the interval, and half a second at least, is for one
    that is not run at once or is of another kind. Never more than 2 s: somebody waits for the end of this.
    """
    return min(max(interval(advbase=advbase, advskew=advskew), 0.5) + 1 / 16, 2.0)


def lease(*, advbase: int, advskew: int, dead_ratio: int) -> int:
    """Return how many whole seconds the kernel keeps a VIP after each renewal, which comes with each advert.

    The kernel removes an address up to a second after its lifetime, and the earliest peer waits dead_ratio x advbase s
    from the last advert: one second less than that keeps two nodes from answering. It must outlast our own interval,
    though; where dead_ratio is small, or advbase 0, that comes first.
    """
    return max(dead_ratio * advbase - 1, int(interval(advbase=advbase, advskew=advskew)) + 1)
