"""Silence of a virtual MAC about multicast: nftables keeps the kernel's MLD reports and router solicitations from it.

The kernel says by MLD which solicited-node groups an interface listens to: when a VIP comes, again at random moments
for seconds, and when it goes, which is up to a second after somebody else has taken over. Each of these frames comes
from the virtual MAC, and leads switches to a node that is not master. A switch that snoops floods what is for such a
group, or learns of it by the NIC's own reports.

A table that outlives its processes keeps a macvlan that does so as silent, and touches nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sidecar.net import nft
from sidecar.net.nft import Message
from sidecar.net.own_table import OwnTable

_CHAIN = "output"
_LOCAL_OUT, _FIRST = 3, -1000
_OIF, _L4PROTO, _TRANSPORT_HEADER = 5, 16, 2
_AT_MOST, _AT_LEAST = 3, 5
_ICMPV6 = 58
_OLD_AND_SOLICITATION = (130, 133)
"""MLD version 1 (RFC 2710) and router solicitation (RFC 4861)."""
_REPORT = 143
"""MLD version 2 (RFC 3810)."""


class VirtualMld:
    """The table of one group; ``hold`` it once the macvlan is there."""

    __slots__ = ("_table",)

    def __init__(self, name: str) -> None:
        self._table = OwnTable(f"carp-mld-{name}", family=nft.FAMILY_INET, missing="the kernel has no nf_tables")

    def hold(self, *, index: int) -> None:
        """Keep the interface of that index silent from now on; the table is made anew. Raises OwnTableError."""
        self._table.make([*self._content(index)])

    def remove(self) -> None:
        """Delete the table, if there is one, and close the socket. Raises OwnTableError."""
        self._table.remove()

    def _content(self, index: int) -> Iterator[Message]:
        yield self._table.chain(_CHAIN, hook=_LOCAL_OUT, priority=_FIRST)
        low, high = _OLD_AND_SOLICITATION
        leaves_by_it = [nft.meta(_OIF), nft.compare(struct.pack("=I", index))]
        type_of_icmp = [
            nft.meta(_L4PROTO),
            nft.compare(bytes([_ICMPV6])),
            nft.payload(_TRANSPORT_HEADER, offset=0, size=1),
        ]
        for wanted in (
            [nft.compare(bytes([low]), _AT_LEAST), nft.compare(bytes([high]), _AT_MOST)],
            [nft.compare(bytes([_REPORT]))],
        ):
            yield self._table.rule(_CHAIN, [*leaves_by_it, *type_of_icmp, *wanted, nft.drop()])
