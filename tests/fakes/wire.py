"""Adverts and their envelopes as any implementation may put them on the wire, made without the code under test."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from sidecar.protocol.types import CARP_GROUP, IPAddress
from tests.fakes.plans import KEY

VHID = 42
VIP = IPv4Address("10.0.0.200")
PEER = IPv4Address("10.0.0.12")
PEER6 = IPv6Address("fe80::12")
CARP_GROUP6 = IPv6Address("ff02::12")


def rfc1071(data: bytes) -> int:
    """Return the checksum as RFC 1071 describes it: 16-bit words, carries added back, complemented."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def in_order(vips: Iterable[IPAddress]) -> bytes:
    """Return the addresses as they are hashed: IPv4 ascending, then IPv6 ascending, each once."""
    every = sorted(set(vips), key=lambda vip: (vip.version, int(vip)))
    return b"".join(vip.packed for vip in every)


def digest(counter: int, *, hashed: bytes, key: bytes = KEY, vhid: int = VHID, extra: bytes = b"") -> bytes:
    """Return the HMAC of an advert; ``hashed`` are the addresses, ``extra`` is what OpenBSD puts before the vhid."""
    message = b"\x02\x01" + extra + bytes((vhid,)) + hashed + struct.pack("!Q", counter)
    return hmac.new(key, message, hashlib.sha1).digest()


def advert(
    *,
    advbase: int = 1,
    advskew: int = 0,
    demotion: int = 0,
    counter: int = 7,
    mac: bytes | None = None,
    vhid: int = VHID,
    vips: Iterable[IPAddress] = (VIP,),
    first: int = 0x21,
    auth_length: int = 7,
) -> bytes:
    """Return the 36 bytes; ``first`` is version and type, ``mac`` the HMAC where it is not that of ``vips``."""
    mac = digest(counter, hashed=in_order(vips), vhid=vhid) if mac is None else mac
    return sealed(
        bytes((first, vhid, advskew, auth_length, demotion, advbase, 0, 0)) + struct.pack("!Q", counter) + mac
    )


def sealed(data: bytes) -> bytes:
    """Put the right checksum into a CARP header, over its 36 bytes with the field at 0."""
    blank = data[:6] + b"\0\0" + data[8:]
    return blank[:6] + struct.pack("!H", rfc1071(blank[:36])) + blank[8:]


def ipv4(
    payload: bytes,
    *,
    source: IPAddress = PEER,
    destination: IPAddress = CARP_GROUP,
    tos: int = 0x10,
    identification: int = 0x3039,
    fragment: int = 0x4000,
    ttl: int = 255,
    protocol: int = 112,
    options: bytes = b"",
) -> bytes:
    """Return an IPv4 packet; ``fragment`` holds the flags and the offset."""
    length = 20 + len(options)
    words = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | length // 4,
        tos,
        length + len(payload),
        identification,
        fragment,
        ttl,
        protocol,
        0,
        source.packed,
        destination.packed,
    )
    head = words + options
    return head[:10] + struct.pack("!H", rfc1071(head)) + head[12:] + payload


def ipv6(
    payload: bytes,
    *,
    source: IPAddress = PEER6,
    destination: IPAddress = CARP_GROUP6,
    traffic_class: int = 0,
    flow_label: int = 0,
    hop_limit: int = 255,
    next_header: int = 112,
) -> bytes:
    """Return an IPv6 packet."""
    word = 6 << 28 | traffic_class << 20 | flow_label
    head = struct.pack("!IHBB", word, len(payload), next_header, hop_limit)
    return head + source.packed + destination.packed + payload


def packed(*addresses: str) -> bytes:
    """Return addresses in network byte order, in the given order."""
    return b"".join(ip_address(address).packed for address in addresses)
