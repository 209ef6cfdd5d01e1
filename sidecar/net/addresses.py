"""The kernel's addresses through rtnetlink (rtnetlink(7)): what this node has, and VIPs put on and taken off.

Our own addresses carry ``IFA_PROTO`` 112 (Linux 5.18 and later), so that a sweep never touches anybody else's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from sidecar.protocol.types import IPPROTO_CARP, IPAddress

IPInterface = IPv4Interface | IPv6Interface

FOREVER = 0xFFFFFFFF
"""The lifetime of an address that stays."""
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_ARPHRD_ETHER = 1
_RTM_NEWADDR = 20
_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_SEQUENCE, _SEQUENCE_AT = struct.Struct("=I"), 8
_ACKNOWLEDGEMENT = struct.Struct("=IHHIIi")
"""struct nlmsghdr and nlmsgerr's error (netlink(7))."""
_REPLY_AT_MOST = 4096
_KERNEL_ANSWERS_WITHIN = 1.0


class AddressError(Exception):
    """The kernel refused an address; the message names it and the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of this node. ``leased`` tells that it is one of ours: a VIP, not an address of the node's own.

    ``left`` is what is left of its lifetime, in whole seconds.
    """

    index: int
    interface: IPInterface
    leased: bool
    left: int = FOREVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network interface. ``mac`` is 6 bytes on Ethernet, else empty; ``up`` means that it can carry frames."""

    index: int
    name: str
    mac: bytes
    up: bool


class Addresses:
    """rtnetlink. Use as a context manager or call ``close``."""

    __slots__ = ("_renewals", "_route")

    def __init__(self) -> None:
        self._route = IPRoute()
        self._renewals = _Prepared()

    def __enter__(self) -> Addresses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._route.close()
        self._renewals.close()

    def links(self) -> tuple[Link, ...]:
        """Return all network interfaces."""
        return tuple(link_from_message(message) for message in self._route.get_links())

    def addresses(self) -> tuple[Address, ...]:
        """Return all addresses of all interfaces."""
        return tuple(_address_from_message(message) for message in self._route.get_addr())

    def gateways(self) -> tuple[tuple[int, IPAddress], ...]:
        """Return the default gateways: the interface's index and the address."""
        routes = [
            each for family in (socket.AF_INET, socket.AF_INET6) for each in self._route.get_default_routes(family)
        ]
        told = [(each.get_attr("RTA_OIF"), each.get_attr("RTA_GATEWAY")) for each in routes]
        return tuple((index, ip_address(gateway)) for index, gateway in told if index and gateway)

    def put(self, *, index: int, vip: IPInterface, lifetime: int) -> None:
        """Bind ``vip`` to an interface for ``lifetime`` s (or FOREVER); a host prefix is never a source address.

        One that is there gets this lifetime from now on.

        Raises AddressError.
        """
        try:
            code = self._renewals.ask((index, vip, lifetime))
        except OSError as error:
            raise AddressError(f"the kernel cannot be asked for {vip}: {error.strerror or error}") from error
        if code:
            raise AddressError(f"the kernel refused {vip}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")

    def take(self, *, index: int, vip: IPInterface) -> None:
        """Remove ``vip`` from an interface; it need not be there. Raises AddressError."""
        try:
            self._route.addr(
                "del", index=index, address=str(vip.ip), prefixlen=vip.network.prefixlen, family=_family(vip)
            )
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise AddressError(f"the kernel kept {vip}: {_said(error)}") from error


class _Prepared:
    """Sends one request over and over, which is made only once: a renewal comes with each advert of each group.

    pyroute2 makes the request, but takes 500 us to make, send and answer one; this takes 6 us.
    """

    __slots__ = ("_requests", "_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_KERNEL_ANSWERS_WITHIN)
        self._requests: dict[tuple[int, IPInterface, int], bytearray] = {}
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def ask(self, lease: tuple[int, IPInterface, int]) -> int:
        """Put an address for its lifetime (interface index, address, seconds); return 0 or the errno. Raises OSError.

        A request that nobody acknowledged in time is not taken for a later one: each has its own number.
        """
        request = self._requests.get(lease)
        if request is None:
            request = self._requests[lease] = _replace_request(*lease)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(request, _SEQUENCE_AT, self._sequence)
        self._socket.send(request)
        while True:
            _, kind, _, sequence, _, code = _ACKNOWLEDGEMENT.unpack_from(self._socket.recv(_REPLY_AT_MOST))
            if kind == _NLMSG_ERROR and sequence == self._sequence:
                return -int(code)


def _replace_request(index: int, vip: IPInterface, lifetime: int) -> bytearray:
    host = vip.network.prefixlen == vip.max_prefixlen
    message = ifaddrmsg()
    message["index"], message["family"], message["prefixlen"] = index, _family(vip), vip.network.prefixlen
    message["header"]["type"] = _RTM_NEWADDR
    message["header"]["flags"] = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE
    message["attrs"] = [
        ("IFA_ADDRESS", str(vip.ip)),
        ("IFA_CACHEINFO", {"ifa_valid": lifetime, "ifa_preferred": 0 if host else lifetime}),
        ("IFA_PROTO", IPPROTO_CARP),
    ]
    if vip.version == 4:
        message["attrs"].append(("IFA_LOCAL", str(vip.ip)))
    else:  # CARP already told us that nobody else has it
        message["attrs"].append(("IFA_FLAGS", _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if host else 0)))
    message.encode()
    return bytearray(message.data)


def link_from_message(message: Any) -> Link:  # noqa: ANN401 - pyroute2 has no types
    """Read an RTM_NEWLINK message as pyroute2 parses it."""
    mac = message.get_attr("IFLA_ADDRESS") or ""
    ethernet = message["ifi_type"] == _ARPHRD_ETHER
    flags = message["flags"]
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=bytes.fromhex(mac.replace(":", "")) if ethernet else b"",
        up=bool(flags & _IFF_UP and flags & _IFF_RUNNING),
    )


def _address_from_message(message: Any) -> Address:  # noqa: ANN401 - as above
    get = message.get_attr
    text = get("IFA_LOCAL") or get("IFA_ADDRESS")
    lifetimes = get("IFA_CACHEINFO")
    finite = lifetimes is not None and lifetimes["ifa_valid"] != FOREVER
    # Kernels before 5.18 do not keep IFA_PROTO: there an address that dies and was never preferred is taken for ours.
    leased = get("IFA_PROTO") == IPPROTO_CARP or (
        get("IFA_PROTO") is None and finite and not lifetimes["ifa_preferred"]
    )
    interface = ip_interface(f"{text}/{message['prefixlen']}")
    left = FOREVER if lifetimes is None else lifetimes["ifa_valid"]
    return Address(index=message["index"], interface=interface, leased=leased, left=left)


def _family(vip: IPInterface) -> int:
    return socket.AF_INET if vip.version == 4 else socket.AF_INET6


def _said(error: NetlinkError) -> str:
    return f"{error} ({errno.errorcode.get(error.code, error.code)})"
