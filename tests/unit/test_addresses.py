"""Addresses and links as the real kernel keeps them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_interface
from typing import TypeVar

import pytest

from sidecar.net import rtnetlink
from sidecar.net.addresses import FOREVER, Address, AddressError, Addresses, Link, _replace_request
from sidecar.net.lease import VipLease, leases, sweep
from tests.fakes.namespace import cable, in_new_network, ip

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

T = TypeVar("T")
KERNEL_RA = 2  # IFAPROT_KERNEL_RA (linux/if_addr.h)
V4, V6 = ip_interface("10.0.0.200/32"), ip_interface("fd00::200/128")


def with_kernel(action: Callable[[Addresses, int], T]) -> T:
    """Return what ``action`` makes of a kernel with one cable, given the index of its near end."""

    def scene() -> T:
        cable()
        with Addresses() as kernel:
            return action(kernel, next(link.index for link in kernel.links() if link.name == "near"))

    return in_new_network(scene)


def test_links_are_read_with_their_mac_and_carrier() -> None:
    def scene(kernel: Addresses, _: int) -> list[Link]:
        ip("link set far down")  # the near end loses its carrier
        return sorted(kernel.links(), key=lambda link: link.name)

    far, lo, near = with_kernel(scene)
    assert (far.name, far.mac.hex(":"), far.up) == ("far", "02:00:00:00:00:02", False)
    assert (near.name, near.mac.hex(":"), near.up) == ("near", "02:00:00:00:00:01", False)
    assert (lo.name, lo.mac, lo.up) == ("lo", b"", False)
    assert with_kernel(lambda kernel, index: next(i.up for i in kernel.links() if i.index == index))


def test_a_link_may_have_a_name_of_any_bytes() -> None:
    def scene(kernel: Addresses, _: int) -> list[str]:
        subprocess.run(["ip", "link", "add", b"odd\xff", "type", "bridge"], check=True)
        return sorted(link.name for link in kernel.links())

    assert with_kernel(scene) == ["far", "lo", "near", os.fsdecode(b"odd\xff")]


@pytest.mark.parametrize("vip", [V4, V6, ip_interface("10.0.0.201/24"), ip_interface("fd00::201/64")], ids=str)
def test_a_vip_is_a_marked_lease_and_only_with_a_prefix_a_source_address(vip: object) -> None:
    def scene(kernel: Addresses, index: int) -> tuple[tuple[Address, ...], str]:
        kernel.put(index=index, vip=vip, lifetime=100)  # type: ignore[arg-type]
        return kernel.addresses(), ip("address show dev near")

    addresses, text = with_kernel(scene)
    assert [(a.interface, a.leased) for a in addresses] == [(vip, True)]
    assert "valid_lft 100sec" in text
    host = str(vip).endswith(("/32", "/128"))
    assert (" preferred_lft 0sec" in text) is host
    assert (" preferred_lft 100sec" in text) is not host
    assert "tentative" not in text


def test_putting_it_again_extends_it_and_taking_it_twice_is_no_error() -> None:
    def scene(kernel: Addresses, index: int) -> tuple[str, str]:
        for vip in (V4, V6):
            kernel.put(index=index, vip=vip, lifetime=50)
            kernel.put(index=index, vip=vip, lifetime=200)
        extended = ip("address show dev near")
        for vip in (V4, V6, V4, V6):
            kernel.take(index=index, vip=vip)
        return extended, ip("address show dev near")

    extended, taken = with_kernel(scene)
    assert extended.count("valid_lft 200sec") == 2
    assert "inet" not in taken


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() -> None:
    def scene(kernel: Addresses, index: int) -> str:
        refused = _replace_request(index + 99, V4, 100)
        kernel._kernel._socket.send(refused)  # as if the answer had come too late
        kernel.put(index=index, vip=V4, lifetime=100)
        kernel._kernel._socket.send(refused)
        kernel.put(index=index, vip=V4, lifetime=100)
        return ip("address show dev near")

    assert "10.0.0.200/32" in with_kernel(scene)


def test_the_kernel_lets_go_by_itself() -> None:
    def scene(kernel: Addresses, index: int) -> bool:
        for vip in (V4, V6):
            kernel.put(index=index, vip=vip, lifetime=1)
        give_up = time.monotonic() + 10
        while kernel.addresses() and time.monotonic() < give_up:
            time.sleep(0.01)
        return kernel.addresses() == ()

    assert with_kernel(scene)


def test_what_the_kernel_refuses_is_told_in_words() -> None:
    def scene(kernel: Addresses, index: int) -> tuple[str, str]:
        with pytest.raises(AddressError) as gone:
            kernel.put(index=index + 99, vip=V4, lifetime=2)
        with pytest.raises(AddressError) as impossible:
            kernel.put(index=index, vip=ip_interface("ff02::1/128"), lifetime=2)
        return str(gone.value), str(impossible.value)

    gone, impossible = with_kernel(scene)
    assert gone.startswith("the kernel refused 10.0.0.200/32: ")
    assert gone.endswith("No such device (ENODEV)")
    assert impossible.startswith("the kernel refused ff02::1/128: ")


def test_taking_from_an_interface_that_is_gone_is_no_error() -> None:
    with_kernel(lambda kernel, index: kernel.take(index=index + 99, vip=V4))


def test_a_nodes_own_addresses_are_never_leases_nor_swept() -> None:
    def scene(kernel: Addresses, index: int) -> tuple[dict[str, bool], tuple[str, ...]]:
        ip("address add 10.0.0.1/24 dev near")  # for ever
        ip("address add 10.0.0.2/24 dev near valid_lft 3600 preferred_lft 1800")  # from DHCP, say
        from_router = [  # one that is about to go
            ("IFA_ADDRESS", "fd00::2"),
            ("IFA_CACHEINFO", {"ifa_valid": 3600, "ifa_preferred": 0}),
            ("IFA_PROTO", KERNEL_RA),
        ]
        kernel._kernel.ask(
            rtnetlink.request(
                rtnetlink.NEWADDR,
                rtnetlink.CREATE,
                index=index,
                family=socket.AF_INET6,
                prefixlen=64,
                attributes=from_router,
            )
        )
        found = {str(a.interface): a.leased for a in kernel.addresses()}
        return found, sweep(kernel, [ip_interface(text) for text in found])

    found, swept = with_kernel(scene)
    assert found == {"10.0.0.1/24": False, "10.0.0.2/24": False, "fd00::2/64": False}
    assert swept == ()


def test_a_vip_that_stays_for_ever_is_ours_all_the_same() -> None:
    def scene(kernel: Addresses, index: int) -> tuple[list[bool], str, tuple[str, ...]]:
        kernel.put(index=index, vip=V4, lifetime=FOREVER)
        kernel.put(index=index, vip=V6, lifetime=FOREVER)
        return [a.leased for a in kernel.addresses()], ip("address show dev near"), sweep(kernel, [V4, V6])

    leased, shown, swept = with_kernel(scene)
    assert leased == [True, True]
    assert len(re.findall(r"200/\d+ .*\n +valid_lft forever", shown)) == 2
    assert sorted(swept) == [str(V4), str(V6)]


def test_a_lease_of_several_vips_is_all_or_nothing_and_swept_after_its_process() -> None:
    def scene(kernel: Addresses, index: int) -> tuple[str | None, bool, tuple[str, ...], str | None, int]:
        lease = VipLease(index=index, vips=(V4, V6))
        bound, held, swept = lease.renew(kernel, lifetime=100), lease.held(leases(kernel)), sweep(kernel, [V4, V6])
        partly = VipLease(index=index, vips=(V4, ip_interface("ff02::1/128"))).renew(kernel, lifetime=100)
        return bound, held, swept, partly, len(kernel.addresses())

    bound, held, swept, partly, left = with_kernel(scene)
    assert bound is None
    assert held
    assert sorted(swept) == [str(V4), str(V6)]
    assert partly is not None
    assert left == 0
