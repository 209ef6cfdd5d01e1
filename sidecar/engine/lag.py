"""How late the loop is: a histogram of the time between a deadline and the moment when it was served."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from sidecar.ipc.messages import LagStatus

BOUNDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets in seconds: from far below CARP's shortest interval (1/256 s) to a frozen machine."""


class Lag:
    """Counts how late deadlines were served; ``note`` costs the same however many there were."""

    __slots__ = ("_counts", "_maximum", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._maximum = 0.0

    def note(self, seconds: float) -> None:
        """Count one wake-up that came ``seconds`` after its deadline."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds
        self._maximum = max(self._maximum, seconds)

    def status(self) -> LagStatus:
        """Return the histogram with cumulative buckets, as Prometheus has them."""
        return LagStatus(
            buckets=tuple(zip(BOUNDS, accumulate(self._counts), strict=False)),
            count=sum(self._counts),
            sum=self._sum,
            maximum=self._maximum,
        )
