"""Capture files, pcap and pcapng, to frames. Read once from front to back, so that a pipe will do.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Read here rather than by dpkt (1.9.8), which
takes a cut record for a whole one, the first pcapng interface's clock and link type for all, and believes any
length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_SECOND = 10**9
_MICROSECOND = 10**3

_MAXIMUM_FRAME = 262_144
"""libpcap's MAXIMUM_SNAPLEN: more is a damaged file."""
_MAXIMUM_BLOCK = 16 << 20

_PCAP = {
    # magic: byte order, nanoseconds per tick, what follows the usual four words of a record's header
    b"\xd4\xc3\xb2\xa1": ("<", _MICROSECOND, ""),
    b"\xa1\xb2\xc3\xd4": (">", _MICROSECOND, ""),
    b"\x4d\x3c\xb2\xa1": ("<", 1, ""),
    b"\xa1\xb2\x3c\x4d": (">", 1, ""),
    b"\x34\xcd\xb2\xa1": ("<", _MICROSECOND, "8x"),  # Kuznetzov's: interface, protocol, packet type
    b"\xa1\xb2\xcd\x34": (">", _MICROSECOND, "8x"),
}
_PCAP_LINK_TYPE = 0x03FF_FFFF  # the bits above tell the length of the frame check sequence

_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 2  # obsolete, still met
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6
_PACKETS = frozenset({_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET})
_PACKET_HEADER = 20
_OPTION_RESOLUTION = 9
_OPTION_OFFSET = 14


class CaptureError(Exception):
    """A file that is no capture, or cannot be read on; the message says why, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One captured frame: ``data`` as far as it was captured.

    ``time`` is in nanoseconds since 1970 (UTC), None where the file has none; ``link_type`` is
    a LINKTYPE_ number.
    """

    time: int | None
    link_type: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interface:
    """A pcapng interface: its clock has ``resolution`` ticks a second and starts at ``offset`` seconds."""

    link_type: int
    snaplen: int
    resolution: int
    offset: int


def frames(stream: BinaryIO) -> Iterator[Frame]:
    """Yield the frames of a pcap or pcapng file (buffered, at its start); of a cut last one, what is there.

    Raises CaptureError for another format and, after the frames before it, at a cut or damaged place.
    """
    magic = stream.read(4)
    if magic in _PCAP:
        order, tick, rest = _PCAP[magic]
        return _pcap(stream, order=order, tick=tick, rest=rest)
    if magic == _SECTION_MAGIC:
        return _pcapng(stream)
    raise CaptureError(f"{'neither pcap nor pcapng' if magic else 'empty'}; give what tcpdump -w has written")


def _pcap(stream: BinaryIO, *, order: str, tick: int, rest: str) -> Iterator[Frame]:
    header = stream.read(20)
    if len(header) < 20:
        raise CaptureError("cut short in the file's header")
    link_type = struct.unpack(f"{order}16xI", header)[0] & _PCAP_LINK_TYPE
    record = struct.Struct(f"{order}IIII{rest}")
    number = 0
    while header := stream.read(record.size):
        number += 1
        if len(header) < record.size:
            raise CaptureError(f"cut short in packet {number}")
        seconds, ticks, captured, _ = record.unpack(header)
        if captured > _MAXIMUM_FRAME:
            raise CaptureError(f"damaged: packet {number} claims {captured} bytes")
        data = stream.read(captured)
        yield Frame(time=seconds * _SECOND + ticks * tick, link_type=link_type, data=data)
        if len(data) < captured:
            raise CaptureError(f"cut short in packet {number}")


def _pcapng(stream: BinaryIO) -> Iterator[Frame]:
    interfaces: list[_Interface] = []
    number = 0
    for order, kind, body in _blocks(stream):
        if kind == _SECTION:
            _check_section(order, body)
            interfaces = []
        elif kind == _INTERFACE:
            interfaces.append(_interface(order, body))
        elif kind in _PACKETS:
            number += 1
            try:
                frame = _packet(order, kind, body=body, interfaces=interfaces)
            except (struct.error, IndexError):
                raise CaptureError(f"cut short or damaged in packet {number}") from None
            yield frame


def _blocks(stream: BinaryIO) -> Iterator[tuple[str, int, bytes]]:
    """Yield (byte order, type, body) of each block; of a last packet's that is cut, what is there."""
    order = ""
    head = _SECTION_MAGIC + stream.read(4)
    number = 0
    while head:
        number += 1
        body = b""
        if head.startswith(_SECTION_MAGIC):  # reads the same in both byte orders; the next word says which
            body = stream.read(4)
            order = _BYTE_ORDER.get(body, "")
        if len(head) < 8 or not order:
            raise CaptureError(f"cut short or damaged in block {number}")
        kind, length = struct.unpack(f"{order}II", head)
        if length < 12 + len(body) or length % 4 or length > _MAXIMUM_BLOCK:
            raise CaptureError(f"damaged: block {number} claims {length} bytes")
        body += stream.read(length - 8 - len(body))
        whole = len(body) == length - 8
        if whole or kind in _PACKETS:
            yield order, kind, body[: length - 12]
        if not whole:
            raise CaptureError(f"cut short in block {number}")
        if body[-4:] != head[4:]:
            raise CaptureError(f"damaged: block {number} has two lengths")
        head = stream.read(8)


def _check_section(order: str, body: bytes) -> None:
    major = int.from_bytes(body[4:6], "little" if order == "<" else "big")
    if major != 1:
        raise CaptureError(f"pcapng version {major}, where 1 is known")


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise CaptureError("damaged: an interface's description is too short")
    link_type, snaplen = struct.unpack(f"{order}HxxI", body[:8])
    resolution, offset = 10**6, 0
    at = 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == _OPTION_RESOLUTION and len(value) == 1:
            resolution = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == _OPTION_OFFSET and len(value) == 8:
            (offset,) = struct.unpack(f"{order}q", value)
        at += 4 + length + -length % 4
    return _Interface(link_type=link_type, snaplen=snaplen, resolution=resolution, offset=offset)


def _packet(order: str, kind: int, *, body: bytes, interfaces: list[_Interface]) -> Frame:
    """Read a packet's block. Raises struct.error (too short), IndexError (no such interface)."""
    if kind == _SIMPLE_PACKET:
        interface = interfaces[0]
        (original,) = struct.unpack(f"{order}I", body[:4])
        captured = min(original, interface.snaplen or original)
        return Frame(time=None, link_type=interface.link_type, data=body[4 : 4 + captured])
    layout = "IIIII" if kind == _ENHANCED_PACKET else "HxxIIII"
    index, high, low, captured, _ = struct.unpack(f"{order}{layout}", body[:_PACKET_HEADER])
    interface = interfaces[index]
    return Frame(
        time=interface.offset * _SECOND + (high << 32 | low) * _SECOND // interface.resolution,
        link_type=interface.link_type,
        data=body[_PACKET_HEADER : _PACKET_HEADER + captured],
    )
