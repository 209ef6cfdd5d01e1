"""The kernel's notifications of addresses: those that were asked for, and all anew where some were lost."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from typing import TypeVar

import pytest

from sidecar.net.address_monitor import AddressMonitor, Change, Gone, Marked, ReadAnew, Seen
from sidecar.net.addresses import Addresses
from sidecar.net.neighbor import announcements
from tests.fakes.namespace import cable, in_new_network, ip

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

T = TypeVar("T")
VIP, VIP6 = ip_interface("10.0.0.200/32"), ip_interface("fd00::200/128")


def with_monitor(action: Callable[[AddressMonitor, int], T]) -> T:
    def scene() -> T:
        cable()
        monitor = AddressMonitor([VIP.ip, VIP6.ip, ip_address("fd00::201")])
        try:
            return action(monitor, socket.if_nametoindex("near"))
        finally:
            monitor.close()

    return in_new_network(scene)


def told(monitor: AddressMonitor, *, at_least: int = 0) -> list[Change]:
    """Return all that is told now; the kernel tells of IPv6 a moment later, from a work queue: wait for so many."""
    changes: list[Change] = []
    while select.select([monitor], [], [], 10.0 if len(changes) < at_least else 0)[0]:
        changes += monitor.changes()
    return changes


def test_a_lease_is_told_as_it_was_put_extended_changed_and_taken() -> None:
    def scene(monitor: AddressMonitor, index: int) -> None:
        ours = {"preferred": 0, "marked": True, "dad_failed": False}
        with Addresses() as kernel:
            for vip in (VIP, VIP6):
                kernel.put(index=index, vip=vip, lifetime=600)
                assert told(monitor, at_least=1) == [Seen(index=index, interface=vip, valid=600, **ours)]
                kernel.put(index=index, vip=vip, lifetime=60)
                assert told(monitor, at_least=1) == [Seen(index=index, interface=vip, valid=60, **ours)]
            ip("address change 10.0.0.200/32 dev near")
            (change,) = told(monitor)
            assert isinstance(change, Seen)
            assert (change.valid, change.preferred, change.marked) == (None, None, None)
            kernel.take(index=index, vip=VIP)
            ip("address del fd00::200/128 dev near")
            assert told(monitor, at_least=2) == [Gone(index=index, interface=vip) for vip in (VIP, VIP6)]

    with_monitor(scene)


def test_a_mark_tells_what_was_before_it_from_what_came_after() -> None:
    def scene(monitor: AddressMonitor, index: int) -> None:
        with Addresses() as kernel:
            kernel.put(index=index, vip=VIP, lifetime=600)
            assert monitor.mark() == 1
            kernel.take(index=index, vip=VIP)
            seen, *rest = told(monitor)
            assert isinstance(seen, Seen)
            assert rest == [Marked(1), Gone(index=index, interface=VIP)]
            monitor.mark()
            assert monitor.read_all() == [Marked(2), ReadAnew(frozenset(), 2)]

    with_monitor(scene)


def test_other_addresses_are_not_told() -> None:
    def scene(monitor: AddressMonitor, _: int) -> None:
        ip("address add 10.0.0.7/24 dev near")
        ip("address add fd00::7/64 dev near nodad")
        assert told(monitor) == []

    with_monitor(scene)


def test_all_that_is_there_is_read_at_the_start() -> None:
    def scene(monitor: AddressMonitor, index: int) -> None:
        ip("address add 10.0.0.7/24 dev near")
        ip("address add 10.0.0.200/24 dev near")
        told(monitor)
        seen, end = monitor.read_all()
        own = ip_interface("10.0.0.200/24")
        assert isinstance(seen, Seen)
        assert (seen.interface, seen.valid, seen.marked) == (own, None, None)
        assert end == ReadAnew(frozenset({(index, own)}))

    with_monitor(scene)


def test_a_failed_detection_of_duplicates_is_told() -> None:
    def scene(monitor: AddressMonitor, _: int) -> bool:
        ip("link set near arp on")
        ip("link set far arp on")
        subprocess.run(["sysctl", "-qw", "net.ipv6.conf.near.accept_dad=1"], check=True)
        ip("address add fd00::201/64 dev near")
        # Another host on the same cable says that it has it: by hand, since both ends are this node's.

        (frame,) = announcements(mac=bytes.fromhex("020000000002"), address=ip_address("fd00::201"))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind(("far", 0))
            for _ in range(100):
                wire.send(frame)
                if any(isinstance(change, (Seen, Gone)) and change.dad_failed for change in told(monitor)):
                    return True
                select.select([monitor], [], [], 0.05)
        return False

    assert with_monitor(scene)


def test_a_storm_of_others_costs_nothing_that_was_asked_for() -> None:
    """More than the socket holds: the kernel drops some, all is read anew, and no turn takes long."""

    def scene(monitor: AddressMonitor, _: int) -> tuple[list[Change], set[str]]:
        with socket.socket(fileno=socket.dup(monitor.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ip("address add 10.0.0.200/32 dev near")
        before = monitor.changes()
        lines = [f"address add 10.9.{n // 250}.{n % 250 + 1}/32 dev near" for n in range(2000)]
        lines.insert(1000, "address del 10.0.0.200/32 dev near")
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        after: list[Change] = []
        while not any(isinstance(change, ReadAnew) for change in after):
            assert select.select([monitor], [], [], 10)[0], "nothing is told"
            after += monitor.changes()
        assert told(monitor) == []
        end = after[-1]
        assert isinstance(end, ReadAnew)
        assert end.there == frozenset()
        ip("address add 10.0.0.200/32 dev near")
        return before, {type(change).__name__ for change in told(monitor)}

    before, after = with_monitor(scene)
    assert [type(change) for change in before] == [Seen]
    assert after == {"Seen"}
