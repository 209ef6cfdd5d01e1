"""Whom a group hears: what each sender's adverts said, and why some of them were dropped."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from sidecar.ipc.messages import PeerStatus
from sidecar.protocol.packet import Header
from sidecar.protocol.types import DropReason, IPAddress

STRANGERS_AT_MOST = 64
"""Senders without a valid advert that are remembered; source addresses can be made up at will."""
REPORTS_AT_MOST = 64
"""Faults in the log until one of their senders makes sense again."""


@dataclass(slots=True)
class _Peer:
    password: int = 0
    """Which of the group's passwords it uses, from 1; 0 if it has not sent a valid advert."""
    adverts: int = 0
    heard_at: float = 0.0
    header: Header | None = None
    drops: Counter[DropReason] = field(default_factory=Counter)
    reported: set[DropReason] = field(default_factory=set)


class Peers:
    """All senders of adverts for one group. Times are Unix seconds."""

    __slots__ = ("_members", "_reports", "_strangers")

    def __init__(self) -> None:
        self._members: dict[IPAddress, _Peer] = {}
        self._strangers: OrderedDict[IPAddress, _Peer] = OrderedDict()
        self._reports = 0

    def heard(self, source: IPAddress, header: Header, *, password: int, wall: float) -> int:
        """Note a valid advert; return which password this sender used before, 0 if this is its first."""
        peer = self._members.get(source)
        if peer is None:
            peer = self._members[source] = self._strangers.pop(source, _Peer())
        before, peer.password = peer.password, password
        peer.adverts += 1
        peer.heard_at = wall
        peer.header = header
        self._reports -= len(peer.reported)
        peer.reported.clear()
        return before

    def dropped(self, source: IPAddress, reason: DropReason) -> bool:
        """Count a dropped advert; tell whether it is worth a line in the log.

        That is once per sender and reason, and again only after that sender made sense in between.
        """
        peer = self._members.get(source) or self._stranger(source)
        peer.drops[reason] += 1
        if reason in peer.reported or self._reports >= REPORTS_AT_MOST:
            return False
        peer.reported.add(reason)
        self._reports += 1
        return True

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
