"""CARP's intervals in seconds, from advbase (seconds) and advskew (1/256 s)."""

from __future__ import annotations

TICK = 1 / 256
"""The unit of advskew, and the shortest interval."""


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


def lease(*, advbase: int, advskew: int, dead_ratio: int) -> int:
    """Return how many whole seconds the kernel keeps a VIP after each renewal, which comes with each advert.

    The kernel removes an address up to a second after its lifetime, and the earliest peer waits dead_ratio x advbase s
    from the last advert: one second less than that keeps two nodes from answering. It must outlast our own interval,
    though; where dead_ratio is small, or advbase 0, that comes first.
    """
    return max(dead_ratio * advbase - 1, int(interval(advbase=advbase, advskew=advskew)) + 1)
