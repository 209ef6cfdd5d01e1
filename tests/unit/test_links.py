"""The kernel's notifications of links, one by one, and the loss of some."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import TypeVar

import pytest

from sidecar.net.addresses import Link
from sidecar.net.links import LinkMonitor, LinksLostError
from tests.fakes.namespace import cable, in_new_network, ip

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

T = TypeVar("T")


def with_monitor(action: Callable[[LinkMonitor], T]) -> T:
    def scene() -> T:
        cable()
        monitor = LinkMonitor()
        try:
            return action(monitor)
        finally:
            monitor.close()

    return in_new_network(scene)


def next_of(monitor: LinkMonitor, name: str) -> Link:
    """Wait until something is told of this link: the carrier's loss at the other end comes a moment later."""
    while True:
        assert select.select([monitor], [], [], 10)[0]
        if told := [link for link in monitor.changes() if link.name == name]:
            return told[-1]


def test_nothing_is_told_while_nothing_happens() -> None:
    def scene(monitor: LinkMonitor) -> tuple[list[Link], bool]:
        monitor.changes()
        return monitor.changes(), bool(select.select([monitor], [], [], 0)[0])

    assert with_monitor(scene) == ([], False)


def test_the_loss_of_the_carrier_and_its_return_are_told() -> None:
    def scene(monitor: LinkMonitor) -> list[Link]:
        seen = []
        for state in ("down", "up"):
            monitor.changes()
            ip(f"link set far {state}")
            seen.append(next_of(monitor, "near"))
        return seen

    down, up = with_monitor(scene)
    assert (down.up, up.up) == (False, True)
    assert down.index == up.index
    assert down.mac == up.mac == bytes.fromhex("020000000001")


def test_another_mac_is_told() -> None:
    def scene(monitor: LinkMonitor) -> Link:
        ip("link set near address 02:00:00:00:00:99")
        return next_of(monitor, "near")

    assert with_monitor(scene).mac.hex(":") == "02:00:00:00:00:99"


def test_a_deleted_interface_is_down() -> None:
    def scene(monitor: LinkMonitor) -> Link:
        ip("link delete near")
        return next_of(monitor, "near")

    assert not with_monitor(scene).up


def losses(monitor: LinkMonitor) -> int:
    """Read until nothing is left; return how often something was lost."""
    lost = 0
    while True:
        try:
            if not monitor.changes():
                return lost
        except LinksLostError:
            lost += 1


def test_lost_notifications_are_an_error_after_which_it_goes_on() -> None:
    def scene(monitor: LinkMonitor) -> tuple[int, int, Link]:
        before = losses(monitor)
        with socket.socket(fileno=socket.dup(monitor.fileno())) as same:
            usual = same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's smallest
            for number in range(20):
                ip(f"link set near mtu {1000 + number}")
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, usual)
        after = losses(monitor)
        ip("link set far down")
        return before, after, next_of(monitor, "near")

    before, after, link = with_monitor(scene)
    assert before == 0
    assert after > 0
    assert not link.up
