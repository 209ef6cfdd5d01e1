"""Captured frames to the IP packets in them that carry CARP.

What is read here may be cut or broken at any byte and is shown as far as it goes: a frame that cannot be told
from CARP counts as CARP, cut short. What is wrong with it is named as the engine does (``protocol.packet``): so CARP
behind IPv6 extension headers, behind which no receiver of ours looks, is shown as ``not-carp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

from sidecar.protocol.packet import PacketError, parse_ipv4, parse_ipv6
from sidecar.protocol.types import HOP_LIMIT, IPPROTO_CARP, DropReason, IPAddress

_IPV4_PROTOCOL = 9
_IPV6_HEADER = 40
_IPV6_NEXT_HEADER = 6
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS = 0, 43, 44, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS})

_VLAN_TAGS = frozenset({b"\x81\x00", b"\x88\xa8", b"\x91\x00"})
_ETHERTYPES = {b"\x08\x00": 4, b"\x86\xdd": 6}
_FAMILIES = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}
"""AF_INET, and AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The IP packet around CARP, as far as it can be read; ``fault`` is None where nothing is wrong with it.

    ``payload`` is what is there of the CARP packet, b"" for none; the addresses are None where cut off.
    """

    source: IPAddress | None = None
    destination: IPAddress | None = None
    payload: bytes = b""
    fault: DropReason | None = None


def envelope(link_type: int, frame: bytes) -> Envelope | None:
    """Return the IP packet in ``frame`` if it carries CARP or is cut too short to tell, else None.

    Raises KeyError for a ``link_type`` that is not in LINK_TYPES.
    """
    try:
        version, packet = LINK_TYPES[link_type](frame)
        return _ipv4(packet) if version == 4 else _ipv6(packet)
    except PacketError as error:
        return None if error.reason is DropReason.NOT_CARP else Envelope(fault=error.reason)


def _ipv6_end(packet: bytes) -> int:
    return _IPV6_HEADER + int.from_bytes(packet[4:6], "big")


def _ipv6_upper_layer(packet: bytes) -> tuple[int, int]:
    """Return where CARP starts, and the word of the fragment header that is not zero in a fragment.

    Raises PacketError (NOT_CARP, TRUNCATED).
    """
    next_header = _byte(packet, _IPV6_NEXT_HEADER)
    at, fragment = _IPV6_HEADER, 0
    while next_header in _EXTENSIONS and not fragment >> 3:  # a later fragment's start is no header
        following = _byte(packet, at)
        if next_header == _FRAGMENT:
            fragment = (_byte(packet, at + 2) << 8 | _byte(packet, at + 3)) & 0xFFF9
            at += 8
        else:
            at += 8 + 8 * _byte(packet, at + 1)
        next_header = following
    if next_header != IPPROTO_CARP:
        raise PacketError(DropReason.NOT_CARP, f"IPv6 next header {next_header}")
    return at, fragment


def _ipv4(packet: bytes) -> Envelope:
    """Raises PacketError (TRUNCATED, NOT_CARP) where nothing can be shown."""
    if _byte(packet, _IPV4_PROTOCOL) != IPPROTO_CARP:
        raise PacketError(DropReason.NOT_CARP, f"IP protocol {packet[_IPV4_PROTOCOL]}")
    fault = None
    try:
        if parse_ipv4(packet).ttl != HOP_LIMIT:
            fault = DropReason.BAD_TTL
    except PacketError as error:
        fault = error.reason
    header, total = (packet[0] & 0x0F) * 4, int.from_bytes(packet[2:4], "big")
    later_fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF
    return Envelope(
        source=IPv4Address(packet[12:16]) if len(packet) >= 16 else None,
        destination=IPv4Address(packet[16:20]) if len(packet) >= 20 else None,
        payload=b"" if header < 20 or later_fragment else packet[header:total],
        fault=fault,
    )


def _ipv6(packet: bytes) -> Envelope:
    """Raises PacketError (TRUNCATED, NOT_CARP) where nothing can be shown."""
    source = IPv6Address(packet[8:24]) if len(packet) >= 24 else None
    destination = IPv6Address(packet[24:40]) if len(packet) >= 40 else None
    try:
        start, fragment = _ipv6_upper_layer(packet)
    except PacketError as error:
        if error.reason is DropReason.NOT_CARP:
            raise
        return Envelope(source=source, destination=destination, fault=error.reason)
    fault = None
    try:
        if parse_ipv6(packet).ttl != HOP_LIMIT:
            fault = DropReason.BAD_TTL
    except PacketError as error:
        fault = DropReason.FRAGMENT if fragment else error.reason
    payload = b"" if fragment >> 3 else packet[start : _ipv6_end(packet)]
    return Envelope(source=source, destination=destination, payload=payload, fault=fault)


def _ethernet(frame: bytes) -> tuple[int, bytes]:
    return _by_ethertype(frame, at=12, payload=14)


def _linux_cooked(frame: bytes) -> tuple[int, bytes]:
    return _by_ethertype(frame, at=14, payload=16)


def _linux_cooked_2(frame: bytes) -> tuple[int, bytes]:
    return _by_ethertype(frame, at=0, payload=20)


def _by_ethertype(frame: bytes, *, at: int, payload: int) -> tuple[int, bytes]:
    ethertype = _bytes(frame, at, 2)
    while ethertype in _VLAN_TAGS:
        ethertype = _bytes(frame, payload + 2, 2)
        payload += 4
    if ethertype not in _ETHERTYPES:
        raise PacketError(DropReason.NOT_CARP, f"EtherType 0x{ethertype.hex()}")
    return _ETHERTYPES[ethertype], frame[payload:]


def _raw(frame: bytes) -> tuple[int, bytes]:
    version = _byte(frame, 0) >> 4
    if version not in {4, 6}:
        raise PacketError(DropReason.NOT_CARP, f"IP version {version}")
    return version, frame


def _ipv4_only(frame: bytes) -> tuple[int, bytes]:
    return 4, frame


def _ipv6_only(frame: bytes) -> tuple[int, bytes]:
    return 6, frame


def _loopback(frame: bytes) -> tuple[int, bytes]:
    """BSD loopback: the address family, in the byte order of the machine (NULL) or of networks (LOOP)."""
    word = _bytes(frame, 0, 4)
    family = min(int.from_bytes(word, "little"), int.from_bytes(word, "big"))
    if family not in _FAMILIES:
        raise PacketError(DropReason.NOT_CARP, f"address family {family}")
    return _FAMILIES[family], frame[4:]


def _byte(data: bytes, at: int) -> int:
    return _bytes(data, at, 1)[0]


def _bytes(data: bytes, at: int, length: int) -> bytes:
    if len(data) < at + length:
        raise PacketError(DropReason.TRUNCATED, f"{len(data)} bytes where more than {at} are needed")
    return data[at : at + length]


LINK_TYPES: Mapping[int, Callable[[bytes], tuple[int, bytes]]] = MappingProxyType(
    {
        0: _loopback,
        1: _ethernet,
        12: _raw,
        14: _raw,
        101: _raw,
        108: _loopback,
        113: _linux_cooked,
        228: _ipv4_only,
        229: _ipv6_only,
        276: _linux_cooked_2,
    }
)
"""The link types (LINKTYPE_ numbers, tcpdump.org) that can be read: frame to IP version and packet."""
