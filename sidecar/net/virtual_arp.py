"""ARP for VIPs at a virtual MAC: nftables keeps the NIC from telling anybody that they are at its own.

Linux answers on every interface for every address of the node, and asks in the name of the address that a packet comes
from. So for a VIP on a macvlan the NIC would answer too, and the clients of a master would learn its MAC from its
questions. A table of our own in the family arp drops such answers as they leave, and puts the node's own address into
such questions. ND needs nothing: IPv6 answers and asks by the interface that has the address.

What it knows of VIPs has a timeout: a table that outlives its processes ends up as an empty shell that does nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from sidecar.net import nft
from sidecar.net.nft import Message
from sidecar.net.own_table import OwnTable

REFRESH = 20.0
"""Seconds after which ``hold`` is to be called again."""
_TIMEOUT_MS = 60_000
_SET, _CHAIN = "vips", "output"
_ARP_OUTPUT = 1
_AFTER_OTHERS = 100
_SET_TIMEOUT, _IPV4_ADDR = 0x10, 7
_OIF, _NETWORK_HEADER = 5, 1
_OPERATION_AT, _SENDER_AT = 6, 14
_REPLY = b"\0\x02"


class VirtualArp:
    """The table of one group whose VIPs are ``vips``; the NIC has ``index``, the node the address ``own`` there."""

    __slots__ = ("_index", "_own", "_table", "_vips")

    def __init__(self, name: str, *, index: int, own: IPv4Address, vips: Sequence[IPv4Address]) -> None:
        self._table = OwnTable(f"carp-mac-{name}", family=nft.FAMILY_ARP, missing="the kernel has no nf_tables for ARP")
        self._index = index
        self._own = own
        self._vips = vips

    def hold(self) -> None:
        """Keep the NIC silent about the VIPs from now on; the table is made anew. Raises OwnTableError."""
        self._table.make([*self._content()])

    def remove(self) -> None:
        """Delete the table, if there is one, and close the socket. Raises OwnTableError."""
        self._table.remove()

    def _content(self) -> Iterator[Message]:
        table = self._table
        size, key, number = nft.number(5, 4), nft.number(4, _IPV4_ADDR), nft.number(10, 1)
        yield table.message(
            nft.NEWSET, "the set", nft.text(2, _SET) + nft.number(3, _SET_TIMEOUT) + key + size + number
        )
        yield table.chain(_CHAIN, hook=_ARP_OUTPUT, priority=_AFTER_OTHERS)
        among_vips = nft.lookup(_SET)
        leaves_by_the_nic = [nft.meta(_OIF), nft.compare(struct.pack("=I", self._index))]
        ours = [*leaves_by_the_nic, nft.payload(_NETWORK_HEADER, offset=_SENDER_AT, size=4), among_vips]
        is_answer = [nft.payload(_NETWORK_HEADER, offset=_OPERATION_AT, size=2), nft.compare(_REPLY)]
        yield table.rule(_CHAIN, [*ours, *is_answer, nft.drop()])
        yield table.rule(_CHAIN, [*ours, *self._ask_in_the_nodes_name()])
        elements = [nft.nested(1, nft.value(1, vip.packed), nft.number(4, _TIMEOUT_MS, size=8)) for vip in self._vips]
        yield table.message(nft.NEWSETELEM, "elements", nft.text(2, _SET) + nft.nested(3, *elements))

    def _ask_in_the_nodes_name(self) -> list[bytes]:
        where = [nft.number(2, _NETWORK_HEADER), nft.number(3, _SENDER_AT), nft.number(4, 4)]
        no_checksum = [nft.number(6, 0), nft.number(7, 0), nft.number(8, 0)]
        return [
            nft.expression("immediate", nft.number(1, nft.REGISTER), nft.value(2, self._own.packed)),
            nft.expression("payload", nft.number(5, nft.REGISTER), *where, *no_checksum),
        ]
