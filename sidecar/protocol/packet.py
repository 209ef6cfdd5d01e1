"""CARP packets to and from bytes, with the IPv4 or IPv6 envelope they travel in.

Layout: OpenBSD ``struct carp_header`` (netinet/ip_carp.h). What receivers check, and in which order, follows
``carp_proto_input_if`` (OpenBSD ip_carp.c): nobody checks type, authlen or the byte that OpenBSD uses for demotion.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sidecar.protocol.types import HOP_LIMIT, IPPROTO_CARP, DropReason, IPAddress

HEADER_LENGTH = 36
VERSION = 2
TYPE_ADVERTISEMENT = 1
AUTH_LENGTH = 7
"""(8 bytes of counter + 20 of HMAC) in 32-bit words; a constant on the wire."""

_HEADER = struct.Struct("!BBBBBBHQ20s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV4_MINIMUM = 20
_TOS_LOWDELAY = 0x10
_DONT_FRAGMENT = 0x4000
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV6_VERSION_WORD = 6 << 28
"""Version 6, traffic class 0 and flow label 0, as OpenBSD sends."""


class PacketError(Exception):
    """A packet that must change nothing; ``reason`` says why, ``source`` where it came from if that is known."""

    def __init__(self, reason: DropReason, detail: str, *, source: IPAddress | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The 36 bytes of a CARP advert. Fields are as on the wire; ``mac`` is the HMAC-SHA1 (20 bytes)."""

    vhid: int
    advbase: int
    advskew: int
    counter: int
    mac: bytes
    demotion: int = 0
    version: int = VERSION
    type: int = TYPE_ADVERTISEMENT
    auth_length: int = AUTH_LENGTH
    checksum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """An IP packet that carries CARP: addresses of one family, TTL or hop limit, the bytes after the IP header."""

    source: IPAddress
    destination: IPAddress
    ttl: int
    payload: bytes


def internet_checksum(data: bytes) -> int:
    """Return the one's-complement sum of ``data`` (RFC 1071), 0..0xffff; 0 over data that holds its own checksum."""
    if len(data) % 2:
        data += b"\0"
    # 2**16 is 1 modulo 0xffff, so the whole string as one number has the same one's-complement sum as its words.
    total = int.from_bytes(data, "big")
    folded = total % 0xFFFF
    if folded == 0 and total:
        folded = 0xFFFF
    return folded ^ 0xFFFF


def unpack(data: bytes) -> Header:
    """Read a CARP header from the front of ``data``; trailing bytes are ignored, as all implementations do.

    Raises PacketError (TRUNCATED) for fewer than 36 bytes; checks nothing else: see ``check``.
    """
    if len(data) < HEADER_LENGTH:
        raise PacketError(DropReason.TRUNCATED, f"{len(data)} bytes where a CARP header takes {HEADER_LENGTH}")
    version_type, vhid, advskew, auth_length, demotion, advbase, checksum, counter, mac = _HEADER.unpack_from(data)
    return Header(
        version=version_type >> 4,
        type=version_type & 0x0F,
        vhid=vhid,
        advskew=advskew,
        auth_length=auth_length,
        demotion=demotion,
        advbase=advbase,
        checksum=checksum,
        counter=counter,
        mac=mac,
    )


def checksum_ok(data: bytes) -> bool:
    """Tell whether the 36 CARP bytes at the front of ``data`` sum to zero (RFC 1071, no pseudo-header)."""
    return internet_checksum(data[:HEADER_LENGTH]) == 0


def check(header: Header, data: bytes) -> None:
    """Refuse what every receiver refuses before it looks at the group: another version, a wrong checksum.

    Raises PacketError (BAD_VERSION, BAD_CHECKSUM).
    """
    if header.version != VERSION:
        raise PacketError(DropReason.BAD_VERSION, f"version {header.version} where CARP is {VERSION}")
    if not checksum_ok(data):
        raise PacketError(DropReason.BAD_CHECKSUM, f"checksum {header.checksum:#06x} is wrong")


def pack(header: Header) -> bytes:
    """Return the 36 bytes of ``header`` with the checksum computed (the field ``checksum`` is ignored)."""

    def with_checksum(checksum: int) -> bytes:
        return _HEADER.pack(
            header.version << 4 | header.type,
            header.vhid,
            header.advskew,
            header.auth_length,
            header.demotion,
            header.advbase,
            checksum,
            header.counter,
            header.mac,
        )

    return with_checksum(internet_checksum(with_checksum(0)))


def parse(packet: bytes) -> Datagram:
    """Read the IPv4 or IPv6 envelope of a CARP packet: as ``parse_ipv4`` or ``parse_ipv6``, by its version.

    Raises PacketError (TRUNCATED, BAD_IP_HEADER, FRAGMENT, NOT_CARP).
    """
    if not packet:
        raise PacketError(DropReason.TRUNCATED, "0 bytes where an IP header is due")
    match packet[0] >> 4:
        case 4:
            return parse_ipv4(packet)
        case 6:
            return parse_ipv6(packet)
        case version:
            raise PacketError(DropReason.BAD_IP_HEADER, f"IP version {version}")


def parse_ipv4(packet: bytes) -> Datagram:
    """Read the IPv4 envelope of a CARP packet. Bytes past the IP total length (Ethernet padding) are cut off.

    Raises PacketError (TRUNCATED, BAD_IP_HEADER, FRAGMENT, NOT_CARP). The TTL and the destination are not judged here.
    """
    if len(packet) < _IPV4_MINIMUM:
        raise PacketError(DropReason.TRUNCATED, f"{len(packet)} bytes where an IPv4 header takes {_IPV4_MINIMUM}")
    version_ihl, _, total, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    header_length = (version_ihl & 0x0F) * 4
    if version_ihl >> 4 != 4 or header_length < _IPV4_MINIMUM or total < header_length:
        raise PacketError(DropReason.BAD_IP_HEADER, "IPv4 version, header length or total length is wrong")
    if protocol != IPPROTO_CARP:
        raise PacketError(DropReason.NOT_CARP, f"IP protocol {protocol}")
    if len(packet) < total:
        raise PacketError(DropReason.TRUNCATED, f"{len(packet)} of {total} bytes arrived")
    if internet_checksum(packet[:header_length]) != 0:
        raise PacketError(DropReason.BAD_IP_HEADER, "IPv4 header checksum is wrong")
    if fragment & 0x3FFF:  # more-fragments or an offset
        raise PacketError(DropReason.FRAGMENT, "a fragment: CARP is never fragmented")
    return Datagram(
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        ttl=ttl,
        payload=packet[header_length:total],
    )


def build_ipv4(*, source: IPv4Address, destination: IPv4Address, identification: int, payload: bytes) -> bytes:
    """Wrap ``payload`` (a packed CARP header) in an IPv4 header as ucarp and OpenBSD do: TOS 0x10, DF, TTL 255."""

    def with_checksum(checksum: int) -> bytes:
        return _IPV4.pack(
            0x45,
            _TOS_LOWDELAY,
            _IPV4_MINIMUM + len(payload),
            identification,
            _DONT_FRAGMENT,
            HOP_LIMIT,
            IPPROTO_CARP,
            checksum,
            source.packed,
            destination.packed,
        )

    return with_checksum(internet_checksum(with_checksum(0))) + payload


def parse_ipv6(packet: bytes) -> Datagram:
    """Read the IPv6 envelope of a CARP packet (RFC 8200). Bytes past the payload length (Ethernet padding) are cut off.

    CARP follows the fixed header at once, as every implementation sends it: extension headers, a fragment's among them,
    are not walked. Raises PacketError (TRUNCATED, BAD_IP_HEADER, NOT_CARP). The hop limit and the destination are not
    judged here.
    """
    if len(packet) < _IPV6.size:
        raise PacketError(DropReason.TRUNCATED, f"{len(packet)} bytes where an IPv6 header takes {_IPV6.size}")
    version_word, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(packet)
    if version_word >> 28 != 6:
        raise PacketError(DropReason.BAD_IP_HEADER, f"IP version {version_word >> 28} where it should be 6")
    if next_header != IPPROTO_CARP:
        raise PacketError(DropReason.NOT_CARP, f"IPv6 next header {next_header}")
    end = _IPV6.size + length
    if len(packet) < end:
        raise PacketError(DropReason.TRUNCATED, f"{len(packet)} of {end} bytes arrived")
    return Datagram(
        source=IPv6Address(source),
        destination=IPv6Address(destination),
        ttl=hop_limit,
        payload=packet[_IPV6.size : end],
    )


def build_ipv6(*, source: IPv6Address, destination: IPv6Address, payload: bytes) -> bytes:
    """Wrap ``payload`` (a packed CARP header) in an IPv6 header as OpenBSD does: traffic class 0, hop limit 255.

    CARP's checksum has no pseudo-header over IPv6 either, so the same payload goes out over both families.
    """
    header = _IPV6.pack(_IPV6_VERSION_WORD, len(payload), IPPROTO_CARP, HOP_LIMIT, source.packed, destination.packed)
    return header + payload
