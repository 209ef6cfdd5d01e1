"""Ask the LAN who has an address, as one who has none itself: ARP probe (RFC 5227, 2.1.1), NS from :: (RFC 4862)."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from sidecar.net.sockets import BROADCAST_MAC, ETH_P_IPV6, multicast_mac
from sidecar.protocol.packet import internet_checksum
from sidecar.protocol.types import IPAddress

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST = 1
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ICMPV6, _NEIGHBOR_SOLICITATION, _NEIGHBOR_ADVERTISEMENT = 58, 135, 136
_ETHERNET, _IPV6 = 14, 40
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))


def open_probe_socket(interface: str, address: IPAddress) -> socket.socket:
    """Open a packet socket that sends probes for ``address`` and hears the answers. Raises OSError."""
    protocol = _ETH_P_ARP if address.version == 4 else ETH_P_IPV6
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        sock.bind((interface, protocol))
    except OSError:
        sock.close()
        raise
    return sock


def probe(*, mac: bytes, address: IPAddress) -> bytes:
    """Return the Ethernet frame that asks for ``address`` from ``mac`` and moves nobody's cache."""
    match address:
        case IPv4Address():
            body = _ARP.pack(1, 0x0800, 6, 4, _ARP_REQUEST, mac, bytes(4), bytes(6), address.packed)
            return BROADCAST_MAC + mac + struct.pack("!H", _ETH_P_ARP) + body
        case IPv6Address():
            return _solicitation(mac=mac, address=address)


def owner(frame: bytes, address: IPAddress) -> bytes | None:
    """Return the MAC of whoever says in ``frame`` that ``address`` is its own, else None."""
    match address:
        case IPv4Address():
            if len(frame) < _ETHERNET + _ARP.size or frame[12:14] != struct.pack("!H", _ETH_P_ARP):
                return None
            _, _, _, _, _, sender, sender_address, _, _ = _ARP.unpack_from(frame, _ETHERNET)
            return sender if sender_address == address.packed else None
        case IPv6Address():
            body = frame[_ETHERNET + _IPV6 :]
            is_icmp = frame[12:14] == struct.pack("!H", ETH_P_IPV6) and frame[_ETHERNET + 6 : _ETHERNET + 7] == b"\x3a"
            if not is_icmp or len(body) < 24 or body[0] != _NEIGHBOR_ADVERTISEMENT or body[8:24] != address.packed:
                return None
            return frame[6:12]


def _solicitation(*, mac: bytes, address: IPv6Address) -> bytes:
    group = IPv6Address(_SOLICITED_NODE | int.from_bytes(address.packed[13:], "big"))
    unspecified = bytes(16)

    def with_checksum(checksum: int) -> bytes:
        return struct.pack("!BBHI", _NEIGHBOR_SOLICITATION, 0, checksum, 0) + address.packed

    length = len(with_checksum(0))
    pseudo = unspecified + group.packed + struct.pack("!IHBB", length, 0, 0, _ICMPV6)
    body = with_checksum(internet_checksum(pseudo + with_checksum(0)))
    header = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + unspecified + group.packed
    return multicast_mac(group) + mac + struct.pack("!H", ETH_P_IPV6) + header + body
