"""Whom a group hears: counted per sender, bounded, and reported once."""

from __future__ import annotations

from ipaddress import IPv4Address

from sidecar.engine.peers import REPORT_EVERY, REPORTS_AT_MOST, STRANGERS_AT_MOST, Peers
from sidecar.protocol.packet import Header
from sidecar.protocol.types import DropReason

A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
HEADER = Header(vhid=1, advbase=1, advskew=50, counter=0, mac=bytes(20), demotion=2)


def test_a_valid_advert_makes_a_member() -> None:
    peers = Peers()
    assert peers.heard(A, HEADER, password=1, wall=5.0) == 0
    assert peers.heard(A, HEADER, password=2, wall=6.0) == 1
    (status,) = peers.status()
    assert (status.address, status.password, status.adverts, status.heard_at) == ("10.0.0.1", 2, 2, 6.0)
    assert (status.advbase, status.advskew, status.demotion) == (1, 50, 2)


def test_drops_are_counted_per_sender_and_reason_and_reported_once() -> None:
    peers = Peers()
    reported = [peers.dropped(A, DropReason.BAD_HMAC, wall=1.0) for _ in range(3)]
    assert reported == [True, False, False]
    assert peers.dropped(A, DropReason.OWN_ECHO, wall=1.0)
    assert peers.dropped(B, DropReason.BAD_HMAC, wall=1.0)
    assert [status.drops for status in peers.status()] == [{"bad-hmac": 3, "own-echo": 1}, {"bad-hmac": 1}]


def test_a_fault_that_lasts_is_reported_again_after_a_while_and_not_after_each_good_advert() -> None:
    peers = Peers()
    assert peers.dropped(A, DropReason.BAD_HMAC, wall=1.0)
    peers.heard(A, HEADER, password=1, wall=5.0)
    assert not peers.dropped(A, DropReason.BAD_HMAC, wall=6.0)
    assert peers.dropped(A, DropReason.BAD_HMAC, wall=1.0 + REPORT_EVERY)
    (status,) = peers.status()
    assert (status.adverts, status.drops) == (1, {"bad-hmac": 3})


def test_made_up_senders_fill_neither_memory_nor_log_nor_push_members_out() -> None:
    peers = Peers()
    peers.heard(A, HEADER, password=1, wall=5.0)
    reports = sum(peers.dropped(IPv4Address(number), DropReason.BAD_HMAC, wall=1.0) for number in range(10_000))
    assert reports == REPORTS_AT_MOST
    statuses = peers.status()
    assert len(statuses) == STRANGERS_AT_MOST + 1
    assert statuses[0].address == "10.0.0.1"
