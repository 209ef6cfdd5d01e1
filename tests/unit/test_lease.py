"""The lease: its lifetime, all VIPs or none, and a sweep that touches nothing but leases."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from sidecar.net.addresses import Address
from sidecar.net.lease import VipLease, leases, sweep
from sidecar.protocol import timing
from sidecar.protocol.timing import lease as lifetime
from tests.fakes.addresses import FakeAddresses

A, B, C = (ip_interface(text) for text in ("10.0.0.200/32", "10.0.0.201/24", "fd00::200/128"))
LEASE = VipLease(index=2, vips=(A, B, C), seconds=2)


@pytest.mark.parametrize(
    ("advbase", "dead_ratio", "seconds"),
    [(1, 3, 2), (1, 4, 3), (2, 3, 5), (5, 3, 14), (254, 3, 761), (254, 255, 64769), (0, 3, 1), (0, 255, 1)],
)
def test_the_lifetime(advbase: int, dead_ratio: int, seconds: int) -> None:
    assert lifetime(advbase=advbase, advskew=0, dead_ratio=dead_ratio) == seconds


@pytest.mark.parametrize("dead_ratio", range(3, 256, 12))
@pytest.mark.parametrize("advbase", [1, 2, 3, 10, 254])
def test_the_lease_ends_before_any_takeover_and_lasts_from_one_renewal_to_the_next(
    advbase: int, dead_ratio: int
) -> None:
    seconds = lifetime(advbase=advbase, advskew=254, dead_ratio=dead_ratio)
    kernels_delay = 0.75  # as measured
    assert seconds + kernels_delay < timing.master_down(advbase=advbase, advskew=0, dead_ratio=dead_ratio)
    assert seconds > timing.interval(advbase=advbase, advskew=254)


@pytest.mark.parametrize(
    ("advbase", "advskew", "dead_ratio", "seconds"), [(1, 0, 1, 2), (3, 0, 1, 4), (1, 200, 2, 2), (2, 254, 1, 3)]
)
def test_where_the_dead_ratio_is_small_the_lease_outlasts_the_interval(
    advbase: int, advskew: int, dead_ratio: int, seconds: int
) -> None:
    assert lifetime(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio) == seconds


def test_the_first_renewal_binds_and_the_next_extends() -> None:
    kernel = FakeAddresses()
    assert LEASE.renew(kernel) is None
    assert kernel.bound == {(2, A): 2, (2, B): 2, (2, C): 2}
    kernel.bound[2, B] = 1
    assert LEASE.renew(kernel) is None
    assert kernel.bound == {(2, A): 2, (2, B): 2, (2, C): 2}


@pytest.mark.parametrize("refused", [A, B, C], ids=str)
def test_a_vip_that_is_refused_leaves_none_bound(refused: object) -> None:
    kernel = FakeAddresses(refuses_to_put={refused})  # type: ignore[arg-type]
    assert LEASE.renew(kernel) == f"the kernel refused {refused}"
    assert kernel.bound == {}


def test_a_renewal_that_is_refused_takes_the_others_off_too() -> None:
    kernel = FakeAddresses()
    LEASE.renew(kernel)
    kernel.refuses_to_put.add(B)
    assert LEASE.renew(kernel) == f"the kernel refused {B}"
    assert kernel.bound == {}


def test_a_vip_that_stays_after_a_refusal_is_what_is_told() -> None:
    kernel = FakeAddresses(refuses_to_put={C}, refuses_to_take={A})
    assert LEASE.renew(kernel) == f"the kernel kept {A}"
    assert kernel.bound == {(2, A): 2}


def test_a_release_takes_every_vip_that_the_kernel_lets_go() -> None:
    kernel = FakeAddresses()
    LEASE.renew(kernel)
    kernel.refuses_to_take.add(A)
    assert LEASE.release(kernel) == f"the kernel kept {A}"
    assert kernel.bound == {(2, A): 2}
    kernel.refuses_to_take.clear()
    assert LEASE.release(kernel) is None
    assert kernel.bound == {}
    assert LEASE.release(kernel) is None


def test_it_is_held_only_if_every_vip_is_leased_on_its_own_interface() -> None:
    kernel = FakeAddresses()
    assert not LEASE.held(leases(kernel))
    LEASE.renew(kernel)
    assert LEASE.held(leases(kernel))
    assert not VipLease(index=3, vips=(A, B, C), seconds=2).held(leases(kernel))
    del kernel.bound[2, C]
    assert not LEASE.held(leases(kernel))
    kernel.others.append(Address(index=2, interface=C, leased=False))
    assert not LEASE.held(leases(kernel))


def test_another_prefix_is_another_lease() -> None:
    kernel = FakeAddresses(bound={(2, ip_interface("10.0.0.200/24")): 2})
    assert not VipLease(index=2, vips=(A,), seconds=2).held(leases(kernel))


def test_a_sweep_removes_the_leases_of_these_vips_on_any_interface_and_with_any_prefix() -> None:
    wide = ip_interface("10.0.0.200/24")
    kernel = FakeAddresses(bound={(2, A): 2, (3, wide): 2, (2, C): 2, (2, B): 2})
    assert sweep(kernel, [A, C]) == (str(A), str(wide), str(C))
    assert kernel.bound == {(2, B): 2}


def test_a_sweep_leaves_what_is_not_leased_alone() -> None:
    own = Address(index=2, interface=A, leased=False)
    kernel = FakeAddresses(others=[own])
    assert sweep(kernel, [A]) == ()
    assert kernel.calls == []
