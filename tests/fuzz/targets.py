"""Everything that reads bytes of strangers or of people, as functions that raise only where something is wrong.

Each takes any bytes. The errors that the code under test promises are expected; every other exception is a find.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import msgspec

from sidecar.capture.files import Frame
from sidecar.capture.frames import LINK_TYPES
from sidecar.config import document
from sidecar.config.effective import effective, effective_dict
from sidecar.config.model import SettingsError
from sidecar.decode import Record, Verifier, file_records, frame_record, from_hex, header_record, to_json, to_text
from sidecar.ipc.messages import VERSION, MessageError, decode, encode
from sidecar.ipc.plan import decode_plan, encode_plan
from sidecar.net.inquiry import AnswerError, read_answer
from sidecar.protocol.auth import key_from_password
from sidecar.protocol.packet import HEADER_LENGTH, PacketError, check, pack, parse, unpack
from tests.fakes.captures import PASSWORD, VIP
from tests.fakes.node import load_on_node
from tests.fakes.station import Station
from tests.fakes.wire import ipv4, rfc1071, sealed

VERIFIER = Verifier(key=key_from_password(PASSWORD), addresses=[VIP])
SEPARATOR = b"\0"
MEND, SIGN, COMPAT, EARLY = 1, 2, 4, 8


def packet(data: bytes) -> None:
    """Any bytes as an IP packet: read, or refused for one reason; what was read can be written again.

    Once as they are, and once with the checksums of IPv4 and CARP mended.
    """
    _read(data)
    length = 4 * (data[0] & 0x0F) if data else 0
    head, rest = data[:length], data[length:]
    if len(head) >= 20:
        head = head[:10] + rfc1071(head[:10] + bytes(2) + head[12:]).to_bytes(2, "big") + head[12:]
    _read(head + (sealed(rest) if len(rest) >= HEADER_LENGTH else rest))


def _read(data: bytes) -> None:
    try:
        datagram = parse(data)
        header = unpack(datagram.payload)
        check(header, datagram.payload)
    except PacketError:
        return
    again, there = pack(header), datagram.payload[:HEADER_LENGTH]
    assert (again[:6], again[8:]) == (there[:6], there[8:])  # a checksum of 0 may be written as 0xffff, too


def wire(data: bytes) -> None:
    """One byte of bits, then a CARP packet that arrives at a group: what is dropped is counted and changes nothing.

    The bits have its checksum mended or it signed, so that more than these two is tried.
    """
    if not data:
        return
    bits, carp = data[0], data[1:]
    with Station(replay="compat" if bits & COMPAT else "strict") as station:
        station.pass_time(1.0 if bits & EARLY else 3.5)
        before = station.role, station.runner.group.deadline()
        if len(carp) >= HEADER_LENGTH and bits & SIGN:
            mac = station.runner.authenticators[0].sign(int.from_bytes(carp[8:16], "big"))
            carp = carp[:16] + mac + carp[HEADER_LENGTH:]
        if len(carp) >= HEADER_LENGTH and bits & MEND:
            carp = sealed(carp)
        if station.hear(ipv4(carp)) is not None:
            assert (station.role, station.runner.group.deadline()) == before
        station.pass_time(3.0)


def answer(data: bytes) -> None:
    """Any frame as an answer to a question about an address, as it is, as ARP and as IPv6."""
    for frame in (data, data[:12] + b"\x08\x06" + data[12:], data[:12] + b"\x86\xdd" + data[12:]):
        try:
            found = read_answer(frame)
        except AnswerError:
            continue
        assert (len(found.mac), len(found.to)) == (6, 6)
        assert found.address.version == found.told.version


def capture(data: bytes) -> None:
    """A capture file: each packet in it is a line, each fault a printable complaint."""
    complaints: list[str] = []
    for record in file_records("x", io.BytesIO(data), verifier=VERIFIER, complain=complaints.append):
        _judge(record)
    assert all(line.isprintable() for line in complaints)
    assert len(complaints) <= 1 + len(data) // 8


def frame(data: bytes) -> None:
    """A frame of any link type (the first byte), and the same bytes as a bare header and as hex."""
    if not data:
        return
    link_type = sorted(LINK_TYPES)[data[0] % len(LINK_TYPES)]
    found = frame_record(Frame(time=0, link_type=link_type, data=data[1:]), verifier=VERIFIER)
    if found is not None:
        _judge(found)
    _judge(header_record(data, verifier=VERIFIER))
    assert from_hex(data.hex()) == data
    from_hex(data.decode("latin-1"))


def _judge(record: Record) -> None:
    assert json.loads(to_json(record))["reason"] == record.reason
    assert to_text(record).isprintable()


def message(data: bytes) -> None:
    """Bytes on a channel between the processes, with and without the version before them."""
    for each in (data, bytes((VERSION,)) + data):
        try:
            found = decode(each)
        except MessageError:
            continue
        assert decode(encode(found)) == found


def plan(data: bytes) -> None:
    """The canonical settings as one document."""
    try:
        found = decode_plan(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert decode_plan(encode_plan(found)) == found


def yaml(data: bytes) -> None:
    """A settings file: plain data of text, lists and mappings, or one line that says what is wrong."""
    try:
        found = document.parse(data)
    except document.DocumentError as error:
        _one_line(f"file: {error}")
        return
    _plain(found)


def _plain(found: object) -> None:
    match found:
        case None | str():
            return
        case list():
            for each in found:
                _plain(each)
        case dict():
            for key, value in found.items():
                assert type(key) is str
                _plain(value)
        case _:
            raise AssertionError(type(found))


def settings(data: bytes) -> None:
    """An environment (lines of NAME=value), a zero byte, a settings file: a plan, or lines that say what is wrong."""
    lines, _, file = data.partition(SEPARATOR)
    pairs = (line.partition("=") for line in lines.decode(errors="surrogateescape").split("\n"))
    environ = {name: value for name, _, value in pairs if name}
    path = _scratch()
    path.write_bytes(file)
    try:
        loaded = load_on_node(environ, default_config_file=path)
    except SettingsError as error:
        if not error.lines:
            raise AssertionError("no reason given") from error
        for line in error.lines:
            _one_line(line)
        return
    assert decode_plan(encode_plan(loaded.plan)) == loaded.plan
    assert all(line.isprintable() for line in loaded.warnings)
    assert isinstance(effective(loaded), str)
    json.dumps(effective_dict(loaded))


def _one_line(line: str) -> None:
    """What, the fault and the remedy."""
    assert line.isprintable(), line
    assert ": " in line
    assert "; " in line


@cache
def _scratch() -> Path:
    """Return a file that has no name anywhere."""
    return Path(f"/proc/self/fd/{os.memfd_create('config')}")


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {target.__name__: target for target in (packet, wire, answer, capture, frame, message, plan, yaml, settings)}
)
