"""nf_tables through netlink: the few messages of nfnetlink and nf_tables that a cut-off needs, and their exchange.

Layouts as in linux/netfilter/nfnetlink.h and nf_tables.h: headers in host order, numbers in attributes big-endian.
The kernel works off a request before ``send`` returns, so that its answers can be read without ever waiting.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FAMILY_INET, FAMILY_ARP = 1, 3
WHOLE = "the batch"
"""What an error that is of no single message is of."""
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = (
    0,
    1,
    2,
    3,
    6,
    9,
    12,
    13,
    14,
)

REGISTER = 1
"""Where the steps of a rule put what they load."""
_VERDICT_REGISTER = 0

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _CREATE, _DUMP = 0x1, 0x4, 0x400, 0x300
_CREATES = {NEWTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM}
_HEADER = struct.Struct("=IHHIIBBH")
"""struct nlmsghdr (length, type, flags, sequence, port) and struct nfgenmsg (family, version, resource)."""
_MESSAGE_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_KIND = 0x3FFF
_ERRNO = struct.Struct("=i")
_APPEND = 0x800
_ANSWER_AT_MOST = 65536


class NftError(Exception):
    """The kernel refused a request: ``what`` names the message, ``code`` is the errno."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
        self.what = what
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One nf_tables message: its type (NEWTABLE...), its family, its attributes, and what to call it in an error."""

    kind: int
    family: int
    attributes: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages as they go to the kernel, all or none of which take effect; ``names[sequence]`` is what each one is."""

    data: bytes
    names: tuple[str, ...]


def attribute(kind: int, *content: bytes) -> bytes:
    """Return a netlink attribute: 4 bytes of length and kind, the content, zeros up to a multiple of 4 bytes."""
    data = b"".join(content)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute made of attributes."""
    return attribute(kind | _NESTED, *attributes)


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds a NUL-terminated string."""
    return attribute(kind, value.encode(), b"\0")


def number(kind: int, value: int, *, size: int = 4) -> bytes:
    """Return an attribute that holds a number of ``size`` bytes in network order; it may be negative."""
    return attribute(kind, value.to_bytes(size, "big", signed=value < 0))


def value(kind: int, data: bytes) -> bytes:
    """Return an attribute that holds bytes to compare with, a key or data."""
    return nested(kind, attribute(1, data))


def expression(name: str, *attributes: bytes) -> bytes:
    """Return one step of a rule."""
    return nested(1, text(1, name), nested(2, *attributes))


def meta(what: int) -> bytes:
    """Return the step that loads something about the packet, in the CPU's order."""
    return expression("meta", number(1, REGISTER), number(2, what))


def payload(base: int, *, offset: int, size: int) -> bytes:
    """Return the step that loads ``size`` bytes at ``offset`` of the header ``base``."""
    return expression("payload", number(1, REGISTER), number(2, base), number(3, offset), number(4, size))


def compare(wanted: bytes, how: int = 0) -> bytes:
    """Return the step that goes on only where what was loaded compares so (0: is equal) to ``wanted``."""
    return expression("cmp", number(1, REGISTER), number(2, how), value(3, wanted))


def lookup(name: str, *, inverted: bool = False) -> bytes:
    """Return the step that goes on only where what was loaded is in that set, or is not."""
    return expression("lookup", text(1, name), number(2, REGISTER), *([number(5, 1)] if inverted else []))


def drop() -> bytes:
    """Return the step that drops the packet."""
    return expression("immediate", number(1, _VERDICT_REGISTER), nested(2, nested(2, number(1, 0))))


def attributes(data: bytes) -> dict[int, bytes]:
    """Read attributes into a mapping from kind to content. Of several of one kind the last stays."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read attributes one by one as kind and content."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, length + 3 & ~3)


def batch(messages: Sequence[Message], *, commit: bool = True) -> Batch:
    """Return a batch of ``messages``; without ``commit`` the kernel tries them, says how it went and undoes them."""
    frames = [_frame(_BATCH_BEGIN, flags=_REQUEST, sequence=0, resource=_SUBSYSTEM)]
    for sequence, message in enumerate(messages, start=1):
        flags = _REQUEST | (_CREATE | _APPEND if message.kind in _CREATES else 0)
        if sequence == len(messages):
            flags |= _ACK
        frames.append(
            _frame(
                _SUBSYSTEM << 8 | message.kind,
                flags=flags,
                sequence=sequence,
                family=message.family,
                attributes=message.attributes,
            )
        )
    if commit:
        frames.append(_frame(_BATCH_END, flags=_REQUEST, sequence=len(messages) + 1, resource=_SUBSYSTEM))
    return Batch(b"".join(frames), (WHOLE, *(message.what for message in messages), WHOLE))


def _frame(  # noqa: PLR0913 - the header's fields
    kind: int, *, flags: int, sequence: int, family: int = 0, resource: int = 0, attributes: bytes = b""
) -> bytes:
    length = _HEADER.size + len(attributes)
    return _HEADER.pack(length, kind, flags, sequence, 0, family, 0, socket.htons(resource)) + attributes


class Nft:
    """One netlink socket to the netfilter of the network namespace in which it is opened, which is at first use."""

    __slots__ = ("_answer", "_socket")

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._answer = bytearray()

    def close(self) -> None:
        """Close the socket; the next use opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def run(self, wanted: Batch) -> None:
        """Have the kernel carry out a batch. Raises NftError, or OSError if netfilter cannot be spoken to at all."""
        self._send(wanted.data)
        acknowledged = False
        failed: NftError | None = None
        for kind, sequence, payload in self._answers():
            if kind == _NLMSG_ERROR:
                [code] = _ERRNO.unpack_from(payload)
                acknowledged = True
                if code and failed is None:
                    failed = NftError(wanted.names[min(sequence, len(wanted.names) - 1)], -code)
        if failed is not None:
            raise failed
        if not acknowledged:
            raise NftError(WHOLE, errno.EPROTO)

    def dump(self, wanted: Message) -> list[bytes]:
        """Ask for a list; return the attributes of each message of the answer. Raises as ``run`` does."""
        self._send(
            _frame(
                _SUBSYSTEM << 8 | wanted.kind,
                flags=_REQUEST | _DUMP,
                sequence=1,
                family=wanted.family,
                attributes=wanted.attributes,
            )
        )
        found = []
        for kind, _, payload in self._answers():
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                [code] = _ERRNO.unpack_from(payload)
                if code:
                    raise NftError(wanted.what, -code)
            else:
                found.append(payload[4:])  # behind struct nfgenmsg
        return found

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            self._answer = bytearray(_ANSWER_AT_MOST)
        self._socket.send(data)

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, sequence number and payload of all that the kernel has to say."""
        assert self._socket is not None  # noqa: S101 - narrowing; _send came first
        while True:
            try:
                length = self._socket.recv_into(self._answer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self.close()  # what else it would have said is not an answer to the next request
                raise
            at = 0
            while at + _MESSAGE_HEADER.size <= length:
                size, kind, _, sequence, _ = _MESSAGE_HEADER.unpack_from(self._answer, at)
                yield kind, sequence, bytes(self._answer[at + _MESSAGE_HEADER.size : at + size])
                at += max(_MESSAGE_HEADER.size, size + 3 & ~3)
