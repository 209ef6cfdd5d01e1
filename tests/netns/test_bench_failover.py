"""The bench sees what it is there to see: one run of a peer that leaves the VIP behind, and one of ours."""

from __future__ import annotations

import pytest

from bench.failover.faults import measure
from bench.failover.setups import CANDIDATES, DEFAULTS, Fault, Mac, Product, Setup, Timing
from bench.failover.together import Together

KEEPALIVED = Setup(
    product=Product.KEEPALIVED, timing=Timing.FASTEST, mac=Mac.INTERFACE, speed=CANDIDATES[Product.KEEPALIVED][-1]
)
OURS = Setup(product=Product.OURS, timing=Timing.DEFAULT, mac=Mac.INTERFACE, speed=DEFAULTS[Product.OURS])


@pytest.mark.usefixtures("real_kernel")
def test_a_peer_that_leaves_the_vip_behind_is_seen_to_answer_beside_the_other_one() -> None:
    found = {(one.fault, one.version): one for one in measure(KEEPALIVED, "crash", Together(1))}
    assert found.keys() == {(Fault.CRASH, 4), (Fault.CRASH, 6)}
    for one in found.values():
        assert one.left
        assert one.two > 0
        assert one.takeover is not None


@pytest.mark.usefixtures("real_kernel")
def test_a_planned_stop_of_ours_and_the_return_are_seen() -> None:
    found = {(one.fault, one.version): one for one in measure(OURS, "planned stop", Together(1))}
    assert found.keys() == {(fault, version) for fault in (Fault.STOP, Fault.RETURN) for version in (4, 6)}
    for one in found.values():
        assert not one.left
        assert one.takeover is not None
        assert 0 <= one.outage < one.looked
