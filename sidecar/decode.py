"""``carp-sidecar decode``: one line, or one JSON object, per CARP packet in capture files or given as hex.

A packet is judged as the engine judges it (``protocol.packet``, ``protocol.auth``), but what is broken is
shown too, as far as it can be read, and ``reason`` names what is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_interface
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from sidecar.capture.files import CaptureError, Frame, frames
from sidecar.capture.frames import LINK_TYPES, Envelope, envelope
from sidecar.protocol.auth import KEY_LENGTH, Authenticator, key_from_password
from sidecar.protocol.packet import HEADER_LENGTH, Header, PacketError, check, checksum_ok, unpack
from sidecar.protocol.types import DropReason, IPAddress

_EPOCH = datetime(1970, 1, 1)
_HEX = re.compile(r"[0-9a-fA-F]+")
_SEPARATORS = re.compile(r"[\s:]+")
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


class UsageError(Exception):
    """Options that cannot be used; the message names the option, the fault and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One CARP packet, in the order and the words of the output. A field is None where it cannot be read.

    ``time`` is RFC 3339 in UTC with microseconds; ``authentic`` is also None where no password was given;
    ``reason`` is what a receiver would drop the packet for.
    """

    time: str | None
    source: str | None
    destination: str | None
    vhid: int | None
    advbase: int | None
    advskew: int | None
    demotion: int | None
    counter: int | None
    checksum_ok: bool | None
    authentic: bool | None
    reason: DropReason | None


class Judge(Protocol):
    """Tells whether the HMAC of a header is a group's, None where it does not know the group."""

    def authentic(self, header: Header) -> bool | None:
        """Return the verdict."""


class Verifier:
    """Verifies packets of any vhid against one key (20 bytes) and one set of addresses."""

    __slots__ = ("_addresses", "_by_vhid", "_key")

    def __init__(self, *, key: bytes, addresses: Iterable[IPAddress]) -> None:
        self._key = key
        self._addresses = tuple(addresses)
        self._by_vhid: dict[int, Authenticator] = {}

    def authentic(self, header: Header) -> bool:
        """Tell whether the HMAC of ``header`` is this key's, for the header's own vhid."""
        if header.vhid not in self._by_vhid:
            self._by_vhid[header.vhid] = Authenticator(key=self._key, vhid=header.vhid, addresses=self._addresses)
        return self._by_vhid[header.vhid].verify(header.counter, header.mac)


def run(  # noqa: PLR0913 - the options of the command
    *,
    inputs: Sequence[str],
    as_json: bool,
    vips: str | None,
    password_file: str | None,
    out: TextIO,
    err: TextIO,
) -> int:
    """Print the packets of ``inputs``; return the exit code: 0, 1 (an unreadable input), 2 (bad options)."""
    code = 0

    def complain(message: str) -> None:
        nonlocal code
        code = 1
        err.write(f"carp-sidecar decode: {message}\n")

    render = to_json if as_json else to_text
    try:
        verifier = verifier_from_options(vips=vips, password_file=password_file)
    except UsageError as error:
        complain(str(error))
        return 2
    try:
        for record in records(inputs, verifier=verifier, complain=complain):
            out.write(render(record) + "\n")
        out.flush()
    except BrokenPipeError:  # the reader has seen enough: `| head`
        discard(out)
    except OSError as error:
        discard(out)
        complain(f"cannot write the output: {error.strerror}")
    return code


def verifier_from_options(*, vips: str | None, password_file: str | None) -> Verifier | None:
    """Return what --vips and --password-file say, None without a password. Raises UsageError."""
    addresses = [] if vips is None else [_address(text) for text in vips.split(",")]
    if password_file is None:
        return None
    if not addresses:
        raise UsageError("--password-file needs --vips A,B too: the HMAC covers the group's addresses")
    return Verifier(key=key_from_password(_read_password(password_file)), addresses=addresses)


def _address(text: str) -> IPAddress:
    try:
        return ip_interface(text.strip()).ip
    except ValueError:
        raise UsageError(f"--vips: {text!r} is no address; give the group's, as in 10.77.0.100,2001:db8::100") from None


def _read_password(path: str) -> bytes:
    name = f"--password-file {printable(path)}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as below
            content = file.read(KEY_LENGTH + len(b"\r\n") + 1)  # enough to know it too long, whatever it is
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise UsageError(f"{name}: {fault}; give a readable file that holds the group's password") from None
    password = content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content
    if not password:
        raise UsageError(f"{name}: empty; write the group's password into it")
    if len(password) > KEY_LENGTH:
        raise UsageError(f"{name}: longer than the {KEY_LENGTH} bytes of a CARP key; give the group's password")
    return password


def records(inputs: Iterable[str], *, verifier: Verifier | None, complain: Callable[[str], None]) -> Iterator[Record]:
    """Yield the packets of captures and hex strings; ``complain`` gets a line for each unreadable one."""
    for text in inputs:
        name = printable(text)
        try:
            file = _open(text)
        except OSError as error:
            complain(f"{name}: {error.strerror}")
            continue
        if file is not None:
            with file:
                yield from file_records(name, file, verifier=verifier, complain=complain)
        elif (header := from_hex(text)) is not None:
            yield header_record(header, verifier=verifier)
        else:
            complain(f"{name}: no such file, and not hex; give a capture file or a CARP header's hex digits")


def _open(text: str) -> BinaryIO | None:
    """Open the file of this name, None if there is none. Raises OSError for one that cannot be read."""
    try:
        return open(text, "rb")  # noqa: PTH123 - Path("") would be the current directory
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    except ValueError:  # a name that no file can have
        return None


def file_records(
    name: str, file: BinaryIO, *, verifier: Verifier | None, complain: Callable[[str], None]
) -> Iterator[Record]:
    """Yield the packets of one capture; ``complain`` gets a line, with ``name``, for what is unreadable."""
    unknown: set[int] = set()
    try:
        for frame in frames(file):
            if frame.link_type not in LINK_TYPES:
                unknown.add(frame.link_type)
            elif (record := frame_record(frame, verifier=verifier)) is not None:
                yield record
    except (CaptureError, OSError) as error:
        complain(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
    for link_type in sorted(unknown):
        complain(f"{name}: packets of link type {link_type} left out; capture on Ethernet or with tcpdump -i any")


def from_hex(text: str) -> bytes | None:
    """Return the bytes of hex digits (0x, colons and spaces allowed), None if ``text`` is anything else."""
    digits = "".join(part.removeprefix("0x").removeprefix("0X") for part in _SEPARATORS.split(text))
    if not _HEX.fullmatch(digits):
        return None
    return bytes.fromhex(digits[: len(digits) // 2 * 2])  # half a byte is a packet that is cut short, too


def frame_record(frame: Frame, *, verifier: Judge | None) -> Record | None:
    """Return the CARP packet in ``frame`` (of a known link type), None if there is none."""
    found = envelope(frame.link_type, frame.data)
    return None if found is None else envelope_record(found, time=frame.time, verifier=verifier)


def envelope_record(found: Envelope, *, time: int | None, verifier: Judge | None) -> Record:
    """Return the CARP packet in an IP packet that came at ``time``, in Unix nanoseconds."""
    bare = header_record(found.payload, verifier=verifier)
    return replace(
        bare,
        time=utc(time),
        source=None if found.source is None else str(found.source),
        destination=None if found.destination is None else str(found.destination),
        reason=found.fault or bare.reason,
    )


def header_record(data: bytes, *, verifier: Judge | None) -> Record:
    """Return the CARP packet that starts with ``data``, without time and addresses."""
    there = len(data)
    header = unpack(data.ljust(HEADER_LENGTH, b"\0"))
    whole = there >= HEADER_LENGTH
    authentic = verifier.authentic(header) if verifier is not None and whole else None
    return Record(
        time=None,
        source=None,
        destination=None,
        vhid=header.vhid if there >= 2 else None,
        advbase=header.advbase if there >= 6 else None,
        advskew=header.advskew if there >= 3 else None,
        demotion=header.demotion if there >= 5 else None,
        counter=header.counter if there >= 16 else None,
        checksum_ok=checksum_ok(data) if whole else None,
        authentic=authentic,
        reason=_fault(data, authentic),
    )


def _fault(data: bytes, authentic: bool | None) -> DropReason | None:
    try:
        check(unpack(data), data)
    except PacketError as error:
        return error.reason
    return DropReason.BAD_HMAC if authentic is False else None


def utc(nanoseconds: int | None) -> str | None:
    """Return Unix nanoseconds as RFC 3339 in UTC with microseconds, None for none and beyond the year 9999."""
    if nanoseconds is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:  # a damaged file's year 584942417355
        return None
    return moment.isoformat(timespec="microseconds") + "Z"


def to_json(record: Record) -> str:
    """Return ``record`` as one JSON object on one line."""
    return json.dumps(asdict(record))


def to_text(record: Record) -> str:
    """Return ``record`` as one line in columns; what cannot be read is a dash."""
    addresses = f"{record.source or '-'} > {record.destination or '-'}"
    counter = "-" if record.counter is None else f"0x{record.counter:016x}"
    checksum = {None: "-", True: "ok", False: "BAD"}[record.checksum_ok]
    authentic = {None: "not checked", True: "authentic", False: "NOT authentic"}[record.authentic]
    columns = (
        f"{record.time or '-':27}",
        f"{addresses:24}",
        f"vhid {_number(record.vhid)}",
        f"advbase {_number(record.advbase)} advskew {_number(record.advskew)}",
        f"demotion {_number(record.demotion)}",
        f"counter {counter:18}",
        f"checksum {checksum:3}",
        f"{authentic:13}",
        record.reason or "",
    )
    return "  ".join(columns).rstrip()


def _number(value: int | None) -> str:
    return f"{'-' if value is None else value:<3}"


def printable(text: str) -> str:
    """Return ``text`` for people: at most 200 characters and none that controls a terminal."""
    shown = text if len(text) <= 200 else text[:200] + "..."
    return shown if shown and shown.isprintable() else repr(shown)


def discard(out: TextIO) -> None:
    """Send what ``out`` still holds nowhere, so that the interpreter does not complain of it at exit."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), out.fileno())
