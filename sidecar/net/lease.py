"""VIPs as leases: addresses with a finite kernel lifetime, renewed with each advert while master.

Kill, freeze or starve the processes, and the kernel itself stops answering (``valid_lft``, ip-address(8)).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sidecar.net.addresses import AddressError, Addresses, IPInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class VipLease:
    """The VIPs of one group on one interface. ``seconds`` is the lifetime of each renewal."""

    index: int
    vips: tuple[IPInterface, ...]
    seconds: int

    def renew(self, addresses: Addresses) -> str | None:
        """Bind all VIPs or extend them; return None, or why not (then none of them is left bound)."""
        try:
            for vip in self.vips:
                addresses.put(index=self.index, vip=vip, lifetime=self.seconds)
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

    def held(self, standing: Collection[tuple[int, IPInterface]]) -> bool:
        """Tell whether all VIPs are among the leases that still stand, as ``leases`` tells them."""
        return all((self.index, vip) in standing for vip in self.vips)


def leases(addresses: Addresses) -> frozenset[tuple[int, IPInterface]]:
    """Return every lease that stands: the interface's index and the VIP."""
    return frozenset((address.index, address.interface) for address in addresses.addresses() if address.leased)


def sweep(addresses: Addresses, vips: Sequence[IPInterface]) -> tuple[str, ...]:
    """Remove what an earlier life left of these VIPs on any interface; return the names of what was removed."""
    wanted = {vip.ip for vip in vips}
    removed = []
    for address in addresses.addresses():
        if address.leased and address.interface.ip in wanted:
            addresses.take(index=address.index, vip=address.interface)
            removed.append(str(address.interface))
    return tuple(removed)
