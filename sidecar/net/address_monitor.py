"""Address changes as the kernel tells them (rtnetlink(7), RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR): no polling.

Of the addresses that were asked for only: a node may have thousands of others that come and go, and each of them costs
microseconds here. Where the kernel had to drop something, all addresses are read anew by way of the same socket, so
that nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from sidecar.net import nft
from sidecar.net.addresses import IPInterface
from sidecar.protocol.types import IPPROTO_CARP, IPAddress

_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100
_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
_ADDRESS_HEADER = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, interface."""
_CACHE_INFO = struct.Struct("=II")
"""The begin of struct ifa_cacheinfo: preferred and valid seconds."""
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_PROTO = 1, 2, 6, 11
_IFA_F_DADFAILED = 0x08
_FOREVER = 0xFFFFFFFF
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20
_READS_AT_ONCE = 64
_READ_AT_MOST = 65536
_FIRST_READING_WITHIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An address is there, new or changed. Times are in seconds, None for ever.

    ``marked`` tells whether it carries our mark (``IFA_PROTO``), None where the kernel does not keep it (before 5.18).
    """

    index: int
    interface: IPInterface
    valid: int | None
    preferred: int | None
    marked: bool | None
    dad_failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """An address is there no more. The kernel itself removes one that dies anyway when it finds a duplicate."""

    index: int
    interface: IPInterface
    dad_failed: bool = False


@dataclass(frozen=True, slots=True)
class ReadAnew:
    """These are all that are there now, as (interface's index, address): what is not among them is gone.

    ``mark`` is the last one that was set before they were read; its own Marked may be lost.
    """

    there: frozenset[tuple[int, IPInterface]]
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Marked:
    """What is told from here on happened after ``mark`` was set."""

    mark: int


Change = Seen | Gone | ReadAnew | Marked


class AddressMonitor:
    """Hears of ``wanted``, whatever their prefix and interface. ``fileno`` is for a selector."""

    __slots__ = ("_lost", "_mark", "_mark_of_reading", "_reading", "_socket", "_there", "_wanted")

    def __init__(self, wanted: Collection[IPAddress]) -> None:
        self._wanted = frozenset(address.packed for address in wanted)
        self._there: set[tuple[int, IPInterface]] = set()
        self._reading = False
        """All addresses are on their way to us."""
        self._lost = False
        """Something was dropped since that began, or before."""
        self._mark = self._mark_of_reading = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with contextlib.suppress(PermissionError):  # in a user namespace: it takes the system's right
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def want(self, wanted: Collection[IPAddress]) -> None:
        """Hear of these addresses instead; those that are there now are told by and by."""
        self._wanted = frozenset(address.packed for address in wanted)
        self._lost = True
        if not self._reading:
            self._read_anew()

    def read_all(self) -> list[Change]:
        """Return what is there now, up to and with ReadAnew. Raises TimeoutError."""
        self._read_anew()
        told: list[Change] = []
        while not any(isinstance(each, ReadAnew) for each in told):
            if not select.select([self._socket], [], [], _FIRST_READING_WITHIN)[0]:
                raise TimeoutError("the kernel does not tell its addresses")
            told += self.changes()
        return told

    def mark(self) -> int:
        """Set a mark: what this process does to addresses from now on is told after its Marked."""
        self._mark += 1
        self._ask(_NLMSG_NOOP, _NLM_F_ACK, self._mark)  # the kernel queues its answer behind what it has told so far
        return self._mark

    def changes(self) -> list[Change]:
        """Return some of what has changed since the last call; the descriptor stays readable while there is more."""
        told: list[Change] = []
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._socket.recv(_READ_AT_MOST)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                if not self._reading:
                    self._read_anew()
                continue
            told += self._parse(data)
        return told

    def _read_anew(self) -> None:
        self._reading, self._lost = True, False
        self._there.clear()
        self._mark_of_reading = self._mark
        self._ask(_RTM_GETADDR, _NLM_F_DUMP, 0, _ADDRESS_HEADER.pack(0, 0, 0, 0, 0))

    def _ask(self, kind: int, flags: int, sequence: int, body: bytes = b"") -> None:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, sequence, 0) + body)

    def _parse(self, data: bytes) -> Iterator[Change]:
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            if flags & _NLM_F_DUMP_INTR and self._reading:
                self._lost = True
            if kind in (_RTM_NEWADDR, _RTM_DELADDR):
                change = self._address(data[at + _HEADER.size : at + length], gone=kind == _RTM_DELADDR)
                if change is not None:
                    yield change
            elif kind == _NLMSG_ERROR and sequence:
                yield Marked(sequence)
            elif kind == _NLMSG_DONE:
                self._reading = False
                if self._lost:
                    self._read_anew()
                else:
                    yield ReadAnew(frozenset(self._there), self._mark_of_reading)
            at += max(_HEADER.size, length + 3 & ~3)

    def _address(self, message: bytes, *, gone: bool) -> Change | None:
        _, prefix, flags, _, index = _ADDRESS_HEADER.unpack_from(message)
        fields = nft.attributes(message[_ADDRESS_HEADER.size :])
        packed = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
        if packed not in self._wanted:
            return None
        interface = ip_interface((packed, prefix))
        if gone:
            self._there.discard((index, interface))
            return Gone(index=index, interface=interface, dad_failed=bool(flags & _IFA_F_DADFAILED))
        self._there.add((index, interface))
        preferred, valid = (
            _CACHE_INFO.unpack_from(fields[_IFA_CACHEINFO]) if _IFA_CACHEINFO in fields else (_FOREVER,) * 2
        )
        mark = fields.get(_IFA_PROTO)
        return Seen(
            index=index,
            interface=interface,
            valid=None if valid == _FOREVER else valid,
            preferred=None if preferred == _FOREVER else preferred,
            marked=None if mark is None else mark[0] == IPPROTO_CARP,
            dad_failed=bool(flags & _IFA_F_DADFAILED),
        )
