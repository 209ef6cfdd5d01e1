"""When the LAN is asked about the VIPs, and what its answers come to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from sidecar.engine.inquiry import AGAIN_AT_MOST, AT_ONCE, NEXT_LOT, ROUND_SPACING, ROUNDS, Ask, Proof, Scout, Verdict
from sidecar.net.inquiry import Answer
from sidecar.protocol.types import IPAddress

VIP, VIP6, PEER = IPv4Address("10.0.0.200"), IPv6Address("fd00::200"), IPv4Address("10.0.0.12")
OURS, THEIRS = bytes.fromhex("020000000011"), bytes.fromhex("020000000099")


def from_other(address: IPAddress = VIP, mac: bytes = THEIRS) -> Answer:
    return Answer(address=address, mac=mac, told=ip_address("0.0.0.0"), to=OURS)


def told_to(vip: IPAddress = VIP, to: bytes = OURS) -> Answer:
    return Answer(address=PEER, mac=THEIRS, told=vip, to=to)


def run(verdict: Verdict, *, at: float, neighbours: tuple[IPAddress, ...] = (PEER,)) -> list[float]:
    """Let it ask to the end of the round; return when it asked."""
    times = []
    while (at := max(at, verdict.deadline)) < 1e9:
        if verdict.due(at, neighbours):
            times.append(at)
    return times


@pytest.mark.parametrize(("interval", "spacing"), [(1 / 256, 0.1), (0.5, 0.5), (1.0, 1.0), (60.0, 1.0)])
def test_a_scout_asks_at_once_and_then_every_interval_or_so(interval: float, spacing: float) -> None:
    scout = Scout(5.0, interval=interval)
    assert scout.deadline == 5.0
    assert scout.due(5.0, (VIP, VIP6)) == [Ask(VIP), Ask(VIP6)]
    assert (scout.due(5.0, (VIP,)), scout.deadline) == ([], 5.0 + spacing)


def test_an_announcement_is_followed_by_rounds_of_questions() -> None:
    verdict = Verdict((VIP, VIP6))
    assert verdict.deadline == float("inf")
    assert verdict.proof is Proof.UNKNOWN
    verdict.announced(1.0)
    assert verdict.due(1.0, (PEER, IPv6Address("fd00::12"))) == [
        Ask(VIP),
        Ask(PEER, VIP),
        Ask(VIP6),
        Ask(IPv6Address("fd00::12"), VIP6),
    ]
    assert verdict.due(1.1, (PEER,)) == []
    assert run(verdict, at=1.1) == pytest.approx([1.0 + ROUND_SPACING * number for number in range(1, ROUNDS)])
    assert (verdict.proof, verdict.others) == (Proof.UNKNOWN, ())
    assert not verdict.announces_again()


def test_an_answer_that_comes_here_for_each_vip_confirms() -> None:
    verdict = Verdict((VIP, VIP6))
    verdict.announced(0.0)
    verdict.due(0.0, (PEER,))
    verdict.heard(told_to(), mac=OURS)
    assert verdict.proof is Proof.UNKNOWN
    verdict.heard(told_to(VIP6, to=THEIRS), mac=OURS)
    assert verdict.proof is Proof.UNKNOWN  # it went elsewhere
    verdict.heard(told_to(VIP6), mac=OURS)
    assert verdict.proof is Proof.CONFIRMED
    assert Ask(PEER, VIP) not in verdict.due(ROUND_SPACING, (PEER,))  # who is known to know is not asked again
    verdict.announced(1.0)
    assert verdict.proof is Proof.CONFIRMED  # until it turns out otherwise
    run(verdict, at=1.0)
    assert verdict.proof is Proof.UNKNOWN


def test_another_one_who_answers_contests() -> None:
    verdict = Verdict((VIP,))
    verdict.announced(0.0)
    verdict.heard(told_to(), mac=OURS)
    assert verdict.heard(from_other(), mac=OURS)
    assert not verdict.heard(from_other(), mac=OURS)
    assert verdict.heard(from_other(mac=OURS), mac=OURS)  # at a virtual MAC it is the same: nobody hears himself
    assert (verdict.proof, verdict.others) == (Proof.CONTESTED, ((VIP, OURS),))
    assert not verdict.heard(from_other(VIP6), mac=OURS)
    run(verdict, at=0.0)
    verdict.announced(2.0)
    assert (verdict.proof, verdict.others) == (Proof.CONTESTED, ((VIP, OURS),))
    verdict.due(2.0, ())
    verdict.heard(told_to(), mac=OURS)
    assert verdict.proof is Proof.CONTESTED
    run(verdict, at=2.0)
    assert (verdict.proof, verdict.others) == (Proof.CONFIRMED, ())


def test_it_is_announced_again_because_of_another_one_but_not_for_ever() -> None:
    verdict = Verdict((VIP,))

    def announced(at: float, *, contested: bool) -> bool:
        verdict.announced(at)
        if contested:
            verdict.heard(from_other(), mac=OURS)
        run(verdict, at=at)
        again = verdict.announces_again()
        assert not verdict.announces_again()
        return again

    assert [announced(10.0 * n, contested=True) for n in range(AGAIN_AT_MOST + 2)] == [True] * AGAIN_AT_MOST + [
        False
    ] * 2
    assert not announced(100.0, contested=False)
    assert announced(110.0, contested=True)


def test_many_vips_are_asked_for_lot_by_lot() -> None:
    vips = tuple(ip_address(int(VIP) + number) for number in range(AT_ONCE + 1))
    verdict = Verdict(vips)
    verdict.announced(0.0)
    assert len(verdict.due(0.0, ())) == AT_ONCE
    assert verdict.deadline == NEXT_LOT
    assert verdict.due(NEXT_LOT, ()) == [Ask(vips[-1])]
    assert verdict.deadline == pytest.approx(NEXT_LOT + ROUND_SPACING)
