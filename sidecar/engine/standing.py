"""Demotions of the whole node: what stands now, and which groups it concerns.

As with the BSDs, a node that has lost the carrier of one interface is a worse master on the others too, so that a
router does not stay master on one side only (``carp_group_demote_adj``, OpenBSD ip_carp.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.ipc.messages import Health
from sidecar.protocol.demotion import HARD
from sidecar.protocol.events import Demote, Promote


@dataclass(frozen=True, slots=True)
class _Taken:
    event: Demote
    interface: str | None


class Standing:
    """Demotions by name. ``take`` and ``give_back`` tell whether that changed anything."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, _Taken] = {}

    def take(self, event: Demote, *, interface: str | None = None) -> bool:
        """Demote all groups; where ``interface`` has no carrier, those on others that care for links."""
        taken = _Taken(event, interface)
        changed = self._taken.get(event.name) != taken
        self._taken[event.name] = taken
        return changed

    def give_back(self, name: str) -> bool:
        """Demote nobody under this name any more."""
        return self._taken.pop(name, None) is not None

    def concerning(self, *, interface: str, ignore_link: bool) -> list[Demote]:
        """Return what demotes a group on ``interface``."""
        return [
            taken.event
            for taken in self._taken.values()
            if taken.interface is None or (taken.interface != interface and not ignore_link)
        ]


def carrier_lost(interface: str) -> Demote:
    """Return the demotion for an interface without carrier."""
    return Demote(name=f"link:{interface}", weight=HARD, detail=f"{interface} has no carrier")


def unhealthy(health: Health, group: str) -> dict[str, Demote]:
    """Return what the health probes demote a group by, by name."""
    return {
        each.name: Demote(name=each.name, weight=each.weight, detail=each.detail, as_backup=each.as_backup)
        for each in health.demotions
        if not each.groups or group in each.groups
    }


def changes(before: Health, after: Health, group: str) -> list[Demote | Promote]:
    """Return the events that bring a group from what the probes said to what they say now."""
    taken, wanted = unhealthy(before, group), unhealthy(after, group)
    over = [Promote(name=name) for name in taken if name not in wanted]
    return [*over, *(event for name, event in wanted.items() if taken.get(name) != event)]
