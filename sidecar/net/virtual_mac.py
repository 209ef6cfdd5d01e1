"""The virtual MAC of a group, 00:00:5e:00:01:<vhid>, as the BSDs have it: a macvlan that bears the VIPs of a master.

Clients learn it once and for all: at a failover only switches have to learn where it is. The macvlan is up on a master
and down on everybody else, so that no two nodes show the MAC. Its settings are its own; the NIC's stay as they are.

- ``arp_ignore`` 1: it answers for the VIPs and not for the node's other addresses.
- ``rp_filter`` 2: packets come in by it and leave by the NIC, whose subnet it is; strict filtering would drop them. The
  kernel takes the higher of an interface's own value and that of ``all``, so that 2 wins over both.
- No IPv6 address of its own.

That the NIC does not answer as well is up to ``net.virtual_arp``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Collection, Iterable
from typing import Any

from sidecar.net import nft, rtnetlink
from sidecar.net.rtnetlink import Rtnetlink
from sidecar.protocol.types import virtual_mac

ALIAS = "carp-sidecar"
_NAMES_TRIED = 100
_IFF_UP = 0x1
_SIOCGIFFLAGS = 0x8913
_FLAGS_REQUEST = struct.Struct("=16sH22x")
"""struct ifreq with ifr_flags (netdevice(7))."""
_RTM_SETLINK = 19
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_HEADER = struct.Struct("=IHHII")
_LINK_HEADER = struct.Struct("=BxHiII")
_IFLA_AF_SPEC, _IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 26, 1, 8, 1
_RP_FILTER, _ARP_IGNORE = 8, 19
"""IPV4_DEVCONF_RP_FILTER and IPV4_DEVCONF_ARP_IGNORE (linux/ip.h): /proc/sys is read-only in a container."""
_FAULTS = {
    errno.EOPNOTSUPP: "the kernel has no macvlan",
    errno.EBUSY: "it is a port of a bridge, a bond or the like",
    errno.EINVAL: "its driver allows no macvlan",
}


class VirtualMacError(Exception):
    """The kernel refused the macvlan; the message says what and why."""


class VirtualMac:
    """The macvlan of one group: ``make`` it first. ``index`` is 0 until then."""

    __slots__ = ("_nic", "index", "mac", "name", "vhid")

    def __init__(self, *, nic: int, vhid: int) -> None:
        self._nic = nic
        self.vhid = vhid
        self.mac = virtual_mac(vhid)
        self.name = ""
        self.index = 0

    @property
    def stands(self) -> bool:
        """Whether nobody has removed it."""
        try:
            return self.index != 0 and socket.if_nametoindex(self.name) == self.index
        except OSError:
            return False

    @property
    def is_up(self) -> bool | None:
        """Whether it is up, whoever has set it so; None: it is not there."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
            try:
                answer = fcntl.ioctl(kernel, _SIOCGIFFLAGS, _FLAGS_REQUEST.pack(os.fsencode(self.name), 0))
            except OSError:
                return None
        _, flags = _FLAGS_REQUEST.unpack(answer)
        return bool(flags & _IFF_UP)

    def make(self) -> None:
        """Make it, down, or adopt what an earlier life left, as it is. Raises VirtualMacError."""
        found = self.find(_links())
        with Rtnetlink() as kernel:
            try:
                if not found:
                    self._create(kernel)
            except OSError as error:
                raise VirtualMacError(f"{_name(self._nic)} cannot have a virtual MAC: {_said(error)}") from error
            try:
                _configure(kernel, self.index)
            except OSError as error:
                raise VirtualMacError(f"{self.name} cannot be set up: {error.strerror or error}") from error

    def set_up(self, *, up: bool) -> bool:
        """Show the MAC on the wire, or hide it; return whether it was otherwise. Raises VirtualMacError."""
        if up is self.is_up:
            return False
        flags = _IFF_UP if up else 0
        try:
            with Rtnetlink() as kernel:
                kernel.ask(rtnetlink.request(rtnetlink.NEWLINK, index=self.index, flags=flags, change=_IFF_UP))
        except OSError as error:
            raise VirtualMacError(
                f"{self.name} cannot be set {'up' if up else 'down'}: {error.strerror or error}"
            ) from error
        return True

    def remove(self) -> None:
        """Delete it, and whatever else of this group's an earlier life left. Raises VirtualMacError."""
        try:
            with Rtnetlink() as kernel:
                for link in filter(self.is_, _links()):
                    kernel.ask(rtnetlink.request(rtnetlink.DELLINK, index=link["index"]))
        except OSError as error:
            raise VirtualMacError(f"{self.name or 'a macvlan'} cannot be removed: {error.strerror or error}") from error
        self.index = 0

    def _create(self, kernel: Rtnetlink) -> None:
        taken = {name for _, name in socket.if_nameindex()}
        names = [f"carp{self.vhid}", *(f"carp{self.vhid}-{number}" for number in range(2, _NAMES_TRIED))]
        self.name = next(name for name in names if name not in taken)
        # Bridge mode: in others the kernel keeps from the NIC what a rival sends from this very MAC.
        macvlan = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", "bridge")]})]
        made = [
            ("IFLA_IFNAME", self.name),
            ("IFLA_LINK", self._nic),
            ("IFLA_ADDRESS", self.mac.hex(":")),
            ("IFLA_LINKINFO", {"attrs": macvlan}),
        ]
        kernel.ask(rtnetlink.request(rtnetlink.NEWLINK, rtnetlink.CREATE | rtnetlink.EXCLUSIVE, attributes=made))
        self.index = socket.if_nametoindex(self.name)
        alias = [("IFLA_IFALIAS", ALIAS)]
        kernel.ask(rtnetlink.request(rtnetlink.NEWLINK, index=self.index, attributes=alias))

    def find(self, links: Iterable[Any]) -> bool:
        """Tell whether it is among these links; if so, it is adopted, as it is."""
        left = next((link for link in links if self.is_(link)), None)
        if left is not None:
            self._adopt(left)
        return left is not None

    def _adopt(self, link: Any) -> None:  # noqa: ANN401 - pyroute2 has no types
        self.name, self.index = rtnetlink.link_name(link), link["index"]

    def is_(self, link: Any) -> bool:  # noqa: ANN401 - as above
        """Tell whether a link is this one, of whatever life of ours."""
        marks = (
            link.get_attr("IFLA_IFALIAS") == ALIAS,
            link.get_attr("IFLA_LINK") == self._nic,
            link.get_attr("IFLA_ADDRESS") == self.mac.hex(":"),
            rtnetlink.link_name(link).startswith(f"carp{self.vhid}"),
            link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "macvlan",
        )
        return all(marks)


def leftovers(places: Collection[tuple[int, int]]) -> list[VirtualMac]:
    """Return those that an earlier life left among these places (index of the NIC, vhid)."""
    links = [link for link in _links() if link.get_attr("IFLA_IFALIAS") == ALIAS]
    wanted = [VirtualMac(nic=nic, vhid=vhid) for nic, vhid in places] if links else []
    return [mac for mac in wanted if mac.find(links)]


def _links() -> list[Any]:
    return rtnetlink.dump(rtnetlink.GETLINK)


def _configure(kernel: Rtnetlink, index: int) -> None:
    """Give the interface its settings, by RTM_SETLINK, for which pyroute2 has no words. Raises OSError."""
    settings = (nft.attribute(kind, struct.pack("=I", value)) for kind, value in ((_RP_FILTER, 2), (_ARP_IGNORE, 1)))
    inet = nft.nested(socket.AF_INET, nft.nested(_IFLA_INET_CONF, *settings))
    inet6 = nft.nested(socket.AF_INET6, nft.attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_GEN_MODE_NONE,))))
    try:
        kernel.ask(_set_link(index, nft.nested(_IFLA_AF_SPEC, inet, inet6)))
    except OSError:
        kernel.ask(_set_link(index, nft.nested(_IFLA_AF_SPEC, inet)))  # a kernel without IPv6


def _set_link(index: int, attributes: bytes) -> bytearray:
    body = _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes
    header = _HEADER.pack(_HEADER.size + len(body), _RTM_SETLINK, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0)
    return bytearray(header + body)


def _said(error: OSError) -> str:
    return _FAULTS.get(error.errno or 0, error.strerror or str(error))


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
