"""Hold the kernel's rtnl lock, as whoever sets up or tears down a network does, and use no CPU meanwhile.

An ethtool request copies its answer out under the lock. Half of the answer's place is a page that userfaultfd(2) does
not give out until the time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

_USERFAULTFD, _UFFD_API = 323, 0xAA
_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_MODE_MISSING = 1
_SIOCETHTOOL, _ETHTOOL_GLINK = 0x8946, 0x0A
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def held_rtnl() -> Iterator[None]:
    """Hold the lock; skip the test where the kernel has no userfaultfd."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[page - 4 : page] = struct.pack("=I", _ETHTOOL_GLINK)
    faults = _libc.syscall(_USERFAULTFD, os.O_CLOEXEC)
    if faults < 0:
        pytest.skip(f"userfaultfd: {os.strerror(ctypes.get_errno())}")
    fcntl.ioctl(faults, _UFFDIO_API, struct.pack("=QQQ", _UFFD_API, 0, 0))
    fcntl.ioctl(faults, _UFFDIO_REGISTER, struct.pack("=QQQQ", start + page, page, _MODE_MISSING, 0))
    asking = threading.Thread(target=_ask, args=(start + page - 4,))
    asking.start()
    try:
        time.sleep(0.01)  # until it has faulted; nothing else tells
        yield
    finally:
        os.close(faults)
        asking.join()


def _ask(address: int) -> None:
    request = ctypes.create_string_buffer(struct.pack("=16sQ16x", b"lo", address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        _libc.ioctl(sock.fileno(), _SIOCETHTOOL, request)
