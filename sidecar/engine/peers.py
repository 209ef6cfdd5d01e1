"""Whom a group hears: what each sender's adverts said, and why some of them were dropped."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from sidecar.ipc.messages import PeerStatus
from sidecar.protocol.packet import Header
from sidecar.protocol.types import DropReason, IPAddress

MEMBERS_AT_MOST = 256
"""Senders of valid adverts that are remembered: in ``compat`` whoever replays one can make up its source."""
STRANGERS_AT_MOST = 64
"""Senders without a valid advert that are remembered; source addresses can be made up at will."""
REPORT_EVERY = 600.0
"""Seconds until the log mentions the same fault of the same sender again."""
REPORTS_AT_MOST = 64
"""Faults in the log in that time, of all senders together."""


@dataclass(slots=True)
class _Peer:
    password: int = 0
    """Which of the group's passwords it uses, from 1; 0 if it has not sent a valid advert."""
    adverts: int = 0
    heard_at: float = 0.0
    header: Header | None = None
    drops: Counter[DropReason] = field(default_factory=Counter)
    reported: dict[DropReason, float] = field(default_factory=dict)


class Peers:
    """All senders of adverts for one group. Times are Unix seconds."""

    __slots__ = ("_counting_since", "_members", "_reports", "_strangers")

    def __init__(self) -> None:
        self._members: dict[IPAddress, _Peer] = {}
        self._strangers: OrderedDict[IPAddress, _Peer] = OrderedDict()
        self._reports = 0
        self._counting_since = -math.inf

    def heard(
        self, source: IPAddress, header: Header, *, password: int, wall: float, followed: IPAddress | None = None
    ) -> int:
        """Note a valid advert; return which password this sender used before, 0 if this is its first.

        Whoever is ``followed`` is never forgotten to make room.
        """
        peer = self._members.get(source)
        if peer is None:
            if len(self._members) >= MEMBERS_AT_MOST:
                others = (each for each in self._members if each != followed)
                del self._members[min(others, key=lambda each: self._members[each].heard_at)]
            peer = self._members[source] = self._strangers.pop(source, _Peer())
        before, peer.password = peer.password, password
        peer.adverts += 1
        peer.heard_at = wall
        peer.header = header
        return before

    def dropped(self, source: IPAddress, reason: DropReason, *, wall: float) -> bool:
        """Count a dropped advert; tell whether it is worth a line in the log: once per sender and reason in a while."""
        peer = self._members.get(source) or self._stranger(source)
        peer.drops[reason] += 1
        if abs(wall - self._counting_since) > REPORT_EVERY:
            self._counting_since, self._reports = wall, 0
        if abs(wall - peer.reported.get(reason, -math.inf)) < REPORT_EVERY or self._reports >= REPORTS_AT_MOST:
            return False
        peer.reported[reason] = wall
        self._reports += 1
        return True

    def members(self) -> tuple[IPAddress, ...]:
        """Return those of whom a valid advert was heard."""
        return tuple(self._members)

    def status(self) -> tuple[PeerStatus, ...]:
        """Return all senders, members first."""
        everyone = [*self._members.items(), *self._strangers.items()]
        return tuple(
            PeerStatus(
                address=str(source),
                password=peer.password,
                adverts=peer.adverts,
                heard_at=peer.heard_at or None,
                advbase=peer.header.advbase if peer.header else None,
                advskew=peer.header.advskew if peer.header else None,
                demotion=peer.header.demotion if peer.header else None,
                drops={reason.value: count for reason, count in sorted(peer.drops.items())},
            )
            for source, peer in everyone
        )

    def _stranger(self, source: IPAddress) -> _Peer:
        peer = self._strangers.setdefault(source, _Peer())
        self._strangers.move_to_end(source)
        if len(self._strangers) > STRANGERS_AT_MOST:
            self._strangers.popitem(last=False)
        return peer
