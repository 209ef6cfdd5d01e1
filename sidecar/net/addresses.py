"""The kernel's addresses through rtnetlink (rtnetlink(7)): what this node has, and VIPs put on and taken off.

Our own addresses carry ``IFA_PROTO`` 112 (Linux 5.18 and later), so that a sweep never touches anybody else's.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from types import TracebackType
from typing import Any

from sidecar.net import rtnetlink
from sidecar.net.rtnetlink import Rtnetlink
from sidecar.protocol.types import IPPROTO_CARP, IPAddress

IPInterface = IPv4Interface | IPv6Interface

FOREVER = 0xFFFFFFFF
"""The lifetime of an address that stays."""
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_ARPHRD_ETHER = 1
_MAIN_TABLE = 254
_FAMILY_AT, _PREFIX_AT, _TABLE_AT = 16, 17, 20
"""Of a route's message: its family, the length of its destination's prefix, and its table."""


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
    """What the kernel has, and what it is asked to. Use as a context manager or call ``close``.

    A renewal comes with each advert of each group, so that its request is made only once.
    """

    __slots__ = ("_kernel", "_renewals")

    def __init__(self) -> None:
        self._kernel = Rtnetlink()
        self._renewals: dict[tuple[int, IPInterface, int], bytearray] = {}

    def __enter__(self) -> Addresses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()

    def links(self) -> tuple[Link, ...]:
        """Return all network interfaces. Raises OSError, as the next two do."""
        return tuple(link_from_message(message) for message in rtnetlink.dump(rtnetlink.GETLINK))

    def addresses(self) -> tuple[Address, ...]:
        """Return all addresses of all interfaces."""
        return tuple(_address_from_message(message) for message in rtnetlink.dump(rtnetlink.GETADDR))

    def gateways(self) -> tuple[tuple[int, IPAddress], ...]:
        """Return the default gateways: the interface's index and the address."""
        routes = rtnetlink.dump(rtnetlink.GETROUTE, _is_default_route)
        told = [(each.get_attr("RTA_OIF"), each.get_attr("RTA_GATEWAY")) for each in routes]
        return tuple((index, ip_address(gateway)) for index, gateway in told if index and gateway)

    def put(self, *, index: int, vip: IPInterface, lifetime: int) -> None:
        """Bind ``vip`` to an interface for ``lifetime`` s (or FOREVER); a host prefix is never a source address.

        One that is there gets this lifetime from now on.

        Raises AddressError.
        """
        request = self._renewals.get((index, vip, lifetime))
        if request is None:
            request = self._renewals[index, vip, lifetime] = _replace_request(index, vip, lifetime)
        try:
            self._kernel.ask(request)
        except OSError as error:
            raise AddressError(f"the kernel refused {vip}: {_said(error)}") from error

    def take(self, *, index: int, vip: IPInterface) -> None:
        """Remove ``vip`` from an interface; it need not be there. Raises AddressError."""
        try:
            self._kernel.ask(_request(rtnetlink.DELADDR, index, vip))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise AddressError(f"the kernel kept {vip}: {_said(error)}") from error


def _replace_request(index: int, vip: IPInterface, lifetime: int) -> bytearray:
    host = vip.network.prefixlen == vip.max_prefixlen
    lease: list[tuple[str, object]] = [
        ("IFA_CACHEINFO", {"ifa_valid": lifetime, "ifa_preferred": 0 if host else lifetime}),
        ("IFA_PROTO", IPPROTO_CARP),
    ]
    if vip.version == 6:  # CARP already told us that nobody else has it
        lease.append(("IFA_FLAGS", _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if host else 0)))
    return _request(rtnetlink.NEWADDR, index, vip, how=rtnetlink.CREATE | rtnetlink.REPLACE, more=lease)


def _request(
    kind: int, index: int, vip: IPInterface, *, how: int = 0, more: Sequence[tuple[str, object]] = ()
) -> bytearray:
    names = ["IFA_ADDRESS", *(["IFA_LOCAL"] if vip.version == 4 else [])]
    return rtnetlink.request(
        kind,
        how,
        index=index,
        family=_family(vip),
        prefixlen=vip.network.prefixlen,
        attributes=[*((name, str(vip.ip)) for name in names), *more],
    )


def _is_default_route(message: bytes) -> bool:
    """Judge by the bytes: a router has routes by the million, and pyroute2 takes its time for each."""
    family, prefix, table = message[_FAMILY_AT], message[_PREFIX_AT], message[_TABLE_AT]
    return family in (socket.AF_INET, socket.AF_INET6) and prefix == 0 and table == _MAIN_TABLE


def link_from_message(message: Any) -> Link:  # noqa: ANN401 - pyroute2 has no types
    """Read an RTM_NEWLINK message as pyroute2 parses it."""
    mac = message.get_attr("IFLA_ADDRESS") or ""
    ethernet = message["ifi_type"] == _ARPHRD_ETHER
    flags = message["flags"]
    return Link(
        index=message["index"],
        name=rtnetlink.link_name(message),
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


def _said(error: OSError) -> str:
    text = error.strerror or str(error)
    return text if error.errno is None else f"{text} ({errno.errorcode.get(error.errno, error.errno)})"
