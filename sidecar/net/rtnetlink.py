"""rtnetlink(7): pyroute2's messages over a plain socket, a request and what the kernel answers.

pyroute2's own IPRoute does that by an asyncio loop, and what it imports takes 12 MB of the one process that has rights.
The kernel works off a request before ``send`` returns, so there is nothing to wait for.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from sidecar.parts import parts_of

with parts_of("pyroute2"):
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, GETROUTE = 24, 26
CREATE, EXCLUSIVE, REPLACE = 0x400, 0x200, 0x100

_MESSAGES = {
    **dict.fromkeys((NEWLINK, DELLINK, GETLINK), ifinfmsg),
    **dict.fromkeys((NEWADDR, DELADDR, GETADDR), ifaddrmsg),
    **dict.fromkeys((NEWROUTE, GETROUTE), rtmsg),
}
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
_SEQUENCE, _SEQUENCE_AT = struct.Struct("=I"), 8
_CODE = struct.Struct("=i")
"""What an error, an acknowledgement and the end of a dump begin with: minus the errno."""
_ANSWER_AT_MOST = 65536
"""The kernel fills 32 kB of it at most (netlink_dump, af_netlink.c)."""
_ANSWERS_WITHIN = 1.0
_DUMPS_TRIED = 5


class Rtnetlink:
    """Requests that the kernel acknowledges. Use as a context manager or call ``close``. For several threads."""

    __slots__ = ("_lock", "_sequence", "_socket")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket = _open()
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, request: bytearray) -> None:
        """Have the kernel do what ``request`` made; it may be asked the same again. Raises OSError.

        An answer that nobody waited for is not taken for a later one: each request has its own number.
        """
        with self._lock:
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            _SEQUENCE.pack_into(request, _SEQUENCE_AT, self._sequence)
            self._socket.send(request)
            while True:
                answer = self._socket.recv(_ANSWER_AT_MOST)
                _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
                if kind == _ERROR and sequence == self._sequence:
                    return _raise_error_in(answer)


def request(kind: int, how: int = 0, *, attributes: Sequence[tuple[str, object]] = (), **fields: int) -> bytearray:
    """Return the bytes of a request for ``Rtnetlink.ask``; fields and attributes are called as pyroute2 calls them."""
    message = _MESSAGES[kind]()
    message["header"]["type"], message["header"]["flags"] = kind, _REQUEST | _ACK | how
    message.update(fields)
    message["attrs"] = list(attributes)
    message.encode()
    return bytearray(message.data)


def dump(kind: int, wanted: Callable[[bytes], bool] | None = None) -> list[Any]:
    """Return all that the kernel has of a kind, or what is ``wanted``, judged by its bytes. Raises OSError.

    Where something changed while it was read, which may then be in it twice or not at all, it is read again.
    """
    message = _MESSAGES[kind]()
    message["header"]["type"], message["header"]["flags"] = kind, _REQUEST | _DUMP
    message["family"] = socket.AF_UNSPEC  # or pyroute2 asks for the routes of IPv4 alone
    message.encode()
    found: list[Any] = []
    for _ in range(_DUMPS_TRIED):
        found.clear()
        interrupted = False
        with _open() as kernel:
            kernel.send(message.data)
            for flags, each in _pieces(kernel):
                interrupted |= bool(flags & _INTERRUPTED)
                if wanted is None or wanted(each):
                    found += messages(each)
        if not interrupted:
            break
    return found


def messages(data: bytes) -> Iterator[Any]:
    """Read the messages about links, addresses and routes that the kernel sent in one piece."""
    for kind, _, each in _split(data):
        if kind in _MESSAGES:
            message = _MESSAGES[kind](each)
            message.decode()
            yield message


def link_name(message: Any) -> str:  # noqa: ANN401 - pyroute2 has no types
    """Return a link's name as ``socket.if_indextoname`` has it; what is not UTF-8 in it pyroute2 leaves as bytes."""
    return os.fsdecode(message.get_attr("IFLA_IFNAME"))


def _open() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.settimeout(_ANSWERS_WITHIN)
    return kernel


def _pieces(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Read a dump to its end: each message's flags and bytes."""
    while True:
        for kind, flags, each in _split(kernel.recv(_ANSWER_AT_MOST)):
            if kind in (_ERROR, _DONE):
                return _raise_error_in(each)
            yield flags, each


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        yield kind, flags, data[at : at + length]
        at += max(_HEADER.size, length + 3 & ~3)


def _raise_error_in(answer: bytes) -> None:
    (code,) = _CODE.unpack_from(answer, _HEADER.size)
    if code:
        raise OSError(-code, os.strerror(-code))
