"""Builders of capture files, frames and IP packets, written from the formats' specifications."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sidecar.protocol.auth import Authenticator, key_from_password
from sidecar.protocol.packet import Header, internet_checksum, pack

DATA = Path(__file__).parents[1] / "data"
CAPTURES = DATA / "captures"
CONTAINERS = DATA / "containers"

VIP = IPv4Address("10.77.0.100")
PASSWORD = b"secret"
COUNTER = 0x0123456789ABCDEF
SOURCE6 = IPv6Address("fe80::1")
GROUP6 = IPv6Address("ff02::12")

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6


def advert(*, vhid: int = 42, password: bytes = PASSWORD, counter: int = COUNTER) -> bytes:
    """Return a sound advert of VIP (36 bytes): advbase 1, advskew 100, demotion 3."""
    group = Authenticator(key=key_from_password(password), vhid=vhid, addresses=[VIP])
    mac = group.sign(counter)
    return pack(Header(vhid=vhid, advbase=1, advskew=100, demotion=3, counter=counter, mac=mac))


def ipv4(payload: bytes, *, ttl: int = 255, protocol: int = 112, fragment: int = 0x4000, options: bytes = b"") -> bytes:
    length = 20 + len(options)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | length // 4,
        0x10,
        length + len(payload),
        7,
        fragment,
        ttl,
        protocol,
        0,
        IPv4Address("10.77.0.1").packed,
        IPv4Address("224.0.0.18").packed,
    )
    header += options
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + payload


def ipv6(payload: bytes, *, hop_limit: int = 255, next_header: int = 112) -> bytes:
    head = struct.pack("!IHBB", 0x60000000, len(payload), next_header, hop_limit)
    return head + SOURCE6.packed + GROUP6.packed + payload


def ethernet(packet: bytes, ethertype: int = 0x0800) -> bytes:
    return bytes.fromhex("01005e00001200005e00002a") + ethertype.to_bytes(2, "big") + packet


ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
LINKS: dict[str, tuple[int, Callable[[bytes, int], bytes]]] = {
    # name: LINKTYPE_ number, (IP packet, IP version) to frame
    "null-little-endian": (0, lambda p, v: bytes({4: (2, 0, 0, 0), 6: (28, 0, 0, 0)}[v]) + p),
    "null-big-endian": (0, lambda p, v: bytes({4: (0, 0, 0, 2), 6: (0, 0, 0, 24)}[v]) + p),
    "ethernet": (1, lambda p, v: ethernet(p, {4: 0x0800, 6: 0x86DD}[v])),
    "vlan": (1, lambda p, v: ethernet(b"\x20\x05" + ETHERTYPE[v] + p, 0x8100)),
    "qinq": (1, lambda p, v: ethernet(b"\0\x07\x81\0\0\x05" + ETHERTYPE[v] + p, 0x88A8)),
    "old-qinq": (1, lambda p, v: ethernet(b"\0\x07\x81\0\0\x05" + ETHERTYPE[v] + p, 0x9100)),
    "raw-bsd": (12, lambda p, _: p),
    "raw-openbsd": (14, lambda p, _: p),
    "raw": (101, lambda p, _: p),
    "loop": (108, lambda p, v: bytes({4: (0, 0, 0, 2), 6: (0, 0, 0, 30)}[v]) + p),
    "cooked": (113, lambda p, v: bytes((0, 0, 0, 1, 0, 6)) + bytes(8) + ETHERTYPE[v] + p),
    "cooked-vlan": (113, lambda p, v: bytes(14) + b"\x81\0\0\x05" + ETHERTYPE[v] + p),
    "cooked-2": (276, lambda p, v: ETHERTYPE[v] + bytes(18) + p),
    "cooked-2-vlan": (276, lambda p, v: b"\x81\0" + bytes(18) + b"\0\x05" + ETHERTYPE[v] + p),
}


def pcap(
    frames: Iterable[bytes],
    *,
    link_type: int = 1,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    time: tuple[int, int] = (1795349502, 475437),
) -> bytes:
    """Return a pcap file; ``time`` is the seconds and ticks of every frame."""
    extra = bytes(8) if magic == 0xA1B2CD34 else b""
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)
    for frame in frames:
        out += struct.pack(f"{order}IIII", *time, len(frame), len(frame)) + extra + frame
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = 12 + len(body)
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def section(order: str = "<", *, major: int = 1, options: bytes = b"") -> bytes:
    return block(SECTION, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str = "<", *, link_type: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(INTERFACE, struct.pack(f"{order}HHI", link_type, 0, snaplen) + options, order)


def enhanced(frame: bytes, order: str = "<", *, index: int = 0, ticks: int = 0) -> bytes:
    head = struct.pack(f"{order}IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(ENHANCED_PACKET, head + frame + bytes(-len(frame) % 4), order)


def old_packet(frame: bytes, order: str = "<", *, index: int = 0, ticks: int = 0) -> bytes:
    head = struct.pack(f"{order}HHIIII", index, 9, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(OLD_PACKET, head + frame, order)


def simple_packet(frame: bytes, order: str = "<", *, original: int | None = None) -> bytes:
    length = len(frame) if original is None else original
    return block(SIMPLE_PACKET, struct.pack(f"{order}I", length) + frame, order)
