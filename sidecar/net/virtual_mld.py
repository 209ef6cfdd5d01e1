"""Silence of a virtual MAC about multicast: nftables keeps the kernel's MLD reports and router solicitations from it.

The kernel says by MLD which solicited-node groups an interface listens to: when a VIP comes, again at random moments
for seconds, and when it goes, which is up to a second after somebody else has taken over. Each of these frames comes
from the virtual MAC, and leads switches to a node that is not master. A switch that snoops floods what is for such a
group, or learns of it by the NIC's own reports.

A table that outlives its processes keeps a macvlan that does so as silent, and touches nothing else.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence

from sidecar.net import nft
from sidecar.net.nft import Message, Nft, NftError
from sidecar.net.virtual_mac import VirtualMacError

_LOCAL_OUT, _FIRST = 3, -1000
_OIF, _L4PROTO, _TRANSPORT_HEADER, _REGISTER, _VERDICT = 5, 16, 2, 1, 0
_EQUAL, _AT_MOST, _AT_LEAST = 0, 3, 5
_ICMPV6 = 58
_OLD_AND_SOLICITATION = (130, 133)
"""MLD version 1 (RFC 2710) and router solicitation (RFC 4861)."""
_REPORT = 143
"""MLD version 2 (RFC 3810)."""


class VirtualMldError(VirtualMacError):
    """The kernel refused; the message says what and why."""


class VirtualMld:
    """The table of one group; ``hold`` it once the macvlan is there."""

    __slots__ = ("_nft", "table")

    def __init__(self, name: str) -> None:
        self.table = f"carp-mld-{name}"
        self._nft = Nft()

    def hold(self, *, index: int) -> None:
        """Keep the interface of that index silent from now on; the table is made anew. Raises VirtualMldError."""
        self._run([*self._removal(), *self._creation(index)])

    def remove(self) -> None:
        """Delete the table, if there is one, and close the socket. Raises VirtualMldError."""
        try:
            self._run([*self._removal()])
        finally:
            self._nft.close()

    def _run(self, messages: Sequence[Message]) -> None:
        try:
            self._nft.run(nft.batch(messages))
        except NftError as error:
            missing = "the kernel has no nf_tables" if error.code == errno.EOPNOTSUPP else f"refused {error}"
            raise VirtualMldError(f"nftables table {self.table}: {missing}") from error
        except OSError as error:
            raise VirtualMldError(f"nftables table {self.table}: {error.strerror}") from error

    def _removal(self) -> Iterator[Message]:
        for kind in (nft.NEWTABLE, nft.DELTABLE):  # the kernel refuses to delete what is not there
            yield self._message(kind, "the table")

    def _creation(self, index: int) -> Iterator[Message]:
        yield self._message(nft.NEWTABLE, "the table")
        hook = nft.nested(4, nft.number(1, _LOCAL_OUT), nft.number(2, _FIRST))
        yield self._message(nft.NEWCHAIN, "the chain", nft.text(3, "output") + hook + nft.text(7, "filter"))
        low, high = _OLD_AND_SOLICITATION
        yield self._rule(index, [_compare(_AT_LEAST, bytes([low])), _compare(_AT_MOST, bytes([high]))])
        yield self._rule(index, [_compare(_EQUAL, bytes([_REPORT]))])

    def _rule(self, index: int, of_type: Sequence[bytes]) -> Message:
        """Drop what leaves by that interface as ICMPv6 of such a type."""
        drop = nft.nested(2, nft.nested(2, nft.number(1, 0)))
        where = [nft.number(2, _TRANSPORT_HEADER), nft.number(3, 0), nft.number(4, 1)]
        expressions = [
            _load(_OIF),
            _compare(_EQUAL, struct.pack("=I", index)),  # in the CPU's order, like all that meta loads
            _load(_L4PROTO),
            _compare(_EQUAL, bytes([_ICMPV6])),
            _expression("payload", nft.number(1, _REGISTER), *where),
            *of_type,
            _expression("immediate", nft.number(1, _VERDICT), drop),
        ]
        return self._message(nft.NEWRULE, "a rule", nft.text(2, "output") + nft.nested(4, *expressions))

    def _message(self, kind: int, what: str, attributes: bytes = b"") -> Message:
        return Message(kind=kind, family=nft.FAMILY_INET, attributes=nft.text(1, self.table) + attributes, what=what)


def _load(what: int) -> bytes:
    return _expression("meta", nft.number(1, _REGISTER), nft.number(2, what))


def _compare(how: int, value: bytes) -> bytes:
    return _expression("cmp", nft.number(1, _REGISTER), nft.number(2, how), nft.nested(3, nft.attribute(1, value)))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nft.nested(1, nft.text(1, name), nft.nested(2, *attributes))
