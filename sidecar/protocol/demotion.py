"""What makes a node a worse master for now: each source takes its weight once and gives back exactly that.

The sum travels in OpenBSD's byte (``carp_group_demote_adj``), and added to advskew for FreeBSD, NetBSD and ucarp, which
know no such byte (``DEMOTE_ADVSKEW``, FreeBSD ip_carp.c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HARD = 240
"""The weight of a source that says: let anybody else be master (FreeBSD's ``ifdown_demotion_factor``)."""
ASIDE = HARD - 1
"""The weight of one that lets others go first which are well: it goes before whoever has a source that is hard."""
MOST_ON_WIRE = 255
ADVSKEW_AT_MOST = 240
"""What a demoted node advertises at most (``CARP_MAXSKEW``, FreeBSD); a configured advskew above it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demotion:
    """One source of demotion: ``name`` for machines, ``detail`` for people, ``weight`` >= 1 in units of the byte.

    It ends by itself at ``until`` (monotonic seconds). One ``as_backup`` lets others go first, and takes nothing from a
    node in any other role.
    """

    name: str
    weight: int
    detail: str
    until: float = math.inf
    as_backup: bool = False


class Demotions:
    """All that is taken from one group now, which is ``backup`` or not."""

    __slots__ = ("_taken", "backup")

    def __init__(self) -> None:
        self._taken: dict[str, Demotion] = {}
        self.backup = False

    def take(self, name: str, *, weight: int, detail: str, until: float = math.inf, as_backup: bool = False) -> None:
        """Take ``weight`` for ``name``; a source that has taken already takes the new weight instead of the old."""
        if weight < 1:
            raise ValueError(f"demotion {name!r} has weight {weight}; it takes at least 1")
        self._taken[name] = Demotion(name=name, weight=weight, detail=detail, until=until, as_backup=as_backup)

    def give_back(self, name: str) -> None:
        """Give back what ``name`` took, if it took anything."""
        self._taken.pop(name, None)

    def expire(self, now: float) -> None:
        """Give back what has ended by itself."""
        for each in tuple(self._taken.values()) if self._taken else ():
            if each.until <= now:
                self.give_back(each.name)

    def standing(self) -> tuple[Demotion, ...]:
        """Return what is taken in this role, by name."""
        return tuple(each for _, each in sorted(self._taken.items()) if self._counts(each))

    @property
    def on_wire(self) -> int:
        """The sum, as far as OpenBSD's byte can tell it: 0..255."""
        return min(sum(each.weight for each in self._taken.values() if self._counts(each)), MOST_ON_WIRE)

    def _counts(self, each: Demotion) -> bool:
        return self.backup or not each.as_backup

    def advskew(self, configured: int) -> int:
        """Return the advskew to advertise (1/256 s): the configured one, raised by the sum, 240 at most."""
        return max(configured, min(configured + self.on_wire, ADVSKEW_AT_MOST))
