"""Whom a group hears: counted per sender, bounded, and reported once."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import msgspec

from sidecar.engine.peers import MEMBERS_AT_MOST, REPORT_EVERY, REPORTS_AT_MOST, STRANGERS_AT_MOST, Peers
from sidecar.ipc.messages import MAXIMUM
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


def test_members_are_bounded_and_the_one_heard_longest_ago_goes_but_never_the_one_that_is_followed() -> None:
    peers = Peers()
    for source in (A, B):
        peers.heard(source, HEADER, password=1, wall=5.0)
    for number in range(MEMBERS_AT_MOST - 2):
        peers.heard(IPv4Address(number), HEADER, password=1, wall=6.0, followed=A)
    assert set(peers.members()) >= {A, B}
    for number in range(10_000):  # ``compat``: whoever replays one advert may say that it comes from anywhere
        peers.heard(IPv4Address(2**24 + number), HEADER, password=1, wall=7.0 + number, followed=A)
    members = peers.members()
    assert (len(members), members[0]) == (MEMBERS_AT_MOST, A)
    assert B not in members
    assert members[-1] == IPv4Address(2**24 + 9_999)
    assert peers.heard(B, HEADER, password=2, wall=8.0, followed=A) == 0


def test_the_status_of_as_many_as_are_remembered_fits_into_one_message_with_room_to_spare() -> None:
    peers = Peers()
    for number in range(2 * MEMBERS_AT_MOST):
        source = IPv6Address(2**128 - 1 - number)
        peers.heard(source, HEADER, password=1, wall=1.8e9 + number / 7)
        for reason in DropReason:
            peers.dropped(source, reason, wall=1.8e9)
    assert sum(len(msgspec.json.encode(each)) for each in peers.status()) < MAXIMUM / 2
