"""Frames from a packet socket into a pcap file, without a program that might start late or stop early."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# socket(7); the value is that of every architecture that Linux's asm-generic headers serve.
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_MAXIMUM = 65_535
_TURN = 0.05  # seconds
_MAGIC_NANOSECONDS = 0xA1B23C4D
_LINKTYPE_ETHERNET = 1


def receive(sock: socket.socket) -> tuple[bytes, int]:
    """Return one packet of a socket that has SO_TIMESTAMPNS on, and when the kernel got it, in Unix nanoseconds.

    Raises BlockingIOError where none is waiting, and OSError.
    """
    packet, ancillary, _, _ = sock.recvmsg(_MAXIMUM, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_DONTWAIT)
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(value)
            return packet, seconds * 1_000_000_000 + nanoseconds
    return packet, time.time_ns()


@contextlib.contextmanager
def record(tap: socket.socket, path: Path) -> Iterator[None]:
    """Write what ``tap`` receives to ``path``: all from its binding on, and all that the kernel had when we leave."""
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    stopping = threading.Event()
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", _MAGIC_NANOSECONDS, 2, 4, 0, 0, _MAXIMUM, _LINKTYPE_ETHERNET))

        def run() -> None:
            while not stopping.is_set():
                if select.select([tap], [], [], _TURN)[0]:
                    _drain(tap, file)

        thread = threading.Thread(target=run, name="sniffer")
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
            _drain(tap, file)


def _drain(tap: socket.socket, file: BinaryIO) -> None:
    while True:
        try:
            frame, stamp = receive(tap)
        except BlockingIOError:
            return
        file.write(struct.pack("<IIII", *divmod(stamp, 1_000_000_000), len(frame), len(frame)) + frame)
