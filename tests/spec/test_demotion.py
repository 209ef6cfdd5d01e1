"""Demotion, goodbyes and the ranges of settings (``carp_group_demote_adj``, OpenBSD; ``carp_demote_adj``, FreeBSD)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.path import Port
from sidecar.ipc.messages import Bind as AskForBind
from sidecar.ipc.messages import Bound
from sidecar.ipc.messages import Renew as AskForRenew
from sidecar.protocol import events
from sidecar.protocol.demotion import HARD
from sidecar.protocol.effects import Advertise, AdvertiseTo, Announce, Bind, Finished, Release, Renew, RoleChanged
from sidecar.protocol.machine import STAGGER, Group
from sidecar.protocol.types import BOW_OUT, Reason, Role
from tests.fakes.engine import MAC, DrivenEngine
from tests.fakes.foreign import KINDS, Foreign, FreeBSD, NetBSD, OpenBSD, Ucarp
from tests.fakes.groups import (
    LEASED,
    OTHER,
    RELEASED,
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
from tests.fakes.node import ENOUGH, load_on_node, mistakes
from tests.fakes.plans import group_plan
from tests.fakes.station import StartStation
from tests.fakes.wire import advert, ipv4

WEIGHTS = st.lists(st.integers(1, 300), max_size=5)


def demote(weight: int = HARD, name: str = "test") -> events.Demote:
    return events.Demote(name=name, weight=weight, detail="a test")


def said(group: Group) -> Advertise:
    """Return the master's next advert."""
    told: list[Advertise] = []
    while not told:
        now = group.deadline() or 0.0
        told = adverts(group.handle(TICK, now))
        group.handle(LEASED, now)
    return told[0]


# What demotion looks like --------------------------------------------------------------------------------------------


@given(weights=WEIGHTS)
def test_byte_4_holds_the_sum_of_all_demotions_and_at_most_255_as_with_openbsd(weights: list[int]) -> None:
    group, at = master()
    for number, weight in enumerate(weights):
        group.handle(demote(weight, f"source-{number}"), at)
    assert said(group).demotion == min(sum(weights), 255)


@given(weights=WEIGHTS, advskew=st.integers(0, 254))
def test_the_sum_is_added_to_advskew_too_for_those_who_do_not_read_byte_4(weights: list[int], advskew: int) -> None:
    """OpenBSD leaves advskew alone; FreeBSD adds its demotion and stops at 240."""
    group, at = master(advskew=advskew)
    for number, weight in enumerate(weights):
        group.handle(demote(weight, f"source-{number}"), at)
    assert said(group).advskew == max(advskew, min(advskew + sum(weights), 240))


@given(advskew=st.integers(0, 240), demotion=st.integers(0, 240))
def test_up_to_240_it_is_the_advskew_that_a_freebsd_of_the_same_demotion_says(advskew: int, demotion: int) -> None:
    group, _ = master(advskew=advskew, demotion=demotion)
    assert said(group).advskew == FreeBSD(config(advskew=advskew), demotion=demotion).advskew


@pytest.mark.parametrize("advskew", [241, 250, 254])
@pytest.mark.parametrize("demotion", [0, 1, 240])
def test_a_configured_advskew_above_240_is_said_as_it_is_where_freebsd_says_240(advskew: int, demotion: int) -> None:
    """Else demotion, or none at all, would make it a better master."""
    group, _ = master(advskew=advskew, demotion=demotion)
    assert said(group).advskew == advskew
    assert FreeBSD(config(advskew=advskew), demotion=demotion).advskew == 240


@pytest.mark.parametrize("kind", [NetBSD, Ucarp])
def test_a_hard_demotion_is_said_as_netbsd_and_ucarp_say_any_of_theirs(kind: type[Foreign]) -> None:
    """Their advskew is then 240, or what is configured above that."""
    for advskew in (0, 100, 240, 254):
        group, _ = master(advskew=advskew, demotion=HARD)
        assert said(group).advskew == kind(config(advskew=advskew), demotion=1).advskew


def test_advbase_is_never_changed_by_demotion() -> None:
    group, _ = master(advbase=2, demotion=255, lease=10.0)
    assert said(group).advbase == 2


@given(weights=WEIGHTS)
def test_each_source_gives_back_exactly_what_it_took(weights: list[int]) -> None:
    group, at = master(advskew=7)
    for number, weight in enumerate(weights):
        group.handle(demote(weight, f"source-{number}"), at)
        group.handle(demote(weight, f"source-{number}"), at)  # taken once, however often it is said
    for number in range(len(weights)):
        group.handle(events.Promote(name=f"source-{number}"), at)
        group.handle(events.Promote(name=f"source-{number}"), at)
    assert said(group) == Advertise(advbase=1, advskew=7, demotion=0)


# When it is told -----------------------------------------------------------------------------------------------------


def test_a_master_tells_a_new_demotion_at_once_as_openbsd_does() -> None:
    """OpenBSD does where the counter becomes 1; with us each one more is worth an advert."""
    group, at = master()
    for number in (1, 2):
        told = adverts(group.handle(demote(1, f"source-{number}"), at + number / 10))
        assert told == [Advertise(advbase=1, advskew=number, demotion=number)]


def test_a_demotion_given_back_waits_for_the_next_advert() -> None:
    group, at = master(demotion=1)
    assert group.handle(events.Promote(name="test"), at + 0.1) == ()
    assert said(group) == Advertise(advbase=1, advskew=0, demotion=0)


def test_a_demoted_master_lets_go_only_once_somebody_better_has_stood_up() -> None:
    """So that demotion never leaves nobody; as with all the others."""
    group, at = master()
    assert Release not in map(type, group.handle(demote(), at))
    assert all(effect != Release() for _, effect in run(group, at + 60))
    assert group.role is Role.MASTER
    assert yielded(group.handle(heard(advskew=254), at + 60)) is Reason.BETTER_MASTER


# What leads to it ----------------------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> Iterator[DrivenEngine]:
    """An engine whose wire takes nothing: nobody is at its other end."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.close()
    with near, DrivenEngine() as engine:
        near.setblocking(False)
        engine.open(near)
        yield engine


def advertise(engine: DrivenEngine, seconds: float) -> set[tuple[int, tuple[str, ...]]]:
    """Let all groups advertise once, lease what they ask for, and return how they are demoted."""
    engine.pass_time(seconds)
    for message in engine.said():
        if isinstance(message, AskForBind | AskForRenew):
            engine.tell(Bound(group=message.group, error=None))
    return {(group.demotion, tuple(each.name for each in group.demotions)) for group in engine.status().groups}


@pytest.mark.parametrize("groups", [1, 3])
def test_three_adverts_in_a_row_for_each_group_that_do_not_leave_demote_as_with_openbsd(
    engine: DrivenEngine, groups: int
) -> None:
    """OpenBSD by 1 after 3 x its vhosts, FreeBSD by 240 after 3; ours by 240, so that everybody understands."""
    for number in range(groups):
        engine.start(group_plan(name=f"group-{number}", vhid=number + 1, vips=(f"10.0.0.{200 + number}/32",)))
    assert advertise(engine, 3.0) == {(0, ())}
    assert advertise(engine, 1.0) == {(0, ())}
    assert advertise(engine, 1.0) == {(HARD, ("send-errors:eth0",))}
    for _ in range(80):
        assert advertise(engine, 1.0) == {(HARD, ("send-errors:eth0",))}, "as long as none leaves, and no moment less"
    assert {group.role for group in engine.status().groups} == {Role.MASTER}


def test_one_that_leaves_in_between_begins_the_count_anew_as_with_all() -> None:
    port = Port("eth0", MAC, True, {}, groups=1)
    for error in ("no buffer", "no buffer", None, "no buffer", "no buffer"):
        port.note_advert(error, 1.0)
    assert not port.failing
    port.note_advert("no buffer", 1.0)
    assert port.failing


def test_as_many_in_a_row_that_leave_end_it_as_with_openbsd_and_ucarp() -> None:
    port = Port("eth0", MAC, True, {}, groups=1)
    for error in ("no buffer", "no buffer", "no buffer", None, None):
        port.note_advert(error, 1.0)
    assert port.failing
    port.note_advert(None, 1.0)
    assert not port.failing


# What others make of it, and we of theirs ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_who_preempts_takes_over_from_our_demoted_master(kind: type[Foreign]) -> None:
    group, _ = master(demotion=HARD)
    said_by_us = said(group)
    packet = heard(advskew=said_by_us.advskew, demotion=said_by_us.demotion)
    assert kind(config(advskew=100, preempt=True)).overtakes(packet)
    assert kind(config(advskew=100)).overtakes(packet) is (kind is OpenBSD)


def test_the_byte_of_a_demoted_openbsd_counts_before_the_skew(station: StartStation) -> None:
    ours = station(advskew=100)
    ours.hear(ipv4(advert(advskew=0, demotion=1)))
    ours.pass_time(100 * STAGGER)
    assert ours.role is Role.MASTER


@pytest.mark.parametrize("kind", [FreeBSD, NetBSD, Ucarp])
def test_the_demotion_of_the_others_is_a_longer_interval_which_only_preempt_acts_upon(kind: type[Foreign]) -> None:
    theirs = kind(config(), demotion=240)
    packet = heard(advskew=theirs.advskew, demotion=theirs.demote_byte)
    assert (theirs.advskew, theirs.demote_byte) == (240, 0)
    assert took_over(backup(advskew=100).handle(packet, 1.0)) is None
    assert took_over(backup(advskew=100, preempt=True).handle(packet, 1.0)) is Reason.PREEMPT


# Goodbye -------------------------------------------------------------------------------------------------------------


def test_a_goodbye_is_one_advert_of_advbase_255_and_advskew_255() -> None:
    group, at = master()
    group.handle(events.Stop(), at + 0.5)
    assert group.handle(RELEASED, at + 0.5) == (Advertise(advbase=255, advskew=255, demotion=0), Finished())


def test_nothing_is_scheduled_after_it() -> None:
    group, at = master()
    group.handle(events.Stop(), at + 0.5)
    group.handle(RELEASED, at + 0.5)
    assert group.deadline() is None
    assert group.handle(TICK, at + 100) == ()


def test_it_is_sent_where_a_master_is_told_to_stop_as_by_openbsd_and_netbsd() -> None:
    """FreeBSD and ucarp never say goodbye, so that their backups wait for the whole timer."""
    assert {kind for kind in KINDS if kind.says_goodbye} == {OpenBSD, NetBSD}
    for role in (backup(), Group(config())):
        assert adverts(role.handle(events.Stop(), 1.0)) == []


def test_it_still_carries_byte_4_as_openbsds_does() -> None:
    group, at = master(demotion=3)
    group.handle(events.Stop(), at + 0.5)
    assert adverts(group.handle(RELEASED, at + 0.5)) == [Advertise(advbase=255, advskew=255, demotion=3)]


def test_it_comes_after_the_addresses_were_let_go_so_that_at_no_time_two_answer() -> None:
    group, at = master()
    assert [type(effect) for effect in group.handle(events.Stop(), at + 0.5)] == [Release, RoleChanged]


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_takes_it_for_a_master_too_slow_for_any_timer(kind: type[Foreign]) -> None:
    for advbase in (1, 2, 84):
        assert kind(config(advbase=advbase, advskew=254)).overtakes(goodbye())


@given(advskew=st.integers(0, 254))
def test_our_backups_stand_up_one_after_the_other_by_their_skew_where_those_of_others_all_do_at_once(
    advskew: int,
) -> None:
    assert 1 / 32 < 255 * STAGGER < 1 / 16  # all of them within a planned failover's tenth of a second
    group = backup(advskew=advskew)
    group.handle(heard(), 1.0)
    assert group.handle(goodbye(), 1.5) == ()
    assert group.deadline() == pytest.approx(1.5 + advskew * STAGGER)
    assert took_over(group.handle(TICK, 1.5 + advskew * STAGGER)) is Reason.BOW_OUT


def test_the_first_of_them_keeps_the_next_from_standing_up() -> None:
    group = backup(advskew=100)
    group.handle(goodbye(), 1.0)
    assert group.handle(heard(advskew=50, source=OTHER), 1.0 + 50 * STAGGER) == ()
    assert group.deadline() == pytest.approx(1.0 + 50 * STAGGER + group.master_down)


def test_where_others_stood_up_at_the_same_time_they_fight_it_out_by_the_usual_rules() -> None:
    group = backup(advskew=100)
    group.handle(goodbye(), 1.0)
    group.handle(TICK, 1.0 + 100 * STAGGER)
    assert group.role is Role.MASTER
    assert yielded(group.handle(heard(advskew=50, source=OTHER), 1.1)) is Reason.BETTER_MASTER


# Ranges --------------------------------------------------------------------------------------------------------------


def plan_of(name: str, value: object) -> int:
    (group,) = load_on_node({**ENOUGH, f"CARP_{name.upper()}": str(value)}).plan.groups
    found: int = getattr(group, name)
    return found


@pytest.mark.parametrize("name", ["vhid", "advbase", "advskew"])
def test_what_all_implementations_allow_we_allow(name: str) -> None:
    lowest = {"vhid": 1, "advbase": 0, "advskew": 0}[name]
    highest = {"vhid": 255, "advbase": 254, "advskew": 254}[name]
    assert [plan_of(name, value) for value in (lowest, highest)] == [lowest, highest]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vhid", 0),
        ("vhid", 256),
        ("advbase", 255),
        ("advbase", 256),
        ("advskew", 255),
        ("advskew", 256),
        ("advbase", -1),
    ],
)
def test_what_is_outside_is_refused_and_never_cut_to_a_byte_as_ucarp_does(name: str, value: int) -> None:
    """ucarp makes 0 of 256. 255 is a goodbye's: with both at 255 it sends one advert, and then none."""
    assert mistakes({**ENOUGH, f"CARP_{name.upper()}": str(value)})


def test_advbase_0_is_allowed_with_any_skew_as_with_openbsd() -> None:
    """NetBSD and ucarp want an advskew above 0 then, FreeBSD an advbase."""
    for advskew in (0, 1, 254):
        (group,) = load_on_node({**ENOUGH, "CARP_ADVBASE": "0", "CARP_ADVSKEW": str(advskew)}).plan.groups
        assert (group.advbase, group.advskew) == (0, advskew)


@given(advbase=st.integers(0, 255), advskew=st.integers(0, 255), demotion=st.integers(0, 255), preempt=st.booleans())
def test_every_byte_that_others_may_send_is_understood(
    advbase: int, advskew: int, demotion: int, preempt: bool
) -> None:
    """ucarp takes 255 for an advskew, OpenBSD's and NetBSD's kernels for an advbase."""
    packet = heard(advbase=advbase, advskew=advskew, demotion=demotion)
    waiting, (leading, at) = backup(preempt=preempt), master(preempt=preempt)
    assert {type(effect) for effect in waiting.handle(packet, 1.0)} <= {Advertise, Bind, RoleChanged}
    allowed = {Advertise, AdvertiseTo, Renew, Announce, Release, RoleChanged}
    assert {type(effect) for effect in leading.handle(packet, at + 0.1)} <= allowed


def test_an_advskew_of_255_alone_is_no_goodbye() -> None:
    """Seen from a ucarp with -k 255."""
    for packet in (heard(advskew=BOW_OUT), heard(advbase=BOW_OUT)):
        group, at = master()
        assert adverts(group.handle(packet, at + 0.1)) != []
