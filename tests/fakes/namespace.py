"""A network namespace for the length of one function: empty but for what the function makes in it. Needs root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def in_new_network(action: Callable[[], T]) -> T:
    """Return what ``action`` returns, run by a thread of its own in a namespace of its own.

    The namespace ends with the last socket in it; sockets that are returned still live there.
    """

    def enter() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return action()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()


def ip(arguments: str) -> str:
    """Run ip(8) in the namespace of the calling thread; return what it says."""
    done = subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True)
    return done.stdout


def cable(*, near: str = "near", far: str = "far") -> None:
    """Make two joined Ethernet interfaces (MACs 02:00:00:00:00:01, :02), up and saying nothing by themselves."""
    ip(f"link add {near} address 02:00:00:00:00:01 type veth peer name {far} address 02:00:00:00:00:02")
    for name in (near, far):
        ip(f"link set {name} addrgenmode none arp off up")
    for name in (near, far):
        _wait_for_carrier(name)


def _wait_for_carrier(name: str) -> None:
    """The kernel turns a cable's queues on a little after both ends are up; until then it drops frames in silence."""
    for _ in range(1000):
        if "state UP" in ip(f"link show {name}"):
            return
    raise TimeoutError(f"{name} does not come up")
