"""Who becomes master and who yields (``carp_proto_input_c`` of the BSDs; ``packethandler`` of ucarp).

``sc`` is the interval of one's own adverts, ``ch`` the one in the header that was received: advbase + advskew/256 s.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol import events
from sidecar.protocol.effects import Advertise, AdvertiseTo, Announce, Bind, Release, Renew, RoleChanged
from sidecar.protocol.machine import STAGGER, Group
from sidecar.protocol.types import BOW_OUT, GroupConfig, IPAddress, Reason, Role
from tests.fakes.foreign import FreeBSD, NetBSD, OpenBSD, Ucarp, timeval
from tests.fakes.groups import (
    LEASED,
    OTHER,
    OWN,
    PEER,
    TICK,
    adverts,
    backup,
    config,
    goodbye,
    heard,
    master,
    run,
    took_over,
    yielded,
)

SKEW = st.integers(0, 255)
BASE = st.integers(1, 5)
DEMOTION = st.integers(0, 3)
BYTES = st.builds(dict, advbase=BASE, advskew=SKEW, demotion=DEMOTION)
"""What an advert says."""
NOT_GOODBYE = BYTES.filter(lambda said: (said["advbase"], said["advskew"]) != (BOW_OUT, BOW_OUT))


def at_once(group: Group, now: float, advert: events.AdvertReceived) -> Reason | None:
    return took_over(group.handle(advert, now))


def in_turn(group: Group, now: float, advert: events.AdvertReceived) -> Reason | None:
    """Return why the group took over at the advert, or as soon as it was this node's turn."""
    reason = at_once(group, now, advert)
    turn = now + group.config.advskew * STAGGER
    if reason is None and (group.deadline() or 0.0) <= turn:
        return took_over(group.handle(TICK, turn))
    return reason


# As master -----------------------------------------------------------------------------------------------------------


def test_a_master_yields_to_a_shorter_interval() -> None:
    for ours, theirs in (((1, 10), (1, 9)), ((2, 0), (1, 255)), ((0, 20), (0, 19))):
        group, at = master(advbase=ours[0], advskew=ours[1])
        assert yielded(group.handle(heard(advbase=theirs[0], advskew=theirs[1]), at)) is Reason.BETTER_MASTER


def test_a_master_stays_against_a_longer_interval() -> None:
    for ours, theirs in (((1, 10), (1, 11)), ((1, 254), (2, 0)), ((0, 20), (1, 0))):
        group, at = master(advbase=ours[0], advskew=ours[1])
        assert yielded(group.handle(heard(advbase=theirs[0], advskew=theirs[1]), at)) is None
        assert group.role is Role.MASTER


@given(own=st.tuples(BASE, st.integers(0, 254), DEMOTION), said=NOT_GOODBYE, source=st.sampled_from((PEER, OTHER)))
def test_a_master_yields_as_openbsd_does_except_to_an_equal(
    own: tuple[int, int, int], said: dict[str, int], source: IPAddress
) -> None:
    """OpenBSD: (sc >= ch and the other is not more demoted) or the other is less demoted."""
    advbase, advskew, demotion = own
    group, at = master(advbase=advbase, advskew=advskew, demotion=demotion)
    advert = heard(**said, source=source)
    (said_of_us,) = adverts(group.handle(TICK, at + group.interval))
    openbsd = OpenBSD(config(advbase=advbase, advskew=said_of_us.advskew), demotion=demotion)
    if (advert.advbase, advert.advskew, advert.demotion) == (advbase, said_of_us.advskew, demotion):
        assert openbsd.yields_to(advert)
    else:
        we_yield = yielded(group.handle(advert, at + group.interval)) is not None
        assert we_yield is openbsd.yields_to(advert)


@given(advskew=st.integers(0, 254), theirs=SKEW)
def test_a_master_yields_as_freebsd_and_netbsd_do_except_to_an_equal(advskew: int, theirs: int) -> None:
    """They look at the intervals alone: sc >= ch."""
    group, at = master(advskew=advskew)
    ours = yielded(group.handle(heard(advskew=theirs), at)) is not None
    for kind in (FreeBSD, NetBSD):
        if theirs != advskew and (kind is NetBSD or advskew <= 240):
            assert kind(config(advskew=advskew)).yields_to(heard(advskew=theirs)) is ours


LOWER_LITTLE_ENDIAN = [
    ("10.77.2.3", "10.77.1.5"),  # seen: the one with .5 lost
    ("10.0.1.1", "10.0.0.2"),
    ("9.0.0.1", "10.0.0.1"),
    ("10.0.0.1", "10.1.0.1"),
]


@pytest.mark.parametrize(("stays", "yields"), LOWER_LITTLE_ENDIAN)
def test_of_two_equal_ones_ucarps_tie_is_broken_by_the_last_octet_first(stays: str, yields: str) -> None:
    """It compares s_addr in network byte order as the CPU reads it; on x86 and arm64 that is little-endian."""
    for own, peer, expected in ((stays, yields, False), (yields, stays, True)):
        group, at = master(source=ip_address(own))
        rival = heard(source=ip_address(peer))
        assert (yielded(group.handle(rival, at)) is not None) is expected
        assert Ucarp(config(source=ip_address(own))).yields_to(rival) is expected


@given(own=st.ip_addresses(v=4), peer=st.ip_addresses(v=4), advskew=st.integers(0, 254), theirs=SKEW)
def test_a_master_yields_exactly_where_ucarp_does(own: IPAddress, peer: IPAddress, advskew: int, theirs: int) -> None:
    group, at = master(source=own, advskew=advskew)
    rival = heard(source=peer, advskew=theirs)
    assert (yielded(group.handle(rival, at)) is not None) is Ucarp(config(source=own, advskew=advskew)).yields_to(rival)


@given(own=st.ip_addresses(v=4), peer=st.ip_addresses(v=4))
def test_of_two_equal_masters_of_which_one_is_ucarp_exactly_one_yields(own: IPAddress, peer: IPAddress) -> None:
    if own != peer:
        group, at = master(source=own)
        we_yield = yielded(group.handle(heard(source=peer), at)) is not None
        assert we_yield is not Ucarp(config(source=peer)).yields_to(heard(source=own))


@pytest.mark.parametrize(
    ("stays", "yields"),
    [("10.0.0.2", "10.0.1.1"), ("10.77.1.5", "10.77.2.3"), ("9.255.255.255", "10.0.0.0"), ("fe80::1", "fe80::2")],
)
def test_between_two_of_our_own_the_lower_address_stays(stays: str, yields: str) -> None:
    """Compared as a number; a seal tells that the other one does the same."""
    for own, peer, expected in ((stays, yields, False), (yields, stays, True)):
        group, at = master(source=ip_address(own))
        assert (yielded(group.handle(heard(source=ip_address(peer), sealed=True), at)) is not None) is expected


@pytest.mark.parametrize("kind", [OpenBSD, FreeBSD, NetBSD])
def test_to_an_equal_a_bsd_always_yields_whatever_the_addresses(kind: type[OpenBSD]) -> None:
    for address in ("1.0.0.1", "254.0.0.254"):
        assert kind(config()).yields_to(heard(source=ip_address(address)))


@pytest.mark.parametrize(("own", "peer", "both"), [("10.0.0.1", "10.0.0.2", False), ("10.0.0.2", "10.0.0.1", True)])
def test_against_an_equal_bsd_both_yield_where_our_address_is_the_higher_so_skews_want_to_be_distinct(
    own: str, peer: str, both: bool
) -> None:
    """They settle it after one more master-down interval, see the conversations."""
    group, at = master(source=ip_address(own))
    assert (yielded(group.handle(heard(source=ip_address(peer)), at)) is not None) is both


@pytest.mark.parametrize(
    ("sealed", "before", "after"), [(True, [], [AdvertiseTo]), (False, [Advertise], [])], ids=["ours", "stranger"]
)
def test_the_winner_hears_of_who_yields_to_it_by_his_word_or_as_from_ucarp_by_one_more_advert(
    sealed: bool, before: list[type], after: list[type]
) -> None:
    """It may never have heard him, and clients go to him until it announces."""
    group, at = master(advskew=10)
    done = group.handle(heard(sealed=sealed), at + 0.5)
    assert [type(effect) for effect in done] == [*before, Release, RoleChanged]
    assert [type(effect) for effect in group.handle(events.LeaseReleased(), at + 0.5)] == after


def test_but_not_where_no_client_can_know_of_him_or_the_winner_is_asked_to_be_his_heir() -> None:
    old, at = master(advskew=10)
    old.handle(events.HandOver(), at)
    new = backup(advskew=10)
    new.handle(TICK, at)
    for group in (old, new):
        done = group.handle(heard(), at + 0.5)
        assert yielded(done) is not None
        assert adverts(done) == []


def test_who_yields_is_backup_with_a_full_timer() -> None:
    group, at = master(advskew=64)
    group.handle(heard(), at + 0.5)
    assert group.role is Role.BACKUP
    assert group.deadline() == at + 0.5 + 3.25
    assert group.master == PEER


@pytest.mark.parametrize("rival", [heard(advskew=11), heard(advskew=10)], ids=["longer", "equal-and-lower-ranked"])
def test_a_master_that_stays_announces_its_addresses_now_and_again_later_as_ucarp_does(
    rival: events.AdvertReceived,
) -> None:
    group, at = master(advskew=10)
    run(group, at + 10)
    now = at + 10.0
    done = group.handle(rival, now)
    assert Announce() in done
    again = [when for when, effect in run(group, now + 5) if effect == Announce()]
    assert len(again) == 1
    assert 1.0 < again[0] - now < 2.0


def test_and_tells_the_rival_at_once_so_that_he_need_not_wait_for_the_next_advert() -> None:
    group, at = master()
    assert adverts(group.handle(heard(advskew=1), at + 0.1)) == [Advertise(advbase=1, advskew=0, demotion=0)]
    assert adverts(group.handle(heard(advskew=1), at + 0.2)) == []  # but no storm


def test_a_master_ignores_a_goodbye_which_is_the_longest_interval_of_all() -> None:
    group, at = master(advbase=254, advskew=254, lease=1000.0)
    assert group.handle(goodbye(), at) == ()
    assert group.role is Role.MASTER


# As backup -----------------------------------------------------------------------------------------------------------


def test_preempt_is_off_by_default_as_with_all() -> None:
    assert GroupConfig(name="web", vhid=1, source=OWN).preempt is False
    assert at_once(backup(), 1.0, heard(advskew=255)) is None


def test_with_preempt_a_backup_of_a_shorter_interval_becomes_master_at_once() -> None:
    assert at_once(backup(preempt=True, advskew=10), 1.0, heard(advskew=11)) is Reason.PREEMPT


@pytest.mark.parametrize("theirs", [0, 9, 10])
def test_with_preempt_it_leaves_a_shorter_or_equal_one_alone(theirs: int) -> None:
    group = backup(preempt=True, advskew=10)
    assert in_turn(group, 1.0, heard(advskew=theirs)) is None
    assert group.deadline() == pytest.approx(1.0 + group.master_down)


def test_a_preemption_has_no_skew_delay() -> None:
    for advskew in (0, 100, 253):
        assert at_once(backup(preempt=True, advskew=advskew), 1.0, heard(advskew=254)) is Reason.PREEMPT


def test_who_is_more_demoted_than_the_master_does_not_preempt_it_as_with_openbsd() -> None:
    assert at_once(backup(preempt=True, demotion=1), 1.0, heard(advskew=100)) is None
    assert at_once(backup(preempt=True, demotion=1), 1.0, heard(advskew=100, demotion=1)) is Reason.PREEMPT


@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize("advskew", [0, 100, 254])
def test_a_master_that_is_more_demoted_is_replaced_regardless_of_preempt(preempt: bool, advskew: int) -> None:
    """OpenBSD's backups all stand up at once; ours one after the other, by their skew, within 1/16 s."""
    group = backup(preempt=preempt, advskew=advskew)
    assert in_turn(group, 1.0, heard(demotion=1)) is Reason.DEMOTED_MASTER
    assert 254 * STAGGER < 1 / 16


@pytest.mark.parametrize(("own", "theirs"), [(1, 1), (2, 1), (1, 0)])
def test_one_that_is_not_more_demoted_is_not(own: int, theirs: int) -> None:
    assert in_turn(backup(demotion=own), 1.0, heard(demotion=theirs)) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, {"advbase": 3, "advskew": 1}),
        ({"advskew": 100}, {"advbase": 3, "advskew": 101}),
        ({"dead_ratio": 5}, {"advbase": 5, "advskew": 1}),
        ({"advbase": 2, "advskew": 200}, {"advbase": 6, "advskew": 201}),
        ({}, {"advbase": 255, "advskew": 0}),
    ],
)
def test_a_master_slower_than_our_timer_is_replaced_at_once_and_preempt_is_not_needed(
    settings: dict[str, int], said: dict[str, int]
) -> None:
    """3 x advbase (with ucarp, dead ratio x advbase) + our skew/256 < ch."""
    assert at_once(backup(**settings), 0.5, heard(**said)) is Reason.SLOWER_MASTER
    assert at_once(backup(**settings), 0.5, heard(**{**said, "advskew": max(0, said["advskew"] - 1)})) is (
        Reason.SLOWER_MASTER if said["advbase"] == 255 else None
    )


def test_but_not_where_our_advbase_is_0_as_with_openbsd() -> None:
    assert at_once(backup(advbase=0, advskew=1), 0.001, heard(advbase=255)) is None


def test_nor_where_we_are_the_more_demoted_ones_since_that_master_would_take_it_back() -> None:
    """OpenBSD takes over here, and loses it to the next advert of the slow but sound one."""
    slow = heard(advbase=4)
    assert OpenBSD(config(), demotion=1).overtakes(slow)
    assert OpenBSD(config(advbase=4)).yields_to(heard(demotion=1)) is False
    assert at_once(backup(demotion=1), 0.5, slow) is None


def test_every_other_advert_restarts_the_timer() -> None:
    group = backup(advskew=10)
    for n, said in enumerate([heard(), heard(advskew=255), heard(advskew=10), heard(advbase=3)]):
        assert group.handle(said, float(n)) == ()
        assert group.deadline() == pytest.approx(n + group.master_down)


@given(own=st.tuples(BASE, st.integers(0, 254)), said=NOT_GOODBYE, preempt=st.booleans())
def test_an_undemoted_backup_takes_over_exactly_where_openbsd_does(
    own: tuple[int, int], said: dict[str, int], preempt: bool
) -> None:
    """Up to the turn that it waits for where the master is demoted."""
    settings = config(advbase=own[0], advskew=own[1], preempt=preempt)
    group = Group(settings)
    group.handle(events.Start(link_up=True), 0.0)
    assert (in_turn(group, 1.0, heard(**said)) is not None) is OpenBSD(settings).overtakes(heard(**said))


@given(own=st.tuples(BASE, st.integers(0, 254)), theirs=st.tuples(BASE, SKEW), preempt=st.booleans())
def test_a_backup_takes_over_from_who_sends_no_demotion_exactly_where_freebsd_netbsd_and_ucarp_do(
    own: tuple[int, int], theirs: tuple[int, int], preempt: bool
) -> None:
    settings = config(advbase=own[0], advskew=own[1], preempt=preempt)
    said = heard(advbase=theirs[0], advskew=theirs[1])
    group = Group(settings)
    group.handle(events.Start(link_up=True), 0.0)
    ours = in_turn(group, 1.0, said) is not None
    for kind in (NetBSD, Ucarp, FreeBSD):
        if kind is not FreeBSD or own[1] <= 240:  # FreeBSD advertises no more than 240
            assert kind(settings).overtakes(said) is ours


@given(dead_ratio=st.integers(1, 9), own=st.integers(0, 254), theirs=st.tuples(BASE, SKEW))
def test_ucarps_dead_ratio_counts_in_that_comparison(dead_ratio: int, own: int, theirs: tuple[int, int]) -> None:
    settings = config(dead_ratio=dead_ratio, advskew=own)
    said = heard(advbase=theirs[0], advskew=theirs[1])
    group = Group(settings)
    group.handle(events.Start(link_up=True), 0.0)
    assert (at_once(group, 0.1, said) is not None) is Ucarp(settings).overtakes(said)


def test_0_and_0_rank_before_0_and_1_although_both_send_256_times_a_second() -> None:
    """The values themselves are compared, not how often that makes one send."""
    assert timeval(0, 0) < timeval(0, 1)
    group, at = master(advbase=0, advskew=1)
    assert yielded(group.handle(heard(advbase=0, advskew=0, source=IPv4Address("10.0.0.254")), at)) is not None
    first, at = master(advbase=0, advskew=0)
    assert yielded(first.handle(heard(advbase=0, advskew=1, source=IPv4Address("10.0.0.1")), at)) is None
    waiting = backup(advbase=0, advskew=0, preempt=True)
    assert at_once(waiting, 0.001, heard(advbase=0, advskew=1)) is Reason.PREEMPT


# The way up ----------------------------------------------------------------------------------------------------------


def test_a_new_master_advertises_at_once() -> None:
    group = backup()
    done = group.handle(TICK, 3.0)
    assert [type(effect) for effect in done] == [Advertise, Bind, RoleChanged]


def test_a_third_node_leaves_a_rival_of_the_master_that_it_follows_to_that_master() -> None:
    """The BSDs and ucarp compare each advert by itself, and so join in."""
    group = backup(preempt=True, advskew=10)
    group.handle(heard(source=OTHER), 1.0)
    rival = heard(advskew=200)
    assert group.handle(rival, 1.1) == ()
    assert OpenBSD(group.config).overtakes(rival)


def test_an_advert_to_init_changes_nothing() -> None:
    group = Group(config())
    for said in (heard(), heard(advskew=255), goodbye(), heard(demotion=9)):
        assert group.handle(said, 1.0) == ()
    assert group.role is Role.INIT


def test_ipv6_sources_are_compared_as_numbers_sealed_or_not() -> None:
    """ucarp has no IPv6, so its order means nothing there."""
    for sealed, (own, peer) in product((False, True), (("fe80::2", "fe80::1:0"), ("fe80::9", "fe80::a"))):
        group, at = master(source=IPv6Address(own))
        assert yielded(group.handle(heard(source=IPv6Address(peer), sealed=sealed), at)) is None
        group, at = master(source=IPv6Address(peer))
        assert yielded(group.handle(heard(source=IPv6Address(own), sealed=sealed), at)) is not None


def test_a_renewed_lease_goes_with_the_answer_to_a_rival() -> None:
    group, at = master()
    assert Renew() in group.handle(heard(advskew=1), at + 0.5)
    assert group.handle(LEASED, at + 0.5) == ()
