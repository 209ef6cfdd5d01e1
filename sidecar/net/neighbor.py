"""Announcements that move a VIP to this node's MAC: gratuitous ARP (RFC 5227) and unsolicited NA (RFC 4861, 7.2.6)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from sidecar.net.sockets import BROADCAST_MAC, ETH_P_IPV6
from sidecar.protocol.packet import internet_checksum
from sidecar.protocol.types import IPAddress

_ETH_P_ARP = 0x0806
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6 = 58
_NEIGHBOR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER_ADDRESS = 2


def announcements(*, mac: bytes, address: IPAddress) -> tuple[bytes, ...]:
    """Return the Ethernet frames that tell the LAN that ``address`` is at ``mac`` (6 bytes).

    IPv4 gets both forms, request and reply, since some stacks learn from only one of them.
    """
    match address:
        case IPv4Address():
            return (
                _arp(mac=mac, address=address, operation=_ARP_REQUEST, target=bytes(6)),
                _arp(mac=mac, address=address, operation=_ARP_REPLY, target=mac),
            )
        case IPv6Address():
            return (_unsolicited_na(mac=mac, address=address),)


def _arp(*, mac: bytes, address: IPv4Address, operation: int, target: bytes) -> bytes:
    ethernet = BROADCAST_MAC + mac + _ETH_P_ARP.to_bytes(2, "big")
    return ethernet + struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, address.packed, target, address.packed
    )


def _unsolicited_na(*, mac: bytes, address: IPv6Address) -> bytes:
    option = struct.pack("!BB6s", _TARGET_LINK_LAYER_ADDRESS, 1, mac)

    def with_checksum(checksum: int) -> bytes:
        head = struct.pack("!BBHI", _NEIGHBOR_ADVERTISEMENT, 0, checksum, _OVERRIDE)
        return head + address.packed + option

    length = len(with_checksum(0))
    pseudo = address.packed + _ALL_NODES.packed + struct.pack("!IHBB", length, 0, 0, _ICMPV6)
    body = with_checksum(internet_checksum(pseudo + with_checksum(0)))
    header = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + address.packed + _ALL_NODES.packed
    return _ALL_NODES_MAC + mac + ETH_P_IPV6.to_bytes(2, "big") + header + body
