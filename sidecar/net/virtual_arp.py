"""ARP for VIPs at a virtual MAC: nftables keeps the NIC from telling anybody that they are at its own.

Linux answers on every interface for every address of the node, and asks in the name of the address that a packet comes
from. So for a VIP on a macvlan the NIC would answer too, and the clients of a master would learn its MAC from its
questions. A table of our own in the family arp drops such answers as they leave, and puts the node's own address into
such questions. ND needs nothing: IPv6 answers and asks by the interface that has the address.

What it knows of VIPs has a timeout: a table that outlives its processes ends up as an empty shell that does nothing.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from sidecar.net import nft
from sidecar.net.nft import Message, Nft, NftError

REFRESH = 20.0
"""Seconds after which ``hold`` is to be called again."""
_TIMEOUT_MS = 60_000
_SET = "vips"
_ARP_OUTPUT = 1
_AFTER_OTHERS = 100
_SET_TIMEOUT, _IPV4_ADDR = 0x10, 7
_OIF, _NETWORK_HEADER, _REGISTER, _VERDICT = 5, 1, 1, 0
_OPERATION_AT, _SENDER_AT = 6, 14
_REPLY = b"\0\x02"


class VirtualArpError(Exception):
    """The kernel refused; the message says what and why."""


class VirtualArp:
    """The table of one group whose VIPs are ``vips``; the NIC has ``index``, the node the address ``own`` there."""

    __slots__ = ("_index", "_nft", "_own", "_vips", "table")

    def __init__(self, name: str, *, index: int, own: IPv4Address, vips: Sequence[IPv4Address]) -> None:
        self.table = f"carp-mac-{name}"
        self._index = index
        self._own = own
        self._vips = vips
        self._nft = Nft()

    def hold(self) -> None:
        """Keep the NIC silent about the VIPs from now on; the table is made anew. Raises VirtualArpError."""
        elements = [
            nft.nested(1, nft.nested(1, nft.attribute(1, vip.packed)), nft.number(4, _TIMEOUT_MS, size=8))
            for vip in self._vips
        ]
        filled = self._message(nft.NEWSETELEM, "elements", nft.text(2, _SET) + nft.nested(3, *elements))
        self._run([*self._removal(), *self._creation(), filled])

    def remove(self) -> None:
        """Delete the table, if there is one, and close the socket. Raises VirtualArpError."""
        try:
            self._run([*self._removal()])
        finally:
            self._nft.close()

    def _run(self, messages: Sequence[Message]) -> None:
        try:
            self._nft.run(nft.batch(messages))
        except NftError as error:
            missing = "the kernel has no nf_tables for ARP" if error.code == errno.EOPNOTSUPP else f"refused {error}"
            raise VirtualArpError(f"nftables table {self.table}: {missing}") from error
        except OSError as error:
            raise VirtualArpError(f"nftables table {self.table}: {error.strerror}") from error

    def _removal(self) -> Iterator[Message]:
        for kind in (nft.NEWTABLE, nft.DELTABLE):  # the kernel refuses to delete what is not there
            yield self._message(kind, "the table")

    def _creation(self) -> Iterator[Message]:
        yield self._message(nft.NEWTABLE, "the table")
        size, key, number = nft.number(5, 4), nft.number(4, _IPV4_ADDR), nft.number(10, 1)
        yield self._message(
            nft.NEWSET, "the set", nft.text(2, _SET) + nft.number(3, _SET_TIMEOUT) + key + size + number
        )
        hook = nft.nested(4, nft.number(1, _ARP_OUTPUT), nft.number(2, _AFTER_OTHERS))
        yield self._message(nft.NEWCHAIN, "the chain", nft.text(3, "output") + hook + nft.text(7, "filter"))
        ours = [*self._leaves_by_the_nic(), *_load(_SENDER_AT, 4), _expression("lookup", nft.text(1, _SET), _from(2))]
        drop = nft.nested(2, nft.nested(2, nft.number(1, 0)))
        answers = [*ours, *_load(_OPERATION_AT, 2), _equals(_REPLY)]
        yield self._rule([*answers, _expression("immediate", nft.number(1, _VERDICT), drop)])
        yield self._rule([*ours, *self._ask_in_the_nodes_name()])

    def _leaves_by_the_nic(self) -> list[bytes]:
        index = struct.pack("=I", self._index)  # in the CPU's order, like all that meta loads
        return [_expression("meta", nft.number(1, _REGISTER), nft.number(2, _OIF)), _equals(index)]

    def _ask_in_the_nodes_name(self) -> list[bytes]:
        own = nft.nested(2, nft.attribute(1, self._own.packed))
        where = [nft.number(2, _NETWORK_HEADER), nft.number(3, _SENDER_AT), nft.number(4, 4)]
        return [
            _expression("immediate", nft.number(1, _REGISTER), own),
            _expression("payload", _from(5), *where, nft.number(6, 0), nft.number(7, 0), nft.number(8, 0)),
        ]

    def _rule(self, expressions: Sequence[bytes]) -> Message:
        return self._message(nft.NEWRULE, "a rule", nft.text(2, "output") + nft.nested(4, *expressions))

    def _message(self, kind: int, what: str, attributes: bytes = b"") -> Message:
        return Message(kind=kind, family=nft.FAMILY_ARP, attributes=nft.text(1, self.table) + attributes, what=what)


def _load(offset: int, size: int) -> list[bytes]:
    where = [nft.number(2, _NETWORK_HEADER), nft.number(3, offset), nft.number(4, size)]
    return [_expression("payload", nft.number(1, _REGISTER), *where)]


def _equals(value: bytes) -> bytes:
    return _expression("cmp", nft.number(1, _REGISTER), nft.number(2, 0), nft.nested(3, nft.attribute(1, value)))


def _from(kind: int) -> bytes:
    return nft.number(kind, _REGISTER)


def _expression(name: str, *attributes: bytes) -> bytes:
    return nft.nested(1, nft.text(1, name), nft.nested(2, *attributes))
