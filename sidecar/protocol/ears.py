"""What a group hears, family by family: OpenBSD and FreeBSD run a master-down timer for each (``sc_md_tmo``,
``sc_md6_tmo``), and so do we."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sidecar.protocol.types import IPAddress


@dataclass(slots=True)
class Ear:
    """One family: times are monotonic seconds, ``down_at`` is when its silence means that the master is down."""

    source: IPAddress
    """Our own address in this family."""
    master: IPAddress | None = None
    """Whom we follow here."""
    heard_at: float = -math.inf
    """When a master's advert came last, be it that of the one we follow or of a rival."""
    down_at: float = math.inf
    resting: bool = False
    """Its silence proves nothing, since a living master was found in spite of it; until somebody is heard regularly."""
    seen: IPAddress | None = None
    seen_at: float = -math.inf
    """Whom a resting ear heard, and since when."""

    def wakes(self, source: IPAddress, *, interval: float, now: float) -> bool:
        """Tell whether a resting ear hears ``source`` regularly, ``interval`` s apart, and not only a flash of it.

        Whoever takes over because of the silence is heard once or twice here before it yields.
        """
        since = now - self.seen_at
        if self.seen != source or since > 1.5 * interval:
            self.seen, self.seen_at = source, now
            return False
        return since >= interval / 2


class Ears:
    """All families that a group speaks, the main one first."""

    __slots__ = ("_by_version", "main")

    def __init__(self, source: IPAddress, second: IPAddress | None) -> None:
        self.main = Ear(source)
        self._by_version = {source.version: self.main}
        if second is not None:
            self._by_version[second.version] = Ear(second)

    def of(self, address: IPAddress) -> Ear | None:
        """Return the ear that hears ``address``, or None for a family that the group does not speak."""
        return self._by_version.get(address.version)

    @property
    def master(self) -> IPAddress | None:
        """Whom we follow, by the address of the main family if it is known there."""
        return next((ear.master for ear in self._by_version.values() if ear.master is not None), None)

    @property
    def masters(self) -> frozenset[IPAddress]:
        """The addresses of those that we follow, in all families."""
        return frozenset(ear.master for ear in self._by_version.values() if ear.master is not None)

    @property
    def followed_at(self) -> float:
        """When the one that we follow was heard last, in any family; minus infinity if we follow nobody."""
        return max((e.heard_at for e in self._by_version.values() if e.master is not None), default=-math.inf)

    def forget(self) -> None:
        """Follow nobody."""
        for ear in self._by_version.values():
            ear.master = None

    @property
    def down_at(self) -> float:
        """When the first of the timers ends: either of them makes a master."""
        return min(ear.down_at for ear in self._by_version.values())

    def silent(self, now: float) -> Ear:
        """Return the one whose timer has ended at ``now``."""
        return min(self._by_version.values(), key=lambda ear: (ear.down_at > now, ear.heard_at))

    def begin(self, at: float) -> None:
        """Listen in all families from the beginning; their timers end at ``at``."""
        for ear in self._by_version.values():
            ear.resting = False
            ear.down_at = at

    def arm(self, at: float) -> None:
        """Let all timers but the resting ones end at ``at``."""
        for ear in self._by_version.values():
            if not ear.resting:
                ear.down_at = at

    def rest_but(self, heard: Ear) -> None:
        """Let all timers rest but that of the ear that heard."""
        for ear in self._by_version.values():
            ear.resting = ear is not heard
            ear.down_at = math.inf
            ear.seen = None

    def others(self, than: Ear, *, heard_since: float) -> list[Ear]:
        """Return the other ears that have heard whom we follow since then."""
        every = self._by_version.values()
        return [ear for ear in every if ear is not than and ear.master is not None and ear.heard_at >= heard_since]

    def postpone(self, *, due: float, until: float) -> None:
        """Let those that have ended by ``due`` end at ``until``."""
        for ear in self._by_version.values():
            if ear.down_at <= due:
                ear.down_at = until
