"""The state machine: every rule of election, hand-over, lease and lateness, with ``now`` as a plain number."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from sidecar.protocol import events
from sidecar.protocol.demotion import ASIDE, HARD
from sidecar.protocol.effects import (
    Advertise,
    AdvertiseTo,
    Announce,
    Bind,
    Effect,
    Finished,
    HeldBack,
    Release,
    Renew,
    RoleChanged,
)
from sidecar.protocol.machine import LEASE_RETRY, LONGEST_STAGGER, STRANGER_LETS_GO_WITHIN, Group
from sidecar.protocol.mastership import ANNOUNCE_COUNT, ANNOUNCE_SPACING
from sidecar.protocol.types import GroupConfig, IPAddress, Reason, Role

OWN = IPv4Address("10.0.0.5")
PEER = IPv4Address("10.0.0.9")
BASE = GroupConfig(name="web", vhid=1, source=OWN)
TICK = events.Tick()
LEASED = events.LeaseAnswered(error=None)
RELEASED = events.LeaseReleased()
BOW_OUT = Advertise(advbase=255, advskew=255, demotion=0)
LET_GO = Advertise(advbase=255, advskew=253, demotion=0)
OFFER = Advertise(advbase=255, advskew=254, demotion=0)


def advert(
    *, advbase: int = 1, advskew: int = 0, demotion: int = 0, source: IPAddress = PEER, sealed: bool = False
) -> events.AdvertReceived:
    return events.AdvertReceived(source=source, advbase=advbase, advskew=advskew, demotion=demotion, sealed=sealed)


def goodbye(*, advskew: int = 255, source: IPAddress = PEER) -> events.AdvertReceived:
    """254: he answers on until somebody has stood up."""
    return advert(advbase=255, advskew=advskew, source=source, sealed=True)


def let_go(*, source: IPAddress = PEER) -> events.AdvertReceived:
    return advert(advbase=255, advskew=253, source=source, sealed=True)


def started(config: GroupConfig = BASE, *, at: float = 0.0) -> Group:
    group = Group(config)
    group.handle(events.Start(link_up=True), at)
    return group


def master(config: GroupConfig = BASE, *, leased: bool = True) -> tuple[Group, float]:
    """A group that took over and whose lease stands; returns it with the time of its last advert."""
    group = started(config)
    at = group.deadline()
    assert at is not None
    group.handle(TICK, at)
    if leased:
        group.handle(LEASED, at)
    assert group.role is Role.MASTER
    return group, at


def changes(done: tuple[Effect, ...]) -> list[tuple[Role, Reason]]:
    return [(effect.after, effect.reason) for effect in done if isinstance(effect, RoleChanged)]


def kinds(done: tuple[Effect, ...]) -> list[type]:
    return [type(effect) for effect in done]


# Other settings ------------------------------------------------------------------------------------------------------


def test_a_master_goes_on_with_other_settings_and_tells_at_once() -> None:
    group, at = master()
    at += 0.4
    assert group.handle(events.Reconfigured(replace(BASE, advskew=64)), at) == (
        Advertise(advbase=1, advskew=64, demotion=0),
        Bind(),
    )
    assert group.role is Role.MASTER
    assert kinds(group.handle(LEASED, at)) == [Announce]
    assert group.deadline() == pytest.approx(at + ANNOUNCE_SPACING)
    assert kinds(group.handle(TICK, at + ANNOUNCE_SPACING)) == [Announce]
    assert kinds(group.handle(TICK, at + 1.25)) == [Advertise, Renew]
    assert group.handle(RELEASED, at + 1.25) == ()


def test_a_backup_waits_anew_as_its_new_settings_have_it() -> None:
    group = started()
    group.handle(advert(), 1.0)
    assert group.handle(events.Reconfigured(replace(BASE, advbase=2)), 2.0) == ()
    assert (group.role, group.master, group.deadline()) == (Role.BACKUP, PEER, 8.0)


def test_a_backup_that_is_to_stand_up_does_so_when_its_turn_comes_whatever_is_changed() -> None:
    group = started(replace(BASE, advskew=64))
    group.handle(advert(), 1.0)
    group.handle(advert(advbase=255, advskew=255), 2.0)
    due = group.deadline()
    assert group.handle(events.Reconfigured(BASE), 2.0) == ()
    assert group.deadline() == due


def test_a_start_up_delay_that_runs_is_not_begun_anew() -> None:
    slow = replace(BASE, startup_delay=10.0)
    group = started(slow)
    assert group.handle(events.Reconfigured(slow), 5.0) == ()
    assert group.deadline() == 10.0


def test_a_group_without_a_link_takes_other_settings_for_later() -> None:
    group = Group(BASE)
    group.handle(events.Start(link_up=False), 0.0)
    assert group.handle(events.Reconfigured(replace(BASE, advbase=2)), 1.0) == ()
    assert group.deadline() is None
    group.handle(events.LinkChanged(up=True), 2.0)
    assert group.deadline() == 8.0


def test_a_master_that_ignored_the_link_announces_when_it_is_back() -> None:
    group, at = master()
    assert group.handle(events.LinkChanged(up=True), at + 0.5) == (Announce(),)
    assert Announce() in group.handle(TICK, at + 0.5 + ANNOUNCE_SPACING)
    assert master(leased=False)[0].handle(events.LinkChanged(up=True), 3.1) == ()
    assert started().handle(events.LinkChanged(up=True), 1.0) == ()


# A VIP that a stranger has -------------------------------------------------------------------------------------------


def occupied(seconds: float = 2.5) -> events.Occupied:
    return events.Occupied(by="10.0.0.200 is at 02:00:00:00:00:99", seconds=seconds)


def test_a_node_that_starts_waits_until_no_stranger_answers_any_more() -> None:
    group = started()
    assert group.handle(occupied(), 1.0) == ()
    (held,) = group.handle(TICK, 3.0)
    assert held == HeldBack("10.0.0.200 is at 02:00:00:00:00:99, but nobody who has it is heard to be master")
    assert (group.role, group.held_back, group.deadline()) == (Role.BACKUP, held.detail, 3.5)
    assert group.handle(occupied(), 3.2) == ()
    assert group.handle(TICK, 3.5) == ()
    assert group.deadline() == pytest.approx(5.7)
    assert changes(group.handle(TICK, 5.7)) == [(Role.MASTER, Reason.MASTER_DOWN)]
    assert group.held_back is None


def test_a_stranger_who_fell_silent_in_time_delays_nothing() -> None:
    group = started()
    group.handle(occupied(), 0.4)
    assert changes(group.handle(TICK, 3.0)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_who_has_heard_a_member_is_held_back_by_no_stranger() -> None:
    group = started()
    group.handle(occupied(), 2.9)
    group.handle(TICK, 3.0)
    group.handle(advert(), 3.1)
    assert (group.held_back, group.unproven) == (None, False)
    group.handle(occupied(), 6.0)
    assert changes(group.handle(TICK, 6.1)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_who_has_held_the_vip_is_held_back_by_no_stranger() -> None:
    group, at = master()
    group.handle(events.LinkChanged(up=False), at)
    group.handle(events.LinkChanged(up=True), at)
    group.handle(occupied(), at + 2.9)
    assert changes(group.handle(TICK, at + 3.0)) == [(Role.MASTER, Reason.MASTER_DOWN)]


# A VIP that others take away -----------------------------------------------------------------------------------------


def test_a_vip_that_was_taken_away_is_put_back_with_an_advert_and_announced_as_after_a_takeover() -> None:
    group, at = master()
    for _ in range(3):
        at += 1.0
        group.handle(TICK, at)
        group.handle(LEASED, at)
    at += 0.4
    assert kinds(group.handle(events.LeaseDisturbed(), at)) == [Advertise, Bind]
    assert group.handle(events.LeaseDisturbed(), at) == ()  # it is being put back
    assert kinds(group.handle(LEASED, at)) == [Announce]
    announced = []
    while at < 12.0:
        at = group.deadline() or 0.0
        announced += [at for effect in group.handle(TICK, at) if effect == Announce()]
        group.handle(LEASED, at)
    assert announced == pytest.approx([6.4 + ANNOUNCE_SPACING * number for number in range(1, ANNOUNCE_COUNT)])


def test_a_vip_that_cannot_be_put_back_ends_the_mastership() -> None:
    group, at = master()
    group.handle(events.LeaseDisturbed(), at + 0.5)
    assert group.deadline() == at + 1.5
    group.handle(TICK, at + 1.5)
    done = group.handle(TICK, at + 2.5)
    assert changes(done) == [(Role.BACKUP, Reason.LEASE_UNANSWERED)]


def test_each_release_is_waited_for_before_an_answer_counts() -> None:
    group, at = master()
    for number in range(1, 3):
        group.handle(events.LinkChanged(up=False), at + 3 * number)
        group.handle(events.LinkChanged(up=True), at + 3 * number)
        group.handle(TICK, at + 3 * number + 3)
    assert group.role is Role.MASTER
    group.handle(RELEASED, at + 9)
    assert group.handle(LEASED, at + 9) == ()  # of the mastership before
    group.handle(RELEASED, at + 9)
    assert group.handle(LEASED, at + 9) == (Announce(),)


def test_nobody_but_a_master_with_a_lease_puts_anything_back() -> None:
    assert started().handle(events.LeaseDisturbed(), 1.0) == ()
    assert master(leased=False)[0].handle(events.LeaseDisturbed(), 3.1) == ()


# Start ---------------------------------------------------------------------------------------------------------------


def test_a_group_starts_as_backup_with_a_full_master_down_timer() -> None:
    group = Group(replace(BASE, advskew=64))
    assert group.role is Role.INIT
    assert group.deadline() is None
    done = group.handle(events.Start(link_up=True), 10.0)
    assert changes(done) == [(Role.BACKUP, Reason.START)]
    assert group.deadline() == 10.0 + 3.25


def test_without_a_link_it_stays_init_until_the_link_comes() -> None:
    group = Group(BASE)
    assert group.handle(events.Start(link_up=False), 0.0) == ()
    assert group.handle(advert(), 1.0) == ()
    assert group.master is None
    assert group.handle(TICK, 1.0) == ()
    assert group.handle(events.LinkChanged(up=False), 1.0) == ()
    assert changes(group.handle(events.LinkChanged(up=True), 2.0)) == [(Role.BACKUP, Reason.LINK_UP)]
    assert group.deadline() == 5.0


def test_a_standing_lease_is_resumed_as_master_at_once() -> None:
    group = Group(BASE)
    done = group.handle(events.Start(link_up=True, resume=True), 0.0)
    assert kinds(done) == [Advertise, Bind, RoleChanged]
    assert changes(done) == [(Role.MASTER, Reason.RESUMED)]


def test_who_has_resumed_yields_and_stands_up_again_as_any_other() -> None:
    group = Group(replace(BASE, preempt=True, advskew=10))
    group.handle(events.Start(link_up=True, resume=True), 0.0)
    group.handle(LEASED, 0.0)
    group.handle(advert(advskew=9), 0.5)
    assert (group.role, group.deadline()) == (Role.BACKUP, 0.5 + group.master_down)
    assert changes(group.handle(advert(advskew=11), 1.5)) == [(Role.MASTER, Reason.PREEMPT)]


# Takeover ------------------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_timer() -> None:
    group = started()
    assert group.handle(TICK, 2.999) == ()
    assert group.role is Role.BACKUP


def test_takeover_advertises_then_binds_and_announces_only_after_the_bind() -> None:
    group = started()
    done = group.handle(TICK, 3.0)
    assert kinds(done) == [Advertise, Bind, RoleChanged]
    assert changes(done) == [(Role.MASTER, Reason.MASTER_DOWN)]
    assert group.master == OWN
    assert group.handle(LEASED, 3.01) == (Announce(),)
    assert group.handle(LEASED, 4.0) == ()


def test_the_reason_names_the_silent_master() -> None:
    group = started()
    group.handle(advert(), 1.0)
    done = group.handle(TICK, 4.0)
    assert [e.detail for e in done if isinstance(e, RoleChanged)] == ["no advert from 10.0.0.9 for 3.000 s"]


def test_each_advert_restarts_the_timer_and_names_the_master() -> None:
    group = started()
    assert group.handle(advert(), 2.5) == ()
    assert group.deadline() == 5.5
    assert group.master == PEER


def test_adverts_leave_every_interval_and_each_renews_the_lease() -> None:
    group, at = master()
    for number in range(1, 4):
        while group.deadline() != at + number:  # the announcements in between
            group.handle(TICK, group.deadline() or 0.0)
        assert group.handle(TICK, at + number)[:2] == (Advertise(advbase=1, advskew=0, demotion=0), Renew())
        group.handle(LEASED, at + number)
        assert group.handle(TICK, at + number + 0.01) == ()


def test_fast_adverts_do_not_all_renew() -> None:
    group, at = master(replace(BASE, advbase=0, advskew=1, lease=1.0))
    done: list[Effect] = []
    now = at
    while now < at + 1:
        now = group.deadline() or 0.0
        done += group.handle(TICK, now)
        group.handle(LEASED, now)
    assert sum(isinstance(effect, Advertise) for effect in done) == 256
    assert sum(isinstance(effect, Renew) for effect in done) == 8


def test_announcements_are_repeated_at_their_spacing_and_end() -> None:
    group, at = master(replace(BASE, advbase=50, lease=149.0))  # adverts far away
    seen = []
    for _ in range(ANNOUNCE_COUNT - 1):
        now = group.deadline()
        assert now is not None
        assert group.handle(TICK, now) == (Announce(),)
        seen.append(now - at)
    assert seen == pytest.approx([ANNOUNCE_SPACING * n for n in range(1, ANNOUNCE_COUNT)])
    assert group.deadline() == at + 50


@pytest.mark.parametrize(
    ("config", "heard", "reason"),
    [
        (replace(BASE, preempt=True, advskew=10), advert(advskew=11), Reason.PREEMPT),
        (BASE, advert(advbase=4), Reason.SLOWER_MASTER),
        (replace(BASE, advbase=0, advskew=9, preempt=True), advert(advbase=0, advskew=10), Reason.PREEMPT),
        (replace(BASE, advbase=0, preempt=True), advert(advbase=0, advskew=2), Reason.PREEMPT),
    ],
)
def test_a_backup_takes_over_at_once(config: GroupConfig, heard: events.AdvertReceived, reason: Reason) -> None:
    group = started(config)
    assert changes(group.handle(heard, 0.001)) == [(Role.MASTER, reason)]


@pytest.mark.parametrize(
    ("config", "heard"),
    [
        (replace(BASE, advskew=10), advert(advskew=11)),  # better, but preempt is off
        (replace(BASE, preempt=True, advskew=10), advert(advskew=10)),  # equal is not better
        (replace(BASE, preempt=True, advskew=10), advert(advskew=9)),
        (BASE, advert(advbase=3)),  # as slow as our timer, not slower
        (replace(BASE, advbase=0, advskew=1), advert(advbase=5)),  # OpenBSD: not where advbase is 0
        (replace(BASE, advbase=0), advert(advbase=0)),  # 0/0 is 1/256 s on both sides
        (replace(BASE, advbase=0), advert(advbase=0, advskew=1)),
    ],
)
def test_a_backup_stays_backup(config: GroupConfig, heard: events.AdvertReceived) -> None:
    group = started(config)
    assert group.handle(heard, 0.001) == ()
    assert group.role is Role.BACKUP


def test_preemption_respects_that_the_own_node_is_more_demoted() -> None:
    group = started(replace(BASE, preempt=True))
    group.handle(events.Demote(name="maintenance", weight=1, detail="test"), 0.0)
    assert group.handle(advert(advskew=100), 0.5) == ()


@pytest.mark.parametrize("rival", [advert(advskew=200, source=IPv4Address("10.0.0.7")), advert(advbase=9)])
def test_a_backup_leaves_the_rival_of_the_master_that_it_follows_to_that_master(rival: events.AdvertReceived) -> None:
    group = started(replace(BASE, preempt=True, advskew=10))
    followed = IPv4Address("10.0.0.1")
    group.handle(advert(source=followed), 1.0)
    assert group.handle(rival, 1.002) == ()
    assert (group.role, group.master) == (Role.BACKUP, followed)
    assert group.deadline() == pytest.approx(1.0 + group.master_down)
    # An interval without a word from the one it follows, and the rival counts again.
    assert changes(group.handle(rival, 1.0 + group.interval))[0][0] is Role.MASTER


def test_backups_of_a_demoted_master_stand_up_in_the_order_of_their_skew() -> None:
    first, second = started(), started(replace(BASE, advskew=100))
    for group in (first, second):
        group.handle(advert(), 1.0)
        assert group.handle(advert(demotion=1, advskew=1), 1.002) == ()
    assert first.deadline() == 1.002
    assert second.deadline() == pytest.approx(1.002 + 100 / 4096)
    assert changes(first.handle(TICK, 1.002)) == [(Role.MASTER, Reason.DEMOTED_MASTER)]
    assert second.handle(advert(source=OWN), 1.003) == ()
    assert second.deadline() == pytest.approx(1.003 + second.master_down)


def test_a_demoted_master_that_recovers_in_time_is_followed_on() -> None:
    group = started(replace(BASE, advskew=100))
    group.handle(advert(demotion=1), 1.0)
    group.handle(advert(), 1.001)
    assert group.deadline() == pytest.approx(1.001 + group.master_down)


def test_the_rival_of_a_master_makes_no_backup_stand_up_by_being_demoted() -> None:
    group = started()
    followed = IPv4Address("10.0.0.1")
    group.handle(advert(source=followed), 1.0)
    group.handle(advert(demotion=1), 1.002)
    assert group.deadline() == pytest.approx(1.0 + group.master_down)


# Bow-out -------------------------------------------------------------------------------------------------------------


def test_after_a_bow_out_backups_stand_up_in_the_order_of_their_skew() -> None:
    first, second = started(), started(replace(BASE, advskew=100))
    goodbye = advert(advbase=255, advskew=255)
    for group in (first, second):
        assert group.handle(goodbye, 1.0) == ()
    assert first.deadline() == 1.0
    assert second.deadline() == pytest.approx(1.0 + 100 / 4096)
    assert changes(first.handle(TICK, 1.0)) == [(Role.MASTER, Reason.BOW_OUT)]
    assert second.handle(advert(), 1.001) == ()
    assert second.deadline() == pytest.approx(1.001 + 3 + 100 / 256)


def test_a_bow_out_never_makes_a_backup_wait_longer() -> None:
    group = started(replace(BASE, advskew=254))
    group.handle(advert(advbase=255, advskew=255), 3.98)
    assert group.deadline() == pytest.approx(3 + 254 / 256)


def test_a_bow_out_that_was_overtaken_by_the_successors_advert_changes_nothing() -> None:
    group = started(replace(BASE, advskew=100))
    group.handle(advert(source=IPv4Address("10.0.0.1")), 1.0)
    assert group.handle(advert(advbase=255, advskew=255), 1.001) == ()
    assert group.deadline() == pytest.approx(1.0 + group.master_down)
    assert group.master == IPv4Address("10.0.0.1")


def test_a_master_announces_when_another_has_let_go_and_no_more_than_once_in_an_interval() -> None:
    """Clients may have learnt the way to one that it never heard."""
    group, at = master()
    assert group.handle(let_go(), at + 0.1) == (Announce(),)
    assert group.handle(let_go(), at + 0.2) == ()
    assert group.deadline() == at + 1.0
    assert kinds(group.handle(TICK, at + 0.1 + ANNOUNCE_SPACING)) == [Advertise, Renew, Announce]


def test_before_its_own_lease_stands_it_does_not() -> None:
    group, at = master(leased=False)
    assert group.handle(let_go(), at + 0.1) == ()


def test_a_master_leaves_it_to_others_to_follow_one_that_says_goodbye() -> None:
    group, at = master()
    assert group.handle(goodbye(advskew=254), at + 0.1) == ()
    assert group.handle(goodbye(), at + 0.1) == ()


def test_a_backup_that_has_yielded_itself_does_not_care_who_lets_go() -> None:
    group = started()
    group.handle(advert(sealed=True), 1.0)
    due = group.deadline()
    assert group.handle(let_go(), 1.1) == ()
    assert (group.role, group.deadline()) == (Role.BACKUP, due)


def test_a_planned_stop_releases_first_and_says_goodbye_only_then() -> None:
    group, at = master()
    done = group.handle(events.Stop(), at + 0.5)
    assert kinds(done) == [Release, RoleChanged]
    assert changes(done) == [(Role.INIT, Reason.STOP)]
    assert group.handle(advert(), at + 0.5) == ()
    assert group.handle(TICK, at + 0.5) == ()
    assert group.handle(RELEASED, at + 0.5) == (BOW_OUT, Finished())
    assert group.handle(RELEASED, at + 0.5) == ()
    assert group.deadline() is None


def test_a_stranger_that_does_not_hear_us_gets_no_unicast() -> None:
    group, at = master()
    for second in (0.5, 2.5, 4.5):
        done = group.handle(advert(advskew=9), at + second)
        group.handle(LEASED, at + second)
        assert Advertise(advbase=1, advskew=0, demotion=0) in done
        done += group.handle(TICK, at + second + 1.0)
        group.handle(LEASED, at + second + 1.0)
        assert AdvertiseTo not in kinds(done)


def test_a_stop_that_keeps_the_vips_is_an_advert_a_renewal_and_no_word_more() -> None:
    group, at = master()
    done = group.handle(events.Stop(keep=True), at + 0.5)
    assert done == (Advertise(advbase=1, advskew=0, demotion=0), Renew(), Finished())
    assert (group.role, group.deadline()) == (Role.MASTER, None)
    assert group.handle(LEASED, at + 0.5) == ()
    assert group.handle(TICK, at + 100.0) == ()


def test_there_is_nothing_to_keep_where_nothing_is_leased_yet() -> None:
    group, at = master(leased=False)
    assert kinds(group.handle(events.Stop(keep=True), at + 0.1)) == [Release, RoleChanged]
    assert kinds(started().handle(events.Stop(keep=True), 0.1)) == [RoleChanged, Finished]


def test_a_stop_waits_for_the_last_of_several_releases() -> None:
    group, at = master()
    group.handle(advert(advskew=0, source=IPv4Address("10.0.0.1")), at + 0.1)  # yields
    assert group.role is Role.BACKUP
    # and takes over again before the release was answered
    group.handle(advert(demotion=9, source=IPv4Address("10.0.0.1")), at + 0.2)
    group.handle(TICK, at + 0.2)
    group.handle(events.Stop(), at + 0.3)
    assert group.handle(RELEASED, at + 0.3) == ()
    assert group.handle(RELEASED, at + 0.3) == (BOW_OUT, Finished())


def test_a_backup_that_is_still_letting_go_stops_once_that_is_done_and_says_so_to_an_heir_that_waits() -> None:
    group, at = master()
    group.handle(advert(advskew=0, source=IPv4Address("10.0.0.1")), at + 0.1)  # yields
    assert Finished() not in group.handle(events.Stop(), at + 0.1)
    assert group.handle(RELEASED, at + 0.2) == (BOW_OUT, Finished())


def test_a_lease_that_was_confirmed_late_is_renewed_at_once() -> None:
    group, at = master(leased=False)
    group.handle(advert(advskew=9), at + 1.9)  # the answer to a rival, while Bind is unanswered
    done = group.handle(LEASED, at + 1.9)
    assert kinds(done) == [Advertise, Renew, Announce]


def test_a_backup_stops_without_a_word() -> None:
    group = started()
    done = group.handle(events.Stop(), 0.1)
    assert kinds(done) == [RoleChanged, Finished]


def test_an_idle_group_stops_without_a_word() -> None:
    group = Group(BASE)
    assert group.handle(events.Stop(), 0.1) == (Finished(),)


# Rivals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heard",
    [
        advert(advskew=9, sealed=True),
        advert(advskew=200, demotion=-1, sealed=True),  # less demoted counts more than the skew
        advert(advskew=10, source=IPv4Address("10.0.0.4"), sealed=True),  # equal: the lower address stays
    ],
)
def test_a_master_yields_to_a_better_one_and_releases_first(heard: events.AdvertReceived) -> None:
    group, at = master(replace(BASE, advskew=10))
    done = group.handle(heard, at + 0.2)
    assert kinds(done) == [Release, RoleChanged]
    assert changes(done) == [(Role.BACKUP, Reason.BETTER_MASTER)]
    assert group.deadline() == pytest.approx(at + 0.2 + group.master_down)
    assert group.master == heard.source


def test_who_yields_tells_the_winner_once_it_has_let_go() -> None:
    """He may not know that clients have learnt another way, and may wait with his bind."""
    group, at = master(replace(BASE, advskew=10))
    group.handle(advert(advskew=9, sealed=True), at + 0.2)
    assert group.handle(RELEASED, at + 0.3) == (AdvertiseTo(LET_GO, PEER),)
    assert group.handle(RELEASED, at + 0.4) == ()


def test_others_that_stood_up_together_with_the_winner_are_told_too() -> None:
    """Which of them stays is theirs to decide; the last may be heard when all is released."""
    second, third, stranger = (IPv4Address(f"10.0.0.{number}") for number in (11, 12, 13))
    group, at = master(replace(BASE, advskew=10))
    group.handle(advert(sealed=True), at + 0.2)
    assert group.handle(advert(sealed=True, source=second), at + 0.201) == ()
    assert group.handle(advert(sealed=True), at + 0.202) == ()
    assert group.handle(RELEASED, at + 0.3) == (AdvertiseTo(LET_GO, PEER), AdvertiseTo(LET_GO, second))
    assert group.handle(advert(source=stranger), at + 0.31) == ()
    assert group.handle(advert(sealed=True, source=third), at + 0.32) == (AdvertiseTo(LET_GO, third),)
    assert group.handle(advert(sealed=True, source=stranger), at + 0.2 + group.master_down) == ()


def test_each_is_told_once_more_at_its_next_regular_advert_since_the_word_may_be_lost() -> None:
    late = IPv4Address("10.0.0.11")
    group, at = master(replace(BASE, advskew=10))
    group.handle(advert(sealed=True), at + 0.2)
    assert group.handle(RELEASED, at + 0.3) == (AdvertiseTo(LET_GO, PEER),)
    assert group.handle(advert(sealed=True), at + 0.31) == ()  # with its bind
    assert group.handle(advert(sealed=True, source=late), at + 1.0) == (AdvertiseTo(LET_GO, late),)
    assert group.handle(advert(sealed=True), at + 1.2) == (AdvertiseTo(LET_GO, PEER),)
    assert group.handle(advert(sealed=True, source=late), at + 2.0) == (AdvertiseTo(LET_GO, late),)
    assert group.handle(advert(sealed=True), at + 2.2) == ()
    assert group.handle(advert(sealed=True, source=late), at + 3.0) == ()


def test_but_eight_at_most() -> None:
    group, at = master(replace(BASE, advskew=10))
    for number in range(20, 29):
        group.handle(advert(sealed=True, source=IPv4Address(f"10.0.0.{number}")), at + 0.2)
    assert len(group.handle(RELEASED, at + 0.3)) == 8


@pytest.mark.parametrize("then", [events.LinkChanged(up=False), advert(advbase=255, advskew=255)])
def test_but_not_where_it_is_something_else_by_then(then: events.Event) -> None:
    group, at = master(replace(BASE, advskew=0))
    group.handle(advert(demotion=-1, sealed=True), at + 0.2)
    group.handle(then, at + 0.3)
    group.handle(TICK, at + 0.3)
    assert AdvertiseTo not in kinds(group.handle(RELEASED, at + 0.4))


def test_who_yields_before_its_lease_stands_tells_too() -> None:
    """Its kernel may hold the VIPs already, or still those of the settings before."""
    group, at = master(replace(BASE, advskew=10), leased=False)
    assert kinds(group.handle(advert(advskew=9, sealed=True), at)) == [Release, RoleChanged]
    assert kinds(group.handle(RELEASED, at)) == [AdvertiseTo]


# Taking over from a master that is alive -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "heard"),
    [
        (replace(BASE, preempt=True), advert(advskew=10, sealed=True)),
        (BASE, advert(advbase=9, sealed=True)),
        (BASE, advert(demotion=1, sealed=True)),
    ],
    ids=["preempt", "slower", "demoted"],
)
def test_who_replaces_a_living_master_binds_once_he_has_let_go(
    config: GroupConfig, heard: events.AdvertReceived
) -> None:
    group = started(config)
    done = (*group.handle(heard, 2.0), *group.handle(TICK, 2.0))
    assert kinds(done) == [Advertise, RoleChanged]
    done = group.handle(let_go(), 2.1)
    assert kinds(done) == [Advertise, Bind]
    assert group.deadline() == pytest.approx(3.1)


@pytest.mark.parametrize("advbase", [1, 4])
def test_or_when_the_lease_of_one_who_says_nothing_is_over_for_certain(advbase: int) -> None:
    """His word may be lost, he may have died, or be stuck: what he holds ends before his peers' patience."""
    group = started(replace(BASE, preempt=True, advbase=advbase))
    assert kinds(group.handle(advert(advbase=advbase, advskew=10, sealed=True), 2.0)) == [Advertise, RoleChanged]
    at = 2.0
    while at + group.interval < 2.0 + group.master_down:
        at += group.interval
        assert kinds(group.handle(TICK, at)) == [Advertise]
    assert group.deadline() == pytest.approx(2.0 + group.master_down)
    assert Bind in kinds(group.handle(TICK, 2.0 + group.master_down))
    assert kinds(group.handle(LEASED, 2.0 + group.master_down)) == [Announce]


@pytest.mark.parametrize(("advbase", "advskew", "wait"), [(1, 0, STRANGER_LETS_GO_WITHIN), (0, 4, 4 / 256 / 2)])
def test_a_stranger_says_nothing_and_has_a_moment_half_an_interval_at_most(
    advbase: int, advskew: int, wait: float
) -> None:
    group = started(replace(BASE, preempt=True, advbase=advbase, advskew=advskew))
    assert kinds(group.handle(advert(advbase=advbase, advskew=10), 2.0)) == [Advertise, RoleChanged]
    assert group.deadline() == pytest.approx(2.0 + wait)
    assert kinds(group.handle(TICK, 2.0 + wait)) == [Advertise, Bind]


def test_an_advert_is_no_word_that_he_has_let_go() -> None:
    """It may be the one that made us stand up, over the other family, or have crossed ours; he gets an answer."""
    for first, second in ((PEER, PEER6), (PEER6, PEER)):
        group = started(replace(DUAL, preempt=True))
        assert kinds(group.handle(advert(source=first, advskew=10, sealed=True), 2.0)) == [Advertise, RoleChanged]
        done = group.handle(advert(source=second, advskew=10, sealed=True), 2.001)
        assert kinds(done) == [Advertise, AdvertiseTo]
        assert group.handle(advert(source=first, advskew=10, sealed=True), 2.002) == ()
        assert group.handle(let_go(source=second), 2.01) == (), "it is not known for one of his"
        assert kinds(group.handle(let_go(source=first), 2.02)) == [Advertise, Bind]


def test_nor_is_the_word_of_anybody_but_him() -> None:
    """Who yielded to another a moment ago tells each new heir that it has nothing; he whom we replace has it all."""
    other = IPv4Address("10.0.0.7")
    for asked_by in (goodbye(advskew=254), advert(advskew=10, sealed=True), advert(demotion=1, sealed=True)):
        group = started(replace(DUAL, preempt=True, advskew=5))
        for source in (PEER, PEER6):
            group.handle(advert(source=source, sealed=True), 2.0)
        group.handle(asked_by, 2.5)
        group.handle(TICK, 2.6)
        assert (group.role, group.master) == (Role.MASTER, OWN)
        assert group.handle(let_go(source=other), 2.61) == ()
        assert group.handle(goodbye(source=other), 2.62) == ()
        assert kinds(group.handle(let_go(source=PEER6), 2.63)) == [Advertise, Bind], "his other address"


def test_a_bow_out_is_such_a_word() -> None:
    """He was asked to stop while he handed over, or while we preempted."""
    group = started(replace(BASE, advskew=100))
    group.handle(advert(sealed=True), 2.0)
    group.handle(goodbye(advskew=254), 2.5)
    due = group.deadline()
    assert group.handle(goodbye(source=IPv4Address("10.0.0.7")), 2.503) == ()
    assert group.handle(goodbye(), 2.504) == ()
    assert group.deadline() == due, "the turn stays"
    done = group.handle(TICK, due or 0.0)
    assert kinds(done) == [Advertise, Bind, RoleChanged]
    assert changes(done) == [(Role.MASTER, Reason.BOW_OUT)]
    group = started(replace(BASE, preempt=True))
    group.handle(advert(advskew=10, sealed=True), 2.0)
    assert group.handle(goodbye(advskew=254), 2.01) == ()
    assert kinds(group.handle(goodbye(), 2.02)) == [Advertise, Bind]
    assert group.handle(goodbye(), 2.03) == ()


def test_who_waits_goes_on_waiting_with_other_settings() -> None:
    group = started(replace(BASE, preempt=True, advbase=4))
    group.handle(advert(advbase=4, advskew=10, sealed=True), 2.0)
    assert kinds(group.handle(events.Reconfigured(replace(BASE, advbase=4, advskew=5)), 2.1)) == [Advertise]
    ends = 2.0 + started(BASE).config.dead_ratio * 4
    for at in (2.1 + group.interval, 2.1 + 2 * group.interval):
        assert kinds(group.handle(TICK, at)) == [Advertise]
    assert group.deadline() == pytest.approx(ends)
    assert kinds(group.handle(TICK, ends)) == [Advertise, Bind]


def test_who_yields_before_it_has_bound_says_nothing() -> None:
    group = started(replace(BASE, preempt=True, advskew=5))
    group.handle(advert(advskew=10, sealed=True), 2.0)
    assert kinds(group.handle(advert(advskew=4, sealed=True, source=IPv4Address("10.0.0.9")), 2.1)) == [
        Release,
        RoleChanged,
    ]
    assert group.handle(RELEASED, 2.1) == ()


def test_a_rival_that_does_not_hear_us_gets_our_adverts_by_unicast() -> None:
    group, at = master()
    to_all = Advertise(advbase=1, advskew=0, demotion=0)
    assert group.handle(advert(advskew=9, sealed=True), at + 0.5)[:2] == (to_all, AdvertiseTo(to_all, PEER))
    assert group.handle(TICK, at + 1.5)[:2] == (to_all, Renew())
    group.handle(LEASED, at + 1.5)
    group.handle(advert(advskew=9, sealed=True), at + 2.5)  # again
    assert group.handle(TICK, at + 3.5)[:3] == (to_all, AdvertiseTo(to_all, PEER), Renew())


@pytest.mark.parametrize(
    "heard",
    [advert(advskew=11), advert(advskew=10), advert(advskew=9, demotion=1), advert(advbase=2)],
)
def test_a_master_answers_a_rival_that_it_outranks_at_once_but_no_storm(heard: events.AdvertReceived) -> None:
    group, at = master(replace(BASE, advskew=10))
    assert kinds(group.handle(heard, at + 0.2)) == [Advertise, Renew, Announce]
    assert group.handle(heard, at + 0.3) == ()
    assert group.role is Role.MASTER


def test_an_answer_to_a_rival_right_after_an_advert_renews_too_since_the_next_advert_is_put_off() -> None:
    config = replace(BASE, advskew=240)
    group, at = master(config)
    assert Renew() in group.handle(advert(advskew=250), at + 0.24)
    assert (group.deadline() or 0.0) <= at + 0.24 + config.lease


def test_a_rival_is_not_answered_with_an_announcement_before_the_lease_stands() -> None:
    group, at = master(leased=False)
    assert kinds(group.handle(advert(advskew=11), at + 0.001)) == [Advertise]
    assert group.handle(LEASED, at + 0.002) == (Announce(),)


def test_after_a_rival_the_announcement_is_repeated_once_he_let_go() -> None:
    group, at = master(replace(BASE, advbase=200, lease=599.0))
    for _ in range(ANNOUNCE_COUNT - 1):
        group.handle(TICK, group.deadline() or 0.0)
    group.handle(advert(advbase=201), at + 100)
    assert group.deadline() == pytest.approx(at + 100 + ANNOUNCE_SPACING)


def test_who_yields_to_an_equal_stranger_stands_up_later_than_he_if_he_yielded_too() -> None:
    group, at = master()
    group.handle(advert(source=IPv4Address("10.0.0.4")), at + 0.2)
    assert group.deadline() == pytest.approx(at + 0.2 + group.master_down + group.interval / 2)


@pytest.mark.parametrize(
    ("sealed", "own", "peer", "yields"),
    [
        (True, "10.0.1.1", "10.0.0.2", True),
        (True, "10.0.0.2", "10.0.1.1", False),
        (True, "9.255.255.255", "10.0.0.0", False),
        # ucarp on little-endian machines: the last octet counts most
        (False, "10.77.1.5", "10.77.2.3", True),
        (False, "10.77.2.3", "10.77.1.5", False),
        (False, "10.0.1.1", "10.0.0.2", False),
        (False, "fd00::2", "fd00::1", True),
        (False, "fd00::1", "fd00::2", False),
        (True, "fd00::1:0", "fd00::2", True),
    ],
)
def test_the_tie_break_compares_source_addresses(sealed: bool, own: str, peer: str, yields: bool) -> None:
    group, at = master(replace(BASE, source=ip_address(own)))
    group.handle(advert(source=ip_address(peer), sealed=sealed), at + 0.1)
    assert (group.role is Role.BACKUP) is yields


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("pair", [("10.0.1.1", "10.0.0.2"), ("192.168.0.9", "192.168.0.10"), ("fd00::1", "fd00::2")])
def test_of_two_equal_masters_exactly_one_yields(sealed: bool, pair: tuple[str, str]) -> None:
    first, second = (ip_address(text) for text in pair)
    roles = []
    for own, peer in ((first, second), (second, first)):
        group, at = master(replace(BASE, source=own))
        group.handle(advert(source=peer, sealed=sealed), at + 0.1)
        roles.append(group.role)
    assert sorted(roles) == [Role.BACKUP, Role.MASTER]


def test_ipv6_sources_are_compared_as_numbers() -> None:
    group, at = master(replace(BASE, source=IPv6Address("fd00::5")))
    group.handle(advert(source=IPv6Address("fd00::4")), at + 0.1)
    assert group.role is Role.BACKUP


# Demotion ------------------------------------------------------------------------------------------------------------


def demote(weight: int = HARD, name: str = "maintenance") -> events.Demote:
    return events.Demote(name=name, weight=weight, detail="test")


STAND_ASIDE = events.Demote(name="stand-aside", weight=ASIDE, detail="test", as_backup=True)


def test_a_master_that_is_asked_to_stand_aside_as_a_backup_says_and_does_nothing_of_it() -> None:
    group, at = master()
    assert group.handle(STAND_ASIDE, at + 0.3) == ()
    assert (group.demotion, group.demotions.standing()) == (0, ())
    assert group.handle(TICK, at + 1.0) == (Advertise(advbase=1, advskew=0, demotion=0), Renew())
    assert group.handle(advert(advskew=1), at + 1.1) != (), "it answers a rival who is worse"
    assert group.role is Role.MASTER
    group.handle(advert(advbase=0), at + 1.2)
    assert (group.role, group.demotion) == (Role.BACKUP, ASIDE), "and stands aside once it is none any more"
    resumed = Group(BASE)
    resumed.handle(STAND_ASIDE, 0.0)
    first, *_ = resumed.handle(events.Start(link_up=True, resume=True), 0.0)
    assert first == Advertise(advbase=1, advskew=0, demotion=0), "one that goes on after another engine is master, too"


def test_one_that_stands_aside_and_takes_over_all_the_same_is_a_master_like_any_from_its_first_advert_on() -> None:
    group = started(replace(BASE, preempt=True))
    group.handle(STAND_ASIDE, 0.5)
    assert group.demotion == ASIDE
    group.handle(advert(advskew=200), 1.0)
    assert group.role is Role.BACKUP, "it takes nobody's place"
    at = group.deadline()
    assert at is not None
    assert group.handle(TICK, at)[0] == Advertise(advbase=1, advskew=0, demotion=0)


def test_one_that_stands_aside_goes_before_whoever_cannot_serve() -> None:
    group = started()
    group.handle(STAND_ASIDE, 0.5)
    group.handle(advert(demotion=100), 1.0)
    assert group.deadline() == 1.0 + group.master_down, "a soft cause is borne by the one that has it"
    group.handle(advert(demotion=HARD), 2.0)
    group.handle(TICK, 2.0 + LONGEST_STAGGER)
    assert group.role is Role.MASTER, "a master in maintenance finds its successor"


def test_one_that_stands_aside_has_the_earlier_turn_than_whoever_cannot_serve() -> None:
    aside, broken = started(), started()
    aside.handle(STAND_ASIDE, 0.5)
    broken.handle(demote(), 0.5)
    for group in (aside, broken):
        group.handle(advert(), 1.0)
        group.handle(goodbye(), 1.5)
    first, second = aside.deadline(), broken.deadline()
    assert first is not None
    assert second is not None
    assert first < second
    (taken,) = (each for each in aside.handle(TICK, first) if isinstance(each, Advertise))
    broken.handle(advert(demotion=taken.demotion, advskew=taken.advskew), first)
    broken.handle(TICK, second)
    assert (aside.role, broken.role) == (Role.MASTER, Role.BACKUP)


def test_a_demoted_master_says_so_at_once_and_goes_on_until_somebody_stands_up() -> None:
    group, at = master()
    assert group.handle(demote(), at + 0.3) == (Advertise(advbase=1, advskew=240, demotion=240), Renew())
    assert group.handle(demote(), at + 0.4) == ()
    assert group.role is Role.MASTER
    group.handle(LEASED, at + 0.3)
    assert group.handle(TICK, at + 1.3)[0] == Advertise(advbase=1, advskew=240, demotion=240)
    assert changes(group.handle(advert(advskew=200), at + 1.4)) == [(Role.BACKUP, Reason.BETTER_MASTER)]


def test_a_demoted_backup_still_takes_over_where_nobody_else_does() -> None:
    group = started()
    group.handle(demote(), 0.0)
    assert group.deadline() == 3.0
    assert changes(group.handle(TICK, 3.0)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_what_was_taken_is_given_back() -> None:
    group, at = master()
    group.handle(demote(3, "health"), at)
    group.handle(demote(4, "other"), at)
    assert group.demotion == 7
    group.handle(events.Promote(name="health"), at)
    group.handle(events.Promote(name="health"), at)
    assert group.demotion == 4
    group.handle(events.Promote(name="other"), at)
    assert group.demotion == 0


def test_a_demotion_for_a_while_ends_by_itself() -> None:
    group, at = master()
    group.handle(replace(demote(), seconds=2.0), at)
    group.handle(TICK, at + 1)
    assert group.demotion == HARD
    group.handle(LEASED, at + 1)
    assert group.handle(TICK, at + 2)[0] == Advertise(advbase=1, advskew=0, demotion=0)


def test_two_equally_demoted_masters_settle_it_by_their_intervals() -> None:
    group, at = master(replace(BASE, advskew=10))
    group.handle(demote(5), at)
    group.handle(advert(advskew=16, demotion=5), at + 0.1)
    assert group.role is Role.MASTER
    group.handle(advert(advskew=14, demotion=5), at + 0.2)
    assert group.role is Role.BACKUP


def test_a_worse_demoted_backup_leaves_a_slow_master_alone() -> None:
    group = started(replace(BASE, dead_ratio=1))
    group.handle(demote(), 0.0)
    assert group.handle(advert(advskew=240, demotion=5), 0.5) == ()
    assert group.deadline() == 1.5


# Handing over --------------------------------------------------------------------------------------------------------


def test_a_hand_over_says_goodbye_and_holds_the_vips_until_somebody_stands_up() -> None:
    for sealed, told in ((True, (AdvertiseTo(LET_GO, PEER),)), (False, ())):
        group, at = master()
        assert group.handle(events.HandOver(), at + 0.5) == (OFFER, Renew())
        done = group.handle(advert(advskew=200, sealed=sealed), at + 0.6)
        assert kinds(done) == [Release, RoleChanged]
        assert changes(done) == [(Role.BACKUP, Reason.HANDED_OVER)]
        assert group.handle(RELEASED, at + 0.61) == told


def test_the_heir_binds_once_he_has_let_go() -> None:
    group = started(replace(BASE, advskew=100))
    group.handle(advert(sealed=True), 2.0)
    assert group.handle(goodbye(advskew=254), 2.5) == ()
    done = group.handle(TICK, group.deadline() or 0.0)
    assert kinds(done) == [Advertise, RoleChanged]
    assert changes(done) == [(Role.MASTER, Reason.HANDED_OVER)]
    assert group.handle(goodbye(advskew=254), 2.53) == ()  # over the other family, say
    assert kinds(group.handle(let_go(), 2.54)) == [Advertise, Bind]


def test_a_hand_over_to_nobody_changes_nothing() -> None:
    group, at = master()
    group.handle(events.HandOver(), at + 0.5)
    for second in (1.5, 2.5, 3.5):
        assert group.handle(TICK, at + second)[0] == Advertise(advbase=1, advskew=0, demotion=0)
        group.handle(LEASED, at + second)
    group.handle(advert(advskew=200), at + 4.5)
    assert group.role is Role.MASTER


def test_a_hand_over_that_nobody_followed_is_over_once_all_had_their_time() -> None:
    group, at = master()
    group.handle(events.HandOver(), at)
    for number in (1, 2):
        group.handle(TICK, at + number)
        group.handle(LEASED, at + number)
    group.handle(advert(advskew=200), at + group.master_down)
    assert group.role is Role.MASTER


def test_a_hand_over_at_fast_timing_lets_every_backup_have_its_turn() -> None:
    """Nothing that it says calls one back meanwhile, and its lease does not wait for them."""
    group, at = master(replace(BASE, advbase=0, advskew=4, lease=0.045))
    begun = at + 0.001
    assert group.handle(events.HandOver(), begun) == (OFFER, Renew())
    said: list[Effect] = []
    while (due := group.deadline() or 0.0) < begun + LONGEST_STAGGER + group.interval:
        said += group.handle(TICK, due)
        group.handle(LEASED, due)
    assert [each for each in said if isinstance(each, Advertise)][:-1] == [OFFER] * 3
    assert [each for each in said if isinstance(each, Advertise)][-1] == Advertise(advbase=0, advskew=4, demotion=0)
    assert said.count(Renew()) == 4
    assert group.role is Role.MASTER


def test_who_handed_over_does_not_preempt_for_a_while() -> None:
    group, at = master(replace(BASE, preempt=True))
    group.handle(events.HandOver(), at)
    group.handle(advert(advskew=200), at + 0.1)
    group.handle(RELEASED, at + 0.1)
    for tenths in (11, 21, 29):
        assert group.handle(advert(advskew=200), at + tenths / 10) == ()
    assert changes(group.handle(advert(advskew=200), at + 3.1)) == [(Role.MASTER, Reason.PREEMPT)]


def test_a_backup_has_nothing_to_hand_over() -> None:
    group = started()
    assert group.handle(events.HandOver(), 0.5) == ()


# Two families --------------------------------------------------------------------------------------------------------

OWN6, PEER6 = IPv6Address("fe80::5"), IPv6Address("fe80::9")
DUAL = replace(BASE, second_source=OWN6)


def test_two_who_are_heard_in_turn_do_not_wake_a_family_that_rests() -> None:
    group, at = master(replace(DUAL, advskew=10))
    group.handle(advert(), at + 0.2)
    group.handle(advert(source=PEER6), at + 0.3)
    group.handle(advert(), at + 1.2)
    group.handle(advert(source=IPv6Address("fe80::7")), at + 1.3)
    group.handle(advert(), at + 2.2)
    assert group.deadline() == at + 2.2 + group.master_down


def test_either_familys_silence_makes_a_master() -> None:
    group = started(DUAL)
    group.handle(advert(), 1.0)
    group.handle(advert(source=PEER6), 1.0)
    group.handle(advert(source=PEER6), 2.0)
    assert group.deadline() == 4.0
    done = group.handle(TICK, 4.0)
    assert [e.detail for e in done if isinstance(e, RoleChanged)] == [
        "no advert from 10.0.0.9 for 3.000 s over IPv4, while fe80::9 is heard over the other family"
    ]


def test_who_lost_to_a_master_of_one_family_does_not_try_again_for_the_others_silence() -> None:
    group = started(replace(DUAL, advskew=100))
    group.handle(advert(source=PEER6), 3.0)
    assert changes(group.handle(TICK, 3 + 100 / 256)) == [(Role.MASTER, Reason.MASTER_DOWN)]
    assert changes(group.handle(advert(source=PEER6), 3.5)) == [(Role.BACKUP, Reason.BETTER_MASTER)]
    for second in (4.5, 5.5, 6.5, 7.5):
        group.handle(advert(source=PEER6), second)
    assert group.deadline() == pytest.approx(7.5 + group.master_down)
    group.handle(advert(), 8.0)
    group.handle(advert(source=PEER6), 8.5)
    group.handle(advert(), 9.0)  # heard regularly again: its silence counts from now on
    group.handle(advert(source=PEER6), 9.5)
    assert group.deadline() == pytest.approx(9.0 + group.master_down)


def lost_over_ipv6() -> Group:
    """A backup that took over for the silence of IPv4 and lost to the master that it heard over IPv6, at 3.5."""
    group = started(replace(DUAL, advskew=100))
    group.handle(advert(source=PEER6), 3.0)
    group.handle(TICK, 3 + 100 / 256)
    group.handle(advert(source=PEER6), 3.5)
    assert group.role is Role.BACKUP
    return group


def test_a_flash_of_another_backup_that_tries_its_luck_does_not_wake_the_deaf_family() -> None:
    group = lost_over_ipv6()
    impostor = IPv4Address("10.0.0.7")
    for second in (4.5, 7.8, 11.1):  # once each time its timer ends
        group.handle(advert(source=impostor, advskew=50), second)
        group.handle(advert(source=impostor, advskew=50), second + 0.001)
        group.handle(advert(source=PEER6), second + 0.5)
        assert group.deadline() == pytest.approx(second + 0.5 + group.master_down)
        assert group.master == PEER6


def test_a_goodbye_does_not_wake_the_deaf_family() -> None:
    group = lost_over_ipv6()
    group.handle(advert(source=PEER6, advbase=255, advskew=255), 4.0)
    successor = IPv6Address("fe80::7")
    group.handle(advert(source=successor), 4.001)
    group.handle(advert(source=successor), 5.001)
    assert group.deadline() == pytest.approx(5.001 + group.master_down)


def test_each_failure_of_the_lease_in_a_row_keeps_back_for_longer() -> None:
    group, at = master(replace(BASE, preempt=True), leased=False)
    now, waits = at, []
    for _ in range(7):
        group.handle(events.LeaseAnswered(error="refused"), now)
        group.handle(RELEASED, now)
        (demotion,) = group.demotions.standing()
        waits.append(demotion.until - now)
        now = demotion.until
        group.handle(advert(advskew=100), now)  # preempts
        assert group.role is Role.MASTER
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    group.handle(LEASED, now)
    group.handle(events.LeaseAnswered(error="refused"), now)
    assert group.demotions.standing()[0].until == now + 30


def test_whoever_woke_late_for_one_family_waits_for_that_one_only() -> None:
    group = started(DUAL)
    group.handle(advert(source=PEER6), 2.9)
    assert group.handle(TICK, 3.9) == ()
    assert group.deadline() == 4.9
    assert changes(group.handle(TICK, 4.9)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_an_advert_of_a_family_that_the_group_does_not_speak_changes_nothing() -> None:
    group = started()
    assert group.handle(advert(source=PEER6), 1.0) == ()
    assert group.deadline() == 3.0


def test_equal_masters_leave_the_decision_to_the_main_family_while_it_is_heard() -> None:
    group, at = master(replace(DUAL, second_source=IPv6Address("fe80::ff")))  # the order of IPv6 is the other way round
    group.handle(advert(source=PEER6, sealed=True), at + 0.1)
    assert group.role is Role.MASTER
    group.handle(advert(sealed=True), at + 0.1)
    assert group.role is Role.MASTER
    group.handle(advert(source=PEER6, sealed=True), at + 2.05)
    assert group.role is Role.MASTER
    group.handle(TICK, at + 2.1)
    group.handle(advert(source=PEER6, sealed=True), at + 2.2)
    assert group.role is Role.BACKUP


def test_a_rival_that_is_heard_in_the_other_family_is_left_to_the_master_that_is_followed() -> None:
    group = started(replace(DUAL, preempt=True))
    group.handle(advert(), 1.0)
    rival = advert(source=PEER6, advskew=100)
    assert group.handle(rival, 1.5) == ()
    assert group.role is Role.BACKUP
    assert changes(group.handle(rival, 2.0))[0][0] is Role.MASTER


def test_the_main_family_decides_for_two_intervals_after_it_was_heard() -> None:
    config = replace(DUAL, advbase=0, advskew=128, second_source=IPv6Address("fe80::ff"))
    for waits, role in ((0.999, Role.MASTER), (1.0, Role.BACKUP)):
        group, at = master(config)
        rival = advert(advbase=0, advskew=128, source=PEER6, sealed=True)
        group.handle(TICK, at + 0.5)
        group.handle(LEASED, at + 0.5)
        group.handle(rival, at + waits)
        assert group.role is role


def test_a_goodbye_in_both_families_counts_once() -> None:
    group = started(replace(DUAL, advskew=10))
    for source in (PEER, PEER6):
        group.handle(advert(source=source), 1.0)
    goodbye = advert(advbase=255, advskew=255)
    group.handle(goodbye, 2.0)
    group.handle(replace(goodbye, source=PEER6), 2.0)
    assert group.deadline() == pytest.approx(2.0 + 10 / 4096)
    successor = IPv4Address("10.0.0.7")
    group.handle(advert(source=successor), 2.001)
    assert group.deadline() == pytest.approx(2.001 + group.master_down)
    group.handle(replace(goodbye, source=PEER6), 2.002)  # late
    assert group.deadline() == pytest.approx(2.001 + group.master_down)
    assert group.master == successor


# Link ----------------------------------------------------------------------------------------------------------------


def test_a_master_without_a_link_releases_and_begins_anew_when_it_returns() -> None:
    group, at = master()
    done = group.handle(events.LinkChanged(up=False), at + 0.5)
    assert kinds(done) == [Release, RoleChanged]
    assert changes(done) == [(Role.INIT, Reason.LINK_DOWN)]
    assert group.master is None
    assert group.handle(RELEASED, at + 0.5) == ()
    assert changes(group.handle(events.LinkChanged(up=True), at + 9)) == [(Role.BACKUP, Reason.LINK_UP)]
    assert group.handle(events.LinkChanged(up=True), at + 9) == ()


def test_a_backup_without_a_link_forgets_the_master() -> None:
    group = started()
    group.handle(advert(), 1.0)
    done = group.handle(events.LinkChanged(up=False), 1.5)
    assert kinds(done) == [RoleChanged]
    assert (group.role, group.master) == (Role.INIT, None)


# The lease -----------------------------------------------------------------------------------------------------------


def test_a_lease_that_the_kernel_refuses_ends_the_mastership_and_says_so() -> None:
    group, at = master(leased=False)
    done = group.handle(events.LeaseAnswered(error="no such device"), at)
    assert kinds(done) == [Release, RoleChanged, Advertise]
    assert changes(done) == [(Role.BACKUP, Reason.BIND_FAILED)]
    assert done[-1] == replace(BOW_OUT, demotion=HARD)
    assert group.deadline() == at + 3


def test_whose_kernel_refuses_the_vip_does_not_take_it_back_from_a_peer_at_once() -> None:
    group, at = master(replace(BASE, preempt=True), leased=False)
    group.handle(events.LeaseAnswered(error="no such device"), at)
    for second in range(1, int(LEASE_RETRY)):
        group.handle(advert(advskew=100), at + second)
        assert group.role is Role.BACKUP
    assert changes(group.handle(advert(advskew=100), at + LEASE_RETRY)) == [(Role.MASTER, Reason.PREEMPT)]


def test_a_lease_that_stands_again_ends_the_demotion() -> None:
    group, at = master(leased=False)
    group.handle(events.LeaseAnswered(error="no such device"), at)
    group.handle(RELEASED, at)
    group.handle(TICK, at + 3)  # nobody else was there
    assert (group.role, group.demotion) == (Role.MASTER, HARD)
    group.handle(LEASED, at + 3)
    assert group.demotion == 0
    assert group.handle(TICK, at + 4)[0] == Advertise(advbase=1, advskew=0, demotion=0)


def test_the_answer_to_a_lease_given_up_since_changes_nothing() -> None:
    group, at = master(leased=False)
    group.handle(events.LinkChanged(up=False), at)
    assert group.handle(LEASED, at) == ()
    group.handle(events.LinkChanged(up=True), at)
    group.handle(advert(demotion=1), at)
    group.handle(TICK, at)
    assert group.role is Role.MASTER
    assert group.handle(LEASED, at) == ()  # still the first one's
    group.handle(RELEASED, at)
    assert group.handle(LEASED, at) == (Announce(),)


def test_a_lease_that_nobody_confirms_ends_the_mastership() -> None:
    group, at = master(leased=False)
    group.handle(TICK, at + 1.0)
    done = group.handle(TICK, at + 2.0)
    assert changes(done) == [(Role.BACKUP, Reason.LEASE_UNANSWERED)]
    assert kinds(done) == [Release, RoleChanged, Advertise]
    assert done[-1] == replace(BOW_OUT, demotion=HARD)
    assert group.deadline() == at + 5.0


def test_a_renewal_that_is_confirmed_late_but_in_time_is_enough() -> None:
    group, at = master()
    for now in (at + 1.0, at + 2.0):
        group.handle(TICK, now)
    group.handle(LEASED, at + 2.9)
    group.handle(TICK, at + 3.0)
    assert group.role is Role.MASTER


# Lateness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [TICK, advert(advskew=200), LEASED])
def test_a_master_that_slept_as_long_as_its_peers_wait_deposes_itself(event: events.Event) -> None:
    group, at = master(replace(BASE, advskew=50))
    done = group.handle(event, at + 3.0)
    assert changes(done) == [(Role.BACKUP, Reason.WOKE_LATE)]
    assert kinds(done)[0] is Release
    assert group.deadline() == pytest.approx(at + 3.0 + 3 + 50 / 256)


def test_a_master_a_little_late_stays() -> None:
    group, at = master()
    assert Advertise in kinds(group.handle(TICK, at + 2.9))


def test_a_dead_ratio_of_one_does_not_depose_a_master_on_time() -> None:
    group, at = master(replace(BASE, dead_ratio=1, advskew=128))
    now = at
    for _ in range(5):
        deadline = group.deadline()
        assert deadline is not None
        now = deadline + 0.01
        group.handle(TICK, now)
    assert group.role is Role.MASTER


def test_sub_second_masters_depose_themselves_by_their_own_skew() -> None:
    group, at = master(replace(BASE, advbase=0, advskew=4))
    assert changes(group.handle(TICK, at + 12 / 256 + 0.001)) == [(Role.BACKUP, Reason.WOKE_LATE)]


def test_a_backup_that_wakes_late_gives_the_master_one_more_interval_but_only_one() -> None:
    group = started()
    assert group.handle(TICK, 3.6) == ()
    assert group.deadline() == pytest.approx(4.6)
    assert changes(group.handle(TICK, 5.5)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_a_backup_that_wakes_half_an_interval_late_has_listened() -> None:
    assert changes(started().handle(TICK, 3.5)) == [(Role.MASTER, Reason.MASTER_DOWN)]


def test_a_backup_that_wakes_late_and_hears_the_master_stays() -> None:
    group = started()
    group.handle(TICK, 3.6)
    group.handle(advert(), 3.6)
    assert group.deadline() == pytest.approx(6.6)
    assert group.handle(TICK, 7.2) == ()  # a new deadline, a new grace


# Delays --------------------------------------------------------------------------------------------------------------


def test_a_preempt_delay_holds_preemption_back_after_the_start_and_the_links_return() -> None:
    group = started(replace(BASE, preempt=True, preempt_delay=10.0))
    worse = advert(advskew=100)
    assert group.handle(worse, 9.9) == ()
    assert changes(group.handle(worse, 10.0)) == [(Role.MASTER, Reason.PREEMPT)]
    group.handle(events.LinkChanged(up=False), 11.0)
    group.handle(events.LinkChanged(up=True), 12.0)
    assert group.handle(worse, 21.9) == ()
    assert changes(group.handle(worse, 22.0)) == [(Role.MASTER, Reason.PREEMPT)]


def test_a_preempt_delay_does_not_delay_the_takeover_from_a_dead_master() -> None:
    group = started(replace(BASE, preempt=True, preempt_delay=10.0))
    group.handle(advert(advskew=100), 1.0)
    assert changes(group.handle(TICK, 4.0)) == [(Role.MASTER, Reason.MASTER_DOWN)]


@pytest.mark.parametrize("heard", [advert(advskew=100), advert(demotion=1), advert(advbase=4)])
def test_a_startup_delay_holds_every_takeover_back(heard: events.AdvertReceived) -> None:
    group = started(replace(BASE, preempt=True, startup_delay=10.0))
    assert group.deadline() == 10.0
    assert group.handle(TICK, 3.0) == ()
    assert group.handle(heard, 5.0) == ()
    assert group.handle(advert(advbase=255, advskew=255), 6.0) == ()
    assert group.deadline() == 10.0
    assert changes(group.handle(TICK, 10.0))[0][0] is Role.MASTER


def test_a_startup_delay_is_over_once_it_is_over() -> None:
    group = started(replace(BASE, startup_delay=10.0))
    group.handle(advert(), 9.0)
    assert group.deadline() == 12.0
    assert changes(group.handle(TICK, 12.0)) == [(Role.MASTER, Reason.MASTER_DOWN)]
