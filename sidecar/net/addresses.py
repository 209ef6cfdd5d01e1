"""The kernel's addresses through rtnetlink (rtnetlink(7)): what this node has, and VIPs put on and taken off.

Our own addresses carry ``IFA_PROTO`` 112 (Linux 5.18 and later), so that a sweep never touches anybody else's.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from sidecar.protocol.types import IPPROTO_CARP

IPInterface = IPv4Interface | IPv6Interface

_FOREVER = 0xFFFFFFFF
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_ARPHRD_ETHER = 1


class AddressError(Exception):
    """The kernel refused an address; the message names it and the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of this node. ``leased`` tells that it is one of ours: a VIP that the kernel will let go."""

    index: int
    interface: IPInterface
    leased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network interface. ``mac`` is 6 bytes on Ethernet, else empty; ``up`` means that it can carry frames."""

    index: int
    name: str
    mac: bytes
    up: bool


class Addresses:
    """One rtnetlink socket. Use as a context manager or call ``close``."""

    __slots__ = ("_route",)

    def __init__(self) -> None:
        self._route = IPRoute()

    def __enter__(self) -> Addresses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def links(self) -> tuple[Link, ...]:
        """Return all network interfaces."""
        return tuple(link_from_message(message) for message in self._route.get_links())

    def addresses(self) -> tuple[Address, ...]:
        """Return all addresses of all interfaces."""
        return tuple(_address_from_message(message) for message in self._route.get_addr())

    def put(self, *, index: int, vip: IPInterface, lifetime: int) -> None:
        """Bind ``vip`` to an interface for ``lifetime`` s, or extend that; a host prefix is never a source address.

        Raises AddressError.
        """
        host = vip.network.prefixlen == vip.max_prefixlen
        settings = {
            "index": index,
            "address": str(vip.ip),
            "prefixlen": vip.network.prefixlen,
            "family": _family(vip),
            "valid_lft": lifetime,
            "preferred_lft": 0 if host else lifetime,
            "proto": IPPROTO_CARP,
        }
        if vip.version == 6:  # CARP already told us that nobody else has it
            settings["flags"] = _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if host else 0)
        try:
            self._route.addr("replace", **settings)
        except NetlinkError as error:
            raise AddressError(f"the kernel refused {vip}: {_said(error)}") from error
        except OSError as error:
            raise AddressError(f"the kernel cannot be asked for {vip}: {error.strerror}") from error

    def take(self, *, index: int, vip: IPInterface) -> None:
        """Remove ``vip`` from an interface; it need not be there. Raises AddressError."""
        try:
            self._route.addr(
                "del", index=index, address=str(vip.ip), prefixlen=vip.network.prefixlen, family=_family(vip)
            )
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise AddressError(f"the kernel kept {vip}: {_said(error)}") from error


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
    finite = lifetimes is not None and lifetimes["ifa_valid"] != _FOREVER
    # Kernels before 5.18 do not keep IFA_PROTO: there an address that dies and was never preferred is taken for ours.
    marked = get("IFA_PROTO") == IPPROTO_CARP or (
        get("IFA_PROTO") is None and lifetimes and not lifetimes["ifa_preferred"]
    )
    interface = ip_interface(f"{text}/{message['prefixlen']}")
    return Address(index=message["index"], interface=interface, leased=bool(finite and marked))


def _family(vip: IPInterface) -> int:
    return socket.AF_INET if vip.version == 4 else socket.AF_INET6


def _said(error: NetlinkError) -> str:
    return f"{error} ({errno.errorcode.get(error.code, error.code)})"
