"""Deadlines of many owners in one heap, so that a turn of the loop costs what is due and not what exists."""

from __future__ import annotations

import heapq
import math

_SLACK = 64
"""Entries that may be out of date before the heap is made anew."""


class Timers:
    """One deadline per owner, in seconds of the caller's clock.

    An entry of the heap counts only while it says what its owner has armed last; others are thrown away when they come
    to the top, or all at once when they outnumber the rest, so that the heap does not grow with what was re-armed.
    """

    __slots__ = ("_armed", "_heap")

    def __init__(self) -> None:
        self._armed: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def arm(self, owner: str, at: float | None) -> None:
        """Set the owner's only deadline; None or infinity: it has none."""
        if at is None or at == math.inf:
            self._armed.pop(owner, None)
            return
        if self._armed.get(owner) == at:
            return
        self._armed[owner] = at
        heapq.heappush(self._heap, (at, owner))
        if len(self._heap) > 2 * len(self._armed) + _SLACK:
            self._heap = [(at, owner) for owner, at in self._armed.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """Return the earliest deadline, or None."""
        heap = self._heap
        while heap and self._armed.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[str]:
        """Take out the owners whose deadline is not after ``now`` and return them, the earliest first.

        They have no deadline until they are armed again.
        """
        owners: list[str] = []
        while (at := self.next()) is not None and at <= now:
            owners.append(heapq.heappop(self._heap)[1])
            del self._armed[owners[-1]]
        return owners
