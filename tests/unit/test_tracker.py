"""Who is master of what, told from adverts alone; times are seconds, packets are ``decode``'s records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.capture.files import Frame
from sidecar.capture.vrrp import WireProtocol
from sidecar.decode import Record, frame_record
from sidecar.protocol.types import DropReason
from sidecar.tracker import FORGOTTEN_AFTER, MAX_SENDERS, Change, Tracker

A, B, C = "10.77.0.1", "10.77.0.2", "10.77.0.3"
GOODBYE = {"advbase": 255, "advskew": 255}

SOUND = Record(
    time=None,
    source=A,
    destination="224.0.0.18",
    vhid=42,
    advbase=1,
    advskew=0,
    demotion=0,
    counter=7,
    checksum_ok=True,
    authentic=True,
    reason=None,
)
FORGED = replace(SOUND, authentic=False, reason=DropReason.BAD_HMAC)


class Wire:
    """A tracker with a clock, on eth0."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.now = 1000.0

    def hear(self, record: Record, *, protocol: WireProtocol = WireProtocol.CARP, interface: str = "eth0") -> list[str]:
        return self._texts(self.tracker.heard(interface, protocol, record, self.now), interface)

    def advert(self, source: str = A, **fields: int | bool | None) -> list[str]:
        return self.hear(replace(SOUND, source=source, **fields))

    def rounds(self, *sources: str) -> list[str]:
        """Each of them advertises, 0.1 s apart."""
        said = []
        for source in sources:
            said += self.advert(source)
            said += self.wait(0.1)
        return said

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return self._texts(self.tracker.tick(self.now), "eth0")

    @staticmethod
    def _texts(changes: list[Change], interface: str) -> list[str]:
        assert {change.interface for change in changes} <= {interface}
        return [change.text for change in changes]


@pytest.fixture
def wire() -> Wire:
    return Wire()


IS_MASTER = "vhid 42: 10.77.0.1 is master: advbase 1 advskew 0 demotion 0, authentic"
B_AFTER_A = "vhid 42: 10.77.0.2 is master after 10.77.0.1: advbase 1 advskew 0 demotion 0, authentic"


# One master ----------------------------------------------------------------------------------------------------------


def test_a_master_is_told_once(wire: Wire) -> None:
    assert wire.advert() == [IS_MASTER]
    for _ in range(20):
        assert wire.wait(1.0) == []
        assert wire.advert() == []


@pytest.mark.parametrize(
    ("authentic", "words"), [(True, "authentic"), (None, "authenticity not checked")], ids=["verified", "unknown"]
)
def test_the_verdict_is_told(wire: Wire, authentic: bool | None, words: str) -> None:
    assert wire.advert(authentic=authentic)[0].endswith(f"demotion 0, {words}")


def test_what_changes_in_its_adverts_is_told(wire: Wire) -> None:
    wire.advert()
    assert wire.advert(advskew=240, demotion=1) == ["vhid 42: 10.77.0.1 changes advskew 0 -> 240, demotion 0 -> 1"]
    assert wire.advert(advskew=240, demotion=1) == []
    assert wire.advert(advbase=3) == [
        "vhid 42: 10.77.0.1 changes advbase 1 -> 3, advskew 240 -> 0, demotion 1 -> 0",
    ]


@pytest.mark.parametrize(
    ("advbase", "advskew", "silence"),
    [(1, 0, 3.0), (1, 128, 4.5), (10, 0, 30.0), (0, 128, 1.5), (0, 1, 1.0), (0, 0, 1.0), (255, 0, 765.0)],
)
def test_it_is_silent_after_three_of_its_intervals_and_a_second_at_least(
    wire: Wire, advbase: int, advskew: int, silence: float
) -> None:
    wire.advert(advbase=advbase, advskew=advskew)
    assert wire.tracker.deadline() == 1000.0 + silence
    assert wire.wait(silence - 0.001) == []
    assert wire.wait(0.001) == [f"vhid 42: 10.77.0.1 is silent, last heard {silence:.1f} s ago"]
    assert wire.wait(60.0) == []


def test_a_master_that_comes_back_is_told_again(wire: Wire) -> None:
    wire.advert()
    wire.wait(3.0)
    assert wire.advert() == [IS_MASTER]


def test_a_goodbye_is_told_once(wire: Wire) -> None:
    wire.advert()
    assert wire.advert(**GOODBYE) == ["vhid 42: 10.77.0.1 says goodbye"]
    assert wire.advert(**GOODBYE) == []
    assert wire.wait(60.0) == []
    assert wire.advert() == [IS_MASTER]


def test_a_goodbye_of_somebody_unknown_is_told_once(wire: Wire) -> None:
    assert wire.advert(**GOODBYE) == ["vhid 42: 10.77.0.1 says goodbye"]
    assert wire.advert(**GOODBYE) == []


@pytest.mark.parametrize("fields", [{"advbase": 255}, {"advskew": 255}])
def test_half_a_goodbye_is_an_advert(wire: Wire, fields: dict[str, int]) -> None:
    assert "is master" in wire.advert(**fields)[0]


# Several -------------------------------------------------------------------------------------------------------------


def test_another_master_takes_over_and_the_first_ones_silence_is_no_news(wire: Wire) -> None:
    wire.advert(A)
    wire.wait(1.0)
    assert wire.rounds(B, B, B) == [B_AFTER_A]
    assert wire.wait(2.5) == []


def test_after_a_silence_the_next_one_comes_after_the_last(wire: Wire) -> None:
    wire.advert(A)
    wire.wait(3.0)
    assert wire.advert(B) == [B_AFTER_A]


def test_two_that_go_on_are_two_masters_told_once(wire: Wire) -> None:
    assert wire.rounds(A, A, A, B, A, B) == [IS_MASTER, B_AFTER_A]
    assert wire.rounds(A) == ["vhid 42: 2 MASTERS at once: 10.77.0.1, 10.77.0.2"]
    assert wire.rounds(B, A, B, A, B, A) == []


def test_one_more_advert_before_it_yields_is_no_contest(wire: Wire) -> None:
    """As ucarp does it."""
    assert wire.rounds(A, A, B, A, B, B, B, B) == [IS_MASTER, B_AFTER_A]


def test_who_is_left_after_a_contest_is_told(wire: Wire) -> None:
    wire.rounds(A, B, A, B, A)
    wire.wait(2.0)
    wire.advert(A)
    assert wire.wait(0.9) == ["vhid 42: 10.77.0.2 is silent, last heard 3.1 s ago; still advertising: 10.77.0.1"]
    assert wire.rounds(B)[0].startswith("vhid 42: 10.77.0.2 is master after 10.77.0.1")
    assert wire.rounds(A, B, A) == ["vhid 42: 2 MASTERS at once: 10.77.0.1, 10.77.0.2"]


def test_a_contest_ends_with_a_goodbye_too(wire: Wire) -> None:
    wire.rounds(A, B, A, B, A)
    assert wire.advert(A, **GOODBYE) == ["vhid 42: 10.77.0.1 says goodbye; still advertising: 10.77.0.2"]


def test_three_at_once(wire: Wire) -> None:
    said = wire.rounds(A, B, C, A, B, C, A, B, C)
    assert [line for line in said if "MASTERS" in line] == [
        "vhid 42: 2 MASTERS at once: 10.77.0.1, 10.77.0.3",
        "vhid 42: 3 MASTERS at once: 10.77.0.1, 10.77.0.2, 10.77.0.3",
    ]
    assert wire.advert(C, **GOODBYE) == ["vhid 42: 10.77.0.3 says goodbye; still advertising: 10.77.0.1, 10.77.0.2"]
    assert wire.rounds(A, B, A, B) == []
    assert wire.advert(A, **GOODBYE) == ["vhid 42: 10.77.0.1 says goodbye; still advertising: 10.77.0.2"]


def test_the_winner_of_a_challenge_is_told_when_the_challenger_is_silent(wire: Wire) -> None:
    wire.rounds(A, B)
    for _ in range(2):
        assert wire.wait(1.0) == []
        assert wire.advert(A) == []
    assert wire.wait(0.9) == ["vhid 42: 10.77.0.2 is silent, last heard 3.0 s ago; still advertising: 10.77.0.1"]


@pytest.mark.parametrize("last_words", [[], [A]], ids=["at-once", "with-one-more-advert"])
def test_a_takeover_that_is_undone_at_once_is_told_in_full(wire: Wire, last_words: list[str]) -> None:
    wire.rounds(A, A, B, *last_words, B)
    assert wire.advert(B, **GOODBYE) == ["vhid 42: 10.77.0.2 says goodbye"]
    assert wire.rounds(A, A) == [
        "vhid 42: 10.77.0.1 is master after 10.77.0.2: advbase 1 advskew 0 demotion 0, authentic"
    ]


def test_vhids_interfaces_and_families_are_apart(wire: Wire) -> None:
    records = [
        SOUND,
        replace(SOUND, source=B, vhid=43),
        replace(SOUND, source="fe80::2", destination="ff02::12"),
    ]
    said = [line for _ in range(4) for record in records for line in wire.hear(record)]
    said += [line for _ in range(4) for line in wire.hear(replace(SOUND, source=C), interface="eth1")]
    assert [line.partition(":")[0] for line in said] == ["vhid 42", "vhid 43", "vhid 42", "vhid 42"]
    assert all("after" not in line for line in said)


# What receivers drop -------------------------------------------------------------------------------------------------


def test_a_wrong_hmac_makes_a_group_beside_the_true_one(wire: Wire) -> None:
    forged = "vhid 42 (NOT authentic): 10.77.0.1"
    assert wire.hear(SOUND) == [IS_MASTER]
    assert wire.hear(FORGED) == [
        f"{forged} is master: advbase 1 advskew 0 demotion 0, the password or the list of VIPs differs"
    ]
    assert wire.hear(replace(FORGED, **GOODBYE)) == [f"{forged} says goodbye"]
    assert wire.hear(SOUND) == []
    assert wire.wait(3.0) == ["vhid 42: 10.77.0.1 is silent, last heard 3.0 s ago"]


@pytest.mark.parametrize("reason", [reason for reason in DropReason if reason is not DropReason.BAD_HMAC])
def test_what_is_dropped_is_told_once_with_its_reason(wire: Wire, reason: DropReason) -> None:
    assert wire.hear(SOUND) == [IS_MASTER]
    bad = replace(SOUND, reason=reason)
    assert wire.hear(bad) == [f"vhid 42: 10.77.0.1 sends what receivers drop: {reason}"]
    assert wire.hear(bad) == []
    assert wire.hear(replace(bad, **GOODBYE)) == []
    assert wire.wait(3.0) == ["vhid 42: 10.77.0.1 is silent, last heard 3.0 s ago"]
    assert wire.hear(bad) == []


def test_a_packet_of_which_nothing_can_be_read(wire: Wire) -> None:
    nothing = frame_record(Frame(time=None, link_type=1, data=b""), verifier=None)
    assert nothing is not None
    assert wire.hear(nothing) == ["vhid -: an unknown sender sends what receivers drop: truncated"]


def test_another_reason_of_the_same_sender_is_news(wire: Wire) -> None:
    wire.hear(replace(SOUND, reason=DropReason.BAD_TTL))
    assert wire.hear(replace(SOUND, reason=DropReason.BAD_CHECKSUM)) == [
        "vhid 42: 10.77.0.1 sends what receivers drop: bad-checksum"
    ]


def test_other_protocols_are_named_once(wire: Wire) -> None:
    other = replace(SOUND, vhid=51, reason=DropReason.TRUNCATED)
    assert wire.hear(other, protocol=WireProtocol.VRRP2) == [
        "VRRPv2 router 51: 10.77.0.1 is master; not CARP, left alone"
    ]
    assert wire.hear(other, protocol=WireProtocol.VRRP2) == []
    assert wire.hear(other, protocol=WireProtocol.VRRP3) == [
        "VRRPv3 router 51: 10.77.0.1 is master; not CARP, left alone"
    ]


def test_vrrp_with_a_checksum_that_carp_would_take_is_no_master_of_a_carp_group(wire: Wire) -> None:
    assert "VRRPv2" in wire.hear(SOUND, protocol=WireProtocol.VRRP2)[0]
    assert wire.advert(B) == [IS_MASTER.replace(A, B)]


# Memory --------------------------------------------------------------------------------------------------------------


def test_who_is_long_gone_is_forgotten(wire: Wire) -> None:
    wire.advert()
    wire.hear(replace(SOUND, reason=DropReason.BAD_TTL))
    wire.wait(3.0)
    assert wire.tracker.deadline() == 1000.0 + FORGOTTEN_AFTER
    assert wire.wait(FORGOTTEN_AFTER - 3.0) == []
    assert wire.tracker.deadline() is None
    assert wire.advert(B) == [IS_MASTER.replace(A, B)]  # nobody remembers whom it comes after


def test_who_is_heard_is_not_forgotten(wire: Wire) -> None:
    bad = replace(SOUND, reason=DropReason.BAD_TTL)
    wire.hear(bad)
    for _ in range(3):
        assert wire.wait(FORGOTTEN_AFTER - 1.0) == []
        assert wire.hear(bad) == []


def fill(wire: Wire, record: Record) -> None:
    for number in range(MAX_SENDERS):
        assert len(wire.hear(replace(record, source=f"10.1.{number >> 8}.{number & 255}"))) == 1


FULL = f"{MAX_SENDERS} senders are remembered, which is the most: new ones are left out"
NEW = IS_MASTER.replace(A, "10.2.0.1")


@pytest.mark.parametrize(
    "record",
    [SOUND, replace(SOUND, authentic=None), FORGED, replace(SOUND, reason=DropReason.BAD_TTL)],
    ids=["verified", "unknown", "forged", "malformed"],
)
def test_a_flood_of_senders_is_remembered_up_to_a_bound_and_that_is_told_once(wire: Wire, record: Record) -> None:
    fill(wire, record)
    unknown = replace(SOUND, source="10.2.0.1", authentic=None)
    assert wire.hear(unknown) == [FULL]
    assert wire.hear(replace(FORGED, source="10.2.0.2")) == []
    assert wire.hear(replace(SOUND, source="10.2.0.3", reason=DropReason.TRUNCATED)) == []
    wire.wait(FORGOTTEN_AFTER)
    wire.wait(FORGOTTEN_AFTER)
    assert len(wire.hear(unknown)) == 1
    assert wire.hear(unknown) == []
    wire.wait(2 * FORGOTTEN_AFTER)
    fill(wire, record)
    assert wire.hear(unknown) == [FULL]


@pytest.mark.parametrize(
    "record",
    [replace(SOUND, vhid=7, authentic=None), FORGED, replace(SOUND, reason=DropReason.BAD_TTL)],
    ids=["unknown", "forged", "malformed"],
)
def test_a_flood_does_not_hide_a_verified_master(wire: Wire, record: Record) -> None:
    fill(wire, record)
    assert wire.advert("10.2.0.1") == [NEW]
    assert wire.advert("10.2.0.1") == []
    assert wire.hear(replace(record, source="10.2.0.2")) == [FULL]


def test_a_verified_one_never_makes_room(wire: Wire) -> None:
    fill(wire, SOUND)
    assert wire.advert("10.2.0.1") == [FULL]


def test_the_last_of_a_group_may_make_room(wire: Wire) -> None:
    fill(wire, SOUND)
    wire.wait(2.0)
    for number in range(1, MAX_SENDERS):
        wire.advert(f"10.1.{number >> 8}.{number & 255}")
    wire.wait(1.0)
    wire.wait(FORGOTTEN_AFTER - 3.0)
    lone = replace(SOUND, vhid=7, authentic=None)
    assert len(wire.hear(lone)) == 1
    assert "is master" in wire.advert("10.2.0.1")[0]
    assert wire.hear(lone) == [FULL]


# Anything ------------------------------------------------------------------------------------------------------------

octets = st.integers(0, 255)
records = st.builds(
    replace,
    st.just(SOUND),
    source=st.sampled_from([A, B, C, "fe80::1", "::", None]),
    vhid=st.sampled_from([1, 42, None]),
    advbase=st.sampled_from([0, 1, 2, 255]) | st.none(),
    advskew=st.sampled_from([0, 1, 255]),
    demotion=octets,
    authentic=st.sampled_from([True, False, None]),
    reason=st.sampled_from([None, None, None, *DropReason]),
)


@given(st.lists(st.tuples(records, st.sampled_from(WireProtocol), st.sampled_from([0.0, 0.1, 1.0, 3.0, 900.0]))))
def test_whatever_comes_it_says_printable_lines_and_its_deadlines_pass(
    script: list[tuple[Record, WireProtocol, float]],
) -> None:
    tracker, now = Tracker(), 0.0
    for record, protocol, wait in script:
        said = tracker.heard("eth0", protocol, record, now)
        now += wait
        said += tracker.tick(now)
        assert all(change.text.isprintable() for change in said)
        deadline = tracker.deadline()
        assert deadline is None or deadline > now  # else the loop would not sleep
    tracker.tick(now + 766.0)
    tracker.tick(now + 766.0 + FORGOTTEN_AFTER)
    assert tracker.deadline() is None
