"""VIPs as leases: addresses with a finite kernel lifetime, renewed with each advert while master.

Kill, freeze or starve the processes, and the kernel itself stops answering: on the millisecond where ``net.cutoff``
works, else within a second after whole seconds (``valid_lft``, ip-address(8)).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sidecar.ipc.plan import GroupPlan
from sidecar.net.addresses import FOREVER, AddressError, Addresses, IPInterface
from sidecar.protocol import timing

_KERNEL_LATE = 0.75
"""Seconds by which the kernel takes an address off late (0.7 was measured)."""
KERNEL_EARLY = 0.02
"""Seconds by which it does so early (ADDRCONF_TIMER_FUZZ_MINUS, linux/include/net/addrconf.h)."""


class Kind(enum.StrEnum):
    """What ends a lease."""

    NFTABLES = "nftables"
    """An element of milliseconds; the address goes a little later."""
    ADDRESS = "address"
    """The address's lifetime of whole seconds."""
    OFF = "off"
    """Nothing: the VIP stays until it is taken off, as with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a group's VIPs are leased. ``why`` says where that is not what the settings ask for; times are in seconds.

    ``seconds`` is the address's lifetime where that ends the lease, ``standing`` how long after its advert a renewal
    counts, ``patience`` how long the earliest peer waits.
    """

    kind: Kind
    why: str
    seconds: int
    standing: float
    patience: float

    @property
    def lasts(self) -> float:
        """How long a lease lasts after a renewal that was carried out at once."""
        return min(self.seconds, self.standing) if self.kind is Kind.NFTABLES else self.seconds

    @property
    def latest(self) -> float:
        """How long after its advert a renewal may still be carried out."""
        return max(self.lasts, self.standing)

    @property
    def outlasts_patience(self) -> bool:
        """Whether peers take over before the lease ends: after a crash, two nodes answer for a while."""
        ends = self.standing if self.kind is Kind.NFTABLES else self.seconds
        return self.kind is Kind.OFF or ends >= self.patience

    def lifetime(self, left: float) -> int:
        """Return the address's lifetime, in whole seconds, for a renewal that counts for ``left`` seconds more."""
        match self.kind:
            case Kind.OFF:
                return FOREVER
            case Kind.NFTABLES:
                return max(1, math.ceil(left + KERNEL_EARLY))
            case Kind.ADDRESS:
                late = self.standing - left
                spare = self.patience - self.seconds - _KERNEL_LATE
                if self.outlasts_patience or late <= spare:
                    return self.seconds
                return max(1, self.seconds - math.ceil(late - max(0.0, spare)))

    def __str__(self) -> str:
        match self.kind:
            case Kind.OFF:
                text = "off: nothing takes the VIP off where the whole sidecar is killed"
            case Kind.NFTABLES:
                text = f"nftables: this node falls silent {self.standing:.3f} s after its last advert"
            case Kind.ADDRESS:
                ends = f"{self.seconds} to {self.seconds + 1} s after the last advert"
                text = f"address: the kernel takes the VIP off {ends}"
        if self.why:
            text += f", since {self.why}"
        if self.outlasts_patience:
            text += f"; peers wait {self.patience:.3f} s: after a SIGKILL of the whole sidecar two nodes may answer"
        return text


def terms(group: GroupPlan, *, unavailable: str | None, tick_ms: float) -> Terms:
    """Return how a group's VIPs are leased where nftables is ``unavailable`` for that reason (None: it works)."""
    timers = {"advbase": group.advbase, "advskew": group.advskew}
    standing = timing.standing(**timers, dead_ratio=group.dead_ratio)
    kind, why = Kind.ADDRESS, ""
    if group.lease == "auto":
        interval = timing.interval(**timers)
        if unavailable is not None:
            why = unavailable
        # A lease ends up to two ticks early, and must not do so between two renewals.
        elif standing - 2 * tick_ms / 1000 < 1.25 * interval:
            why = f"the kernel's tick of {tick_ms:g} ms is too coarse for adverts every {interval * 1000:.1f} ms"
        else:
            kind = Kind.NFTABLES
    elif group.lease == "off":
        kind = Kind.OFF
    return Terms(
        kind=kind,
        why=why,
        seconds=timing.lease(**timers, dead_ratio=group.dead_ratio),
        standing=standing,
        patience=timing.patience(**timers, dead_ratio=group.dead_ratio),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VipLease:
    """The VIPs of one group on one interface."""

    index: int
    vips: tuple[IPInterface, ...]

    def renew(self, addresses: Addresses, *, lifetime: int) -> str | None:
        """Bind all VIPs or extend them to ``lifetime`` s; return None, or why not (then none of them is left bound)."""
        try:
            for vip in self.vips:
                addresses.put(index=self.index, vip=vip, lifetime=lifetime)
        except AddressError as error:
            return self.release(addresses) or str(error)
        return None

    def release(self, addresses: Addresses) -> str | None:
        """Take all VIPs off; return None, or why one stayed (its lifetime then ends it)."""
        failed: str | None = None
        for vip in self.vips:
            try:
                addresses.take(index=self.index, vip=vip)
            except AddressError as error:
                failed = str(error)
        return failed

    @property
    def places(self) -> tuple[tuple[int, IPInterface], ...]:
        """Where its VIPs are, as ``leases`` and ``sweep`` have it."""
        return tuple((self.index, vip) for vip in self.vips)

    def held(self, standing: Collection[tuple[int, IPInterface]]) -> bool:
        """Tell whether all VIPs are among the leases that still stand, as ``leases`` tells them."""
        return all(place in standing for place in self.places)


def leases(addresses: Addresses) -> dict[tuple[int, IPInterface], int]:
    """Return every lease that stands, by the interface's index and the VIP: the address's seconds that are left."""
    return {(each.index, each.interface): each.left for each in addresses.addresses() if each.leased}


def sweep(
    addresses: Addresses, vips: Sequence[IPInterface], *, spare: Collection[tuple[int, IPInterface]] = ()
) -> tuple[str, ...]:
    """Remove what an earlier life left of these VIPs on any interface; return the names of what was removed.

    ``spare`` are leases that stay.
    """
    wanted = {vip.ip for vip in vips}
    removed = []
    for address in addresses.addresses():
        if address.leased and address.interface.ip in wanted and (address.index, address.interface) not in spare:
            addresses.take(index=address.index, vip=address.interface)
            removed.append(str(address.interface))
    return tuple(removed)
