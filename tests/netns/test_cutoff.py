"""The cut-off between two kernels: what becomes of an established TCP connection."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from sidecar.demo.lan import INTERFACE, Lan, inside
from sidecar.net.cutoff import Cutoff
from sidecar.protocol.types import IPAddress

VIPS = (IPv4Address("10.77.0.100"), IPv6Address("fd77::100"))
LONG = 600_000
PATIENCE = 60.0


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """What is sent later also arrives later."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def connect(lan: Lan, address: str) -> tuple[socket.socket, socket.socket]:
    """Return both ends, the client's and the first node's, of a connection to that address of the node."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        return socket.create_server((address, 5000), family=family)

    with lan.open_socket(lan.nodes[0], listen) as server:
        client = lan.open_socket(lan.client, lambda: socket.create_connection((address, 5000), timeout=PATIENCE))
        return client, server.accept()[0]


def bind(lan: Lan, vip: IPAddress) -> None:
    options = ["nodad"] if vip.version == 6 else []
    node = lan.nodes[0]
    node.run(["ip", "address", "add", f"{vip}/{vip.max_prefixlen}", "dev", INTERFACE, *options])
    give_up = time.monotonic() + PATIENCE  # also without DAD, the kernel comes to an IPv6 address a little later
    while f"local {vip} " not in node.run(["ip", f"-{vip.version}", "route", "show", "table", "local"]).stdout:
        assert time.monotonic() < give_up, f"the kernel does not come to {vip}"


def has_come(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""
    finally:
        sock.settimeout(PATIENCE)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("vip", VIPS, ids=str)
def test_an_established_connection_stops_in_both_directions_and_goes_on_with_the_next_lease(
    lan: Lan, vip: IPAddress
) -> None:
    node = lan.nodes[0]
    bind(lan, vip)
    with contextlib.ExitStack() as stack:
        cutoff = stack.enter_context(Cutoff("test"))
        inside(node.netns, lambda: cutoff.install(VIPS))
        cutoff.renew(VIPS, LONG)
        through = [stack.enter_context(end) for end in connect(lan, str(vip))]
        beside = [stack.enter_context(end) for end in connect(lan, node.address6 if vip.version == 6 else node.address)]
        for sender, receiver in (through, through[::-1]):
            sender.sendall(b"before")
            assert receiver.recv(100) == b"before"
        cutoff.renew(VIPS, 20)
        while cutoff.remaining(VIPS):
            time.sleep(0.002)
        for end in (0, 1):
            through[end].sendall(b"after")
            beside[end].sendall(b"after")
            assert beside[1 - end].recv(100) == b"after"  # so what went to the VIP before it would be there too
            assert has_come(through[1 - end]) == b""
        cutoff.renew(VIPS, LONG)
        for end in (0, 1):
            assert through[end].recv(100) == b"after"  # sent again by TCP
