"""Other masters that go on although this one has answered them: what somebody has to be woken for."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.protocol.types import IPAddress

BACK_WITHIN = 60.0
"""Seconds in which a rival that is heard again counts as one that goes on."""
REPORT_EVERY = 600.0
"""Seconds until the log mentions the same rival again."""
AT_MOST = 16


@dataclass(slots=True)
class _Rival:
    heard_at: float
    goes_on: bool = False
    reported_at: float = float("-inf")


class Rivals:
    """The rivals of one group, all of them authentic. Times are monotonic seconds."""

    __slots__ = ("_rivals",)

    def __init__(self) -> None:
        self._rivals: dict[IPAddress, _Rival] = {}

    def heard(self, source: IPAddress, *, interval: float, now: float) -> bool:
        """Note an advert of a rival; tell whether it is worth a line in the log.

        ``interval`` is ours: a rival that goes on for longer has had an answer and did not heed it.
        """
        rival = self._rivals.get(source)
        if rival is None or now - rival.heard_at > BACK_WITHIN:
            if rival is not None or len(self._rivals) < AT_MOST:
                self._rivals[source] = _Rival(now)
            return False
        if now - rival.heard_at < interval / 2:
            return False
        rival.heard_at, rival.goes_on = now, True
        if now - rival.reported_at < REPORT_EVERY:
            return False
        rival.reported_at = now
        return True

    def standing(self, *, since: float) -> tuple[IPAddress, ...]:
        """Return those that go on and were heard since then."""
        return tuple(source for source, rival in self._rivals.items() if rival.goes_on and rival.heard_at >= since)
