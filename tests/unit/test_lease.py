"""The lease: its lifetime, all VIPs or none, and a sweep that touches nothing but leases."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.addresses import FOREVER, Address
from sidecar.net.lease import Kind, Terms, VipLease, leases, sweep, terms
from sidecar.protocol import timing
from sidecar.protocol.timing import lease as lifetime
from tests.fakes.addresses import FakeAddresses
from tests.fakes.plans import group_plan

A, B, C = (ip_interface(text) for text in ("10.0.0.200/32", "10.0.0.201/24", "fd00::200/128"))
LEASE = VipLease(index=2, vips=(A, B, C))


def agreed(*, unavailable: str | None = None, tick_ms: float = 4.0, **changes: object) -> Terms:
    """Return the terms of a group of default timing with some of its settings changed."""
    return terms(group_plan(**changes), unavailable=unavailable, tick_ms=tick_ms)


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
    assert LEASE.renew(kernel, lifetime=2) is None
    assert kernel.bound == {(2, A): 2, (2, B): 2, (2, C): 2}
    kernel.bound[2, B] = 1
    assert LEASE.renew(kernel, lifetime=2) is None
    assert kernel.bound == {(2, A): 2, (2, B): 2, (2, C): 2}


@pytest.mark.parametrize("refused", [A, B, C], ids=str)
def test_a_vip_that_is_refused_leaves_none_bound(refused: object) -> None:
    kernel = FakeAddresses(refuses_to_put={refused})  # type: ignore[arg-type]
    assert LEASE.renew(kernel, lifetime=2) == f"the kernel refused {refused}"
    assert kernel.bound == {}


def test_a_renewal_that_is_refused_takes_the_others_off_too() -> None:
    kernel = FakeAddresses()
    LEASE.renew(kernel, lifetime=2)
    kernel.refuses_to_put.add(B)
    assert LEASE.renew(kernel, lifetime=2) == f"the kernel refused {B}"
    assert kernel.bound == {}


def test_a_vip_that_stays_after_a_refusal_is_what_is_told() -> None:
    kernel = FakeAddresses(refuses_to_put={C}, refuses_to_take={A})
    assert LEASE.renew(kernel, lifetime=2) == f"the kernel kept {A}"
    assert kernel.bound == {(2, A): 2}


def test_a_release_takes_every_vip_that_the_kernel_lets_go() -> None:
    kernel = FakeAddresses()
    LEASE.renew(kernel, lifetime=2)
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
    LEASE.renew(kernel, lifetime=2)
    assert LEASE.held(leases(kernel))
    assert not VipLease(index=3, vips=(A, B, C)).held(leases(kernel))
    del kernel.bound[2, C]
    assert not LEASE.held(leases(kernel))
    kernel.others.append(Address(index=2, interface=C, leased=False))
    assert not LEASE.held(leases(kernel))


def test_another_prefix_is_another_lease() -> None:
    kernel = FakeAddresses(bound={(2, ip_interface("10.0.0.200/24")): 2})
    assert not VipLease(index=2, vips=(A,)).held(leases(kernel))


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


def test_a_sweep_spares_what_is_to_go_on() -> None:
    kernel = FakeAddresses(bound={(2, A): 2, (3, A): 2})
    assert sweep(kernel, [A], spare={(2, A)}) == (str(A),)
    assert kernel.bound == {(2, A): 2}


# Terms ---------------------------------------------------------------------------------------------------------------


def test_auto_is_by_nftables_where_the_kernel_can_and_says_why_where_it_cannot() -> None:
    assert (agreed().kind, agreed().why) == (Kind.NFTABLES, "")
    without = agreed(unavailable="the kernel has no nf_tables")
    assert (without.kind, without.why) == (Kind.ADDRESS, "the kernel has no nf_tables")
    asked = agreed(lease="address")
    assert (asked.kind, asked.why) == (Kind.ADDRESS, "")
    assert agreed(lease="off").kind is Kind.OFF


@pytest.mark.parametrize(
    ("advskew", "tick_ms", "kind"),
    [(4, 4.0, Kind.NFTABLES), (2, 4.0, Kind.NFTABLES), (1, 4.0, Kind.ADDRESS), (1, 1.0, Kind.NFTABLES),
     (4, 10.0, Kind.NFTABLES), (2, 10.0, Kind.ADDRESS), (0, 1.0, Kind.NFTABLES)],
)  # fmt: skip
def test_a_tick_too_coarse_for_the_adverts_means_no_milliseconds(advskew: int, tick_ms: float, kind: Kind) -> None:
    found = agreed(advbase=0, advskew=advskew, tick_ms=tick_ms)
    assert found.kind is kind
    assert ("too coarse" in found.why) is (kind is Kind.ADDRESS)


@given(st.integers(0, 254), st.integers(0, 254), st.integers(3, 255))
def test_a_lease_of_milliseconds_ends_before_any_takeover_and_not_before_the_next_advert(
    advbase: int, advskew: int, dead_ratio: int
) -> None:
    found = agreed(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio)
    if found.kind is Kind.NFTABLES:
        assert not found.outlasts_patience
        assert timing.interval(advbase=advbase, advskew=advskew) + 0.008 < found.standing < found.patience
        assert found.patience - found.standing <= found.patience / 64 + 0.0011
        for left in (found.standing, found.standing / 2, 0.004):
            # The address outlasts the milliseconds, but for what the kernel may take off early; not by two seconds.
            assert left <= found.lifetime(left) - 0.02 + 1e-9 or found.lifetime(left) - left < 0.02 + 1e-9
            assert found.lifetime(left) < left + 1.03


@given(st.integers(0, 254), st.integers(0, 254), st.integers(1, 255), st.floats(0, 5))
def test_an_address_that_is_renewed_late_ends_no_later_for_it(
    advbase: int, advskew: int, dead_ratio: int, late: float
) -> None:
    found = agreed(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio, lease="address")
    lifetime = found.lifetime(found.standing - late)
    assert 1 <= lifetime <= found.seconds
    if not found.outlasts_patience and lifetime > 1:
        assert late + lifetime + 0.75 <= max(found.patience, found.seconds + 0.75) + 1e-9


def test_at_default_timing_the_node_falls_silent_just_before_the_earliest_peer_takes_over() -> None:
    found = agreed()
    assert 2.9 < found.standing < 3.0
    assert found.lifetime(found.standing) == 3
    assert (found.lasts, found.latest) == (2, found.standing)
    assert str(found) == "nftables: this node falls silent 2.952 s after its last advert"


def test_what_may_let_two_nodes_answer_is_said() -> None:
    slow = agreed(advbase=0, advskew=4, unavailable="the kernel has no nf_tables")
    assert slow.outlasts_patience
    assert (slow.lifetime(0.01), slow.lasts, slow.latest) == (1, 1, 1)
    assert str(slow) == (
        "address: the kernel takes the VIP off 1 to 2 s after the last advert, since the kernel has no nf_tables; "
        "peers wait 0.047 s: after a SIGKILL of the whole sidecar two nodes may answer"
    )
    off = agreed(lease="off")
    assert off.lifetime(1.0) == FOREVER
    assert str(off) == (
        "off: nothing takes the VIP off where the whole sidecar is killed; "
        "peers wait 3.000 s: after a SIGKILL of the whole sidecar two nodes may answer"
    )
    assert not agreed(lease="address").outlasts_patience
    assert agreed(dead_ratio=1).outlasts_patience
    assert agreed(dead_ratio=2, advskew=200, lease="address").outlasts_patience
