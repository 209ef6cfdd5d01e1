"""Who else on this node meddles with the VIPs: takes them away, changes them, has them as addresses of its own. Pure.

The kernel tells of our own doing as well. What is ours is known by this: a release ends the watch before the address
goes, and whatever is told before the mark that is set when a lease begins happened before that lease.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from sidecar.net.address_monitor import Change, Gone, Marked, ReadAnew, Seen
from sidecar.net.addresses import IPInterface
from sidecar.protocol.types import IPAddress

OFTEN, WITHIN = 5, 60.0
"""More disturbances of one group than ``OFTEN`` in so many seconds: something on this node manages its addresses."""


class Weight(enum.Enum):
    """How much is to be said of a disturbance."""

    REPORT = enum.auto()
    ALARM = enum.auto()
    """It happens again and again: say so, once."""
    SILENCE = enum.auto()
    """That was said already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Somebody did something to a VIP that ``group`` holds. ``detail`` is a sentence without its interface.

    ``take_off`` tells that the address itself is spoilt and has to be made anew.
    """

    group: str
    index: int
    vip: IPInterface
    detail: str
    weight: Weight
    take_off: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A VIP of ``group`` has become an address of this node's own, which it answers for whatever its role."""

    group: str
    index: int
    address: IPInterface


@dataclass(slots=True)
class _Lease:
    """What a group holds, watched from the mark ``since`` on; a lease that was disturbed begins anew when it is put."""

    index: int
    until: float
    seconds: int | None
    since: float


@dataclass(slots=True)
class _Record:
    """When the group was disturbed lately."""

    lately: deque[float] = field(default_factory=deque)
    alarmed: bool = False

    def note(self, now: float) -> Weight:
        while self.lately and now - self.lately[0] > WITHIN:
            self.lately.popleft()
        if not self.lately:
            self.alarmed = False
        self.lately.append(now)
        if len(self.lately) <= OFTEN and not self.alarmed:
            return Weight.REPORT
        while len(self.lately) > OFTEN:
            self.lately.popleft()
        said, self.alarmed = self.alarmed, True
        return Weight.SILENCE if said else Weight.ALARM


class Guard:
    """Watches over the VIPs of these groups, whose interfaces' indexes are ``homes``. Times are monotonic seconds."""

    def __init__(self, groups: Mapping[str, tuple[IPInterface, ...]], homes: Mapping[str, int]) -> None:
        self._groups = groups
        self._homes = homes
        self._claimants = _claimants(groups)
        self._leases: dict[str, _Lease] = {}
        self._held: dict[tuple[int, IPInterface], str] = {}
        """By the index of its interface, each VIP that a group holds."""
        self._marked = 0
        """The last mark that was read."""
        self._records: dict[str, _Record] = {}
        self._own: dict[tuple[int, IPInterface], str] = {}
        """The node's own addresses that are VIPs too, and of which group."""

    def change(self, groups: Mapping[str, tuple[IPInterface, ...]], homes: Mapping[str, int]) -> None:
        """Watch over these from now on; what is leased is of a group that stays as it is."""
        self._groups, self._homes, self._claimants = groups, homes, _claimants(groups)
        self._records = {group: record for group, record in self._records.items() if group in groups}
        claimed = {where: self._claimant(where[1].ip, where[0]) for where in self._own}
        self._own = {where: group for where, group in claimed.items() if group is not None}

    # What this node does -----------------------------------------------------------------------------------------

    def bound(self, group: str, *, index: int, seconds: int | None, now: float, mark: Callable[[], int]) -> None:
        """Watch the group's VIPs, which were just put or extended for ``seconds`` (None: for ever).

        ``mark`` sets one in the kernel's notifications; it is called where a lease begins.
        """
        lease = self._leases.get(group)
        until = now + seconds if seconds is not None else math.inf
        if lease is not None and lease.index == index and lease.since < math.inf:
            lease.until = until
            lease.seconds = None if seconds is None or lease.seconds is None else max(seconds, lease.seconds)
            return
        self.released(group)
        self._leases[group] = _Lease(index, until, seconds, since=mark())
        self._held.update({(index, vip): group for vip in self._groups[group]})

    def released(self, group: str) -> None:
        """Watch them no more; to be called before they are taken off."""
        lease = self._leases.pop(group, None)
        if lease is not None:
            for vip in self._groups[group]:
                del self._held[lease.index, vip]

    def own(self, group: str) -> tuple[int, IPInterface] | None:
        """Return an address of this node's own that is a VIP of the group, with its interface's index."""
        return next((where for where, claimed in self._own.items() if claimed == group), None)

    # What the kernel tells ---------------------------------------------------------------------------------------

    def hear(self, changes: Iterable[Change], now: float) -> list[Disturbance | Claimed]:
        """Return what somebody else has done."""
        found: list[Disturbance | Claimed] = []
        for change in changes:
            match change:
                case Seen():
                    found += self._seen(change, now)
                case Gone(index=index, interface=vip, dad_failed=dad_failed):
                    self._own.pop((index, vip), None)
                    found += self._gone(index, vip, _duplicate(vip) if dad_failed else f"somebody deleted {vip}", now)
                case Marked(mark=mark):
                    self._marked = mark
                case ReadAnew(there=there, mark=mark):
                    self._marked = mark
                    for each in [each for each in self._own if each not in there]:
                        del self._own[each]
                    missing = [where for where in self._held if where not in there]
                    found += [
                        each for at, vip in missing for each in self._gone(at, vip, f"somebody deleted {vip}", now)
                    ]
                case _:
                    assert_never(change)
        return found

    def disturbed(self, group: str, detail: str, now: float) -> Disturbance | None:
        """Return what follows from what somebody did to the interface that bears the group's VIPs now, if any."""
        lease = self._leases.get(group)
        if lease is None or lease.since == math.inf:
            return None
        return self._disturbance(group, lease.index, self._groups[group][0], detail, now)

    def _gone(self, index: int, vip: IPInterface, detail: str, now: float) -> list[Disturbance]:
        group = self._watched(index, vip)
        if group is None:
            return []
        if now >= self._leases[group].until:
            self._leases[group].since = math.inf
            return []  # the kernel let go, as it was told to
        return [self._disturbance(group, index, vip, detail, now)]

    def _seen(self, seen: Seen, now: float) -> list[Disturbance | Claimed]:
        index, vip = seen.index, seen.interface
        if (index, vip) not in self._held:
            return self._claim(seen)
        group = self._watched(index, vip)
        if group is None or (_is_as_put(seen, self._leases[group]) and not seen.dad_failed):
            return []
        detail = _duplicate(vip) if seen.dad_failed else f"somebody changed {vip}"
        return [self._disturbance(group, index, vip, detail, now, take_off=seen.dad_failed)]

    def _watched(self, index: int, vip: IPInterface) -> str | None:
        """Return the group that holds the VIP, if what is told now is of its lease."""
        group = self._held.get((index, vip))
        return group if group is not None and self._marked >= self._leases[group].since else None

    def _disturbance(  # noqa: PLR0913 - what a disturbance is made of
        self, group: str, index: int, vip: IPInterface, detail: str, now: float, *, take_off: bool = False
    ) -> Disturbance:
        weight = self._records.setdefault(group, _Record()).note(now)
        self._leases[group].since = math.inf
        return Disturbance(group=group, index=index, vip=vip, detail=detail, weight=weight, take_off=take_off)

    def _claim(self, seen: Seen) -> list[Disturbance | Claimed]:
        where = seen.index, seen.interface
        group = self._claimant(seen.interface.ip, seen.index)
        # As ``Addresses`` has it, where there is no mark: what dies and is never a source address.
        ours = seen.marked or (seen.marked is None and seen.valid is not None and seen.preferred == 0)
        if group is None or ours:
            self._own.pop(where, None)
            return []
        news = where not in self._own
        self._own[where] = group
        return [Claimed(group, *where)] if news else []

    def _claimant(self, address: IPAddress, index: int) -> str | None:
        """Return whose VIP it is; a link-local one of another interface is another address."""
        groups = self._claimants.get(address, ())
        return next((each for each in groups if not address.is_link_local or self._homes[each] == index), None)


def _claimants(groups: Mapping[str, tuple[IPInterface, ...]]) -> dict[IPAddress, list[str]]:
    claimants: dict[IPAddress, list[str]] = {}
    for group, vips in groups.items():
        for vip in vips:
            claimants.setdefault(vip.ip, []).append(group)
    return claimants


def _duplicate(vip: IPInterface) -> str:
    return f"duplicate address detection failed for {vip}: another host has it"


def _is_as_put(seen: Seen, lease: _Lease) -> bool:
    host = seen.interface.network.prefixlen == seen.interface.max_prefixlen
    if seen.marked is False or (host and seen.preferred != 0):
        return False
    return lease.seconds is None or (seen.valid is not None and seen.valid <= lease.seconds)
