"""What a group that has yielded still owes: the release of its VIPs, and the word to its heirs that it is done."""

from __future__ import annotations

import math

from sidecar.protocol.events import AdvertReceived
from sidecar.protocol.types import IPAddress

HEIRS_AT_MOST = 8


class LettingGo:
    """Made with the group. Times are monotonic seconds; ``pending`` releases have not been answered yet."""

    __slots__ = ("_again_after", "_tell_from", "_until", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self._tell_from: dict[IPAddress, float] = {}
        """For each heir, from when on an advert of his is answered by the word."""
        self._again_after = 0.0
        self._until = -math.inf

    def leave(self, *, releases: bool) -> None:
        """Note that a role ends, and with it what was owed to heirs of another day."""
        self._tell_from, self._until = {}, -math.inf
        self.pending += releases

    def yield_until(self, until: float, *, interval: float) -> None:
        """Note that whoever claims the VIPs before ``until``, with adverts ``interval`` s apart, may wait for us."""
        self._until, self._again_after = until, interval / 2

    def hear(self, advert: AdvertReceived, now: float) -> IPAddress | None:
        """Note an heir: several may stand up at once, and we yielded to the first. Return whom to tell at once.

        Each is told once more at his next regular advert, since a word may be lost.
        """
        heir = advert.source
        known = self._tell_from.get(heir)
        if now >= self._until or advert.goodbye or not advert.sealed:
            return None
        if known is None and len(self._tell_from) == HEIRS_AT_MOST:
            return None
        due = -math.inf if known is None else known
        if self.pending or now < due:
            self._tell_from[heir] = due
            return None
        self._tell_from[heir] = math.inf if known is not None else now + self._again_after
        return heir

    def released(self, now: float) -> tuple[IPAddress, ...]:
        """Note that the kernel has let go; return whom to tell."""
        last = self.pending == 1
        self.pending = max(0, self.pending - 1)
        if not last:
            return ()
        self._tell_from = dict.fromkeys(self._tell_from, now + self._again_after)
        return tuple(self._tell_from)
