"""Elections on a simulated LAN under faults: who may be master, for how long two may, and who holds the VIP when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.demotion import HARD
from sidecar.protocol.machine import STAGGER
from sidecar.protocol.types import GroupConfig, Reason, Role
from tests.fakes.faults import (
    Crash,
    Cut,
    Demote,
    Disturb,
    EngineCrash,
    Fault,
    HandOver,
    Heal,
    Keep,
    Mute,
    Occupy,
    Pause,
    Reconfigure,
    Restart,
    Retune,
    Stop,
)
from tests.fakes.host import Conditions, Node
from tests.fakes.lan import Lan
from tests.fakes.verdict import check_story
from tests.fakes.watchers import AtMost, bound, down, interval, moment, rank
from tests.property.strategies import (
    DELAYS,
    NODE,
    SEEDS,
    SKEWS,
    SOURCES,
    calm_lans,
    demotions,
    examples,
    fleets,
    stories,
)

# Any story ---------------------------------------------------------------------------------------------------------


@examples(300)
@given(
    configs=fleets(),
    delay=st.sampled_from((0.0005, 0.002, 0.02, 1.2)),  # the last one turns any order round
    duplication=st.sampled_from((0.0, 0.2)),
    sealed=st.booleans(),
    demotions=st.lists(st.integers(0, 2), max_size=5),
    story=stories(3.0),
    seed=SEEDS,
)
def test_whatever_happens_at_default_timing(
    *,
    configs: list[GroupConfig],
    delay: float,
    duplication: float,
    sealed: bool,
    demotions: list[int],
    story: list[tuple[float, Fault]],
    seed: int,
) -> None:
    lan = Lan(configs, Conditions(delay=delay, duplication=duplication, sealed=sealed), seed=seed, demotions=demotions)
    check_story(lan, story)


@examples(60)
@given(configs=fleets(), story=demotions(1.5), seed=SEEDS)
def test_demotions_balance(configs: list[GroupConfig], story: list[tuple[float, Fault]], seed: int) -> None:
    check_story(Lan(configs[:2], Conditions(), seed=seed), story)


FAST = Conditions(delay=0.0002, wake=0.0002, work=0.0002)
SUB_SECOND: dict[str, Any] = {"advbases": (0,), "skews": st.integers(4, 64)}
DEMOTED: dict[str, Any] = {"advbases": (0,), "skews": st.integers(24, 64)}
MIXED: dict[str, Any] = {"advbases": (1, 2, 5), "dead_ratios": (3, 4)}


@pytest.mark.parametrize(
    ("fleet", "conditions", "story"),
    [
        # Adverts every 16 to 250 ms; the kernel's shortest lease outlasts the takeover after a crash here.
        # A demoted node whose timer is shorter than a better one's interval would stand up again and again.
        (fleets(**SUB_SECOND), FAST, stories(0.2, demoted=False, **SUB_SECOND)),
        (fleets(**DEMOTED), FAST, stories(0.2, **DEMOTED)),
        (fleets(**MIXED), Conditions(), stories(8.0, demoted=False, **MIXED)),
    ],
    ids=["under-a-second", "under-a-second-demoted", "mixed-advbase"],
)
@examples(120)
@given(data=st.data())
def test_whatever_happens_at_other_timings(
    fleet: st.SearchStrategy[list[GroupConfig]],
    conditions: Conditions,
    story: st.SearchStrategy[list[tuple[float, Fault]]],
    data: st.DataObject,
) -> None:
    lan = Lan(data.draw(fleet), conditions, seed=data.draw(SEEDS))
    check_story(lan, data.draw(story))


# One fault in a calm LAN: the promises -----------------------------------------------------------------------------


def watch_handover(lan: Lan, *, together: float = 0.0) -> Node:
    """Let nobody answer for longer than that together with the master of now, which is returned, until it preempts.

    A node that preempts, and successors that stand up at once (equal skews), may overlap until the first advert is
    heard and obeyed.
    """
    (old,) = lan.masters()
    before = len(lan.history)

    def both(first: Node, second: Node) -> bool:
        return first.answers() and second.answers()

    def seconds(first: Node, second: Node) -> float:
        stood_up_anew = any(
            change.node == old.number and change.after is Role.MASTER for change in lan.history[before:]
        )
        return moment(lan) if stood_up_anew or old not in (first, second) else together

    lan.watchers.append(AtMost(lan, both, seconds))
    return old


def watch_answers(lan: Lan, *, pause: float) -> None:
    """Let there be nobody who answers for ``pause`` seconds at most, if somebody answers now."""
    silent_since: float | None = None

    def watch() -> None:
        nonlocal silent_since
        since = lan.now if silent_since is None else silent_since
        assert lan.now - since <= pause, f"nobody answered from {since:.4f} to {lan.now:.4f}"
        silent_since = None if any(node.answers() for node in lan.nodes) else since

    lan.watchers.append(watch)


def first_takeover(lan: Lan, *, since: float) -> float:
    """Return the seconds from ``since`` to the first change to master after it."""
    return next(c.at for c in lan.history if c.at >= since and c.after is Role.MASTER) - since


@examples(100)
@given(calm_lans())
def test_a_crash_is_over_after_the_timer_and_no_two_answer(lan: Lan) -> None:
    old = watch_handover(lan)
    crash = lan.now
    lan.inject(Crash(old.number))
    lan.run(10)
    earliest = min(down(node) for node in lan.nodes if node is not old)
    assert earliest - interval(old) - moment(lan) <= first_takeover(lan, since=crash) <= earliest + moment(lan)
    assert len(lan.masters()) == 1


@pytest.mark.parametrize("change", [Stop, HandOver])
@examples(100)
@given(lan=calm_lans())
def test_a_planned_change_takes_a_tenth_of_a_second_and_no_two_answer(lan: Lan, change: type[Stop | HandOver]) -> None:
    old = watch_handover(lan)
    begun = lan.now
    lan.inject(change(old.number))
    lan.run(10)
    assert first_takeover(lan, since=begun) <= 0.1
    assert len(lan.masters()) == 1


@pytest.mark.parametrize("demoted", [False, True], ids=["handed over", "demoted"])
@examples(60)
@given(lan=calm_lans(), later=st.floats(0.1, 3), stops=st.booleans())
def test_of_two_planned_changes_in_a_row_none_has_two_who_answer(
    lan: Lan, demoted: bool, later: float, stops: bool
) -> None:
    """Who let go a moment ago has nothing to say to the heir of the next; who is gone is waited for by nobody."""

    def leave(node: Node) -> Fault:
        return Demote(node.number, "maintenance", HARD) if demoted else HandOver(node.number)

    lan.inject(Retune(3, preempt=False))
    lan.conditions = replace(lan.conditions, work=0.05)  # a parent that is slow to let go
    lan.run(10)
    old = watch_handover(lan)
    watch_answers(lan, pause=0.1 + 4 * moment(lan))
    lan.inject(leave(old))
    lan.run(later)
    if lan.masters() and lan.masters() != [old]:
        second = watch_handover(lan)
        lan.inject(leave(second))
        if stops:
            lan.run(0.01)
            lan.inject(Stop(second.number))
    lan.run(10)
    assert len(lan.masters()) == 1


@examples(100)
@given(calm_lans())
def test_after_a_goodbye_backups_stand_up_in_turn(lan: Lan) -> None:
    (old,) = lan.masters()
    stop = lan.now
    lan.inject(Stop(old.number))
    lan.run(10)
    backups = [node.config.advskew for node in lan.nodes if node is not old]
    nearly_first = min(backups) + moment(lan) / STAGGER
    stood_up = [lan.nodes[change.node] for change in lan.history if change.at >= stop and change.after is Role.MASTER]
    assert all(node.config.advskew <= nearly_first for node in stood_up)


@examples(100)
@given(calm_lans(), st.floats(5.5, 12), st.integers(0, 3))  # well beyond its timer: one that ends before tells nobody
def test_a_backup_whose_machine_froze_hears_the_master_before_it_takes_over(
    lan: Lan, seconds: float, number: int
) -> None:
    (master,) = lan.masters()
    backups = [node for node in lan.nodes if node is not master and interval(node) >= interval(master) + moment(lan)]
    before = len(lan.history)
    if backups:
        frozen = backups[number % len(backups)]
        lan.inject(Pause(frozen.number, seconds))
        for node in lan.nodes:
            lan.inject(Cut(node.number, frozen.number))  # what comes in the meantime is lost
        lan.run(seconds)
        lan.inject(Heal())
        lan.run(10)
    assert lan.history[before:] == []


@examples(100)
@given(calm_lans(), st.floats(0, 8))
def test_after_a_pause_the_kernel_has_let_go_before_another_answers(lan: Lan, seconds: float) -> None:
    # Not 0: who wakes just before its peers' timers are due may meet a successor for as long as an advert takes.
    old = watch_handover(lan, together=moment(lan))
    lan.inject(Pause(old.number, seconds))
    lan.run(seconds)
    replaced = len(lan.masters()) > 1
    lan.run(20)
    assert len(lan.masters()) == 1
    if replaced and not old.config.preempt:
        assert lan.masters() != [old]


@examples(100)
@given(calm_lans(), st.floats(0, 8))
def test_an_engine_that_is_back_within_the_lease_goes_on_as_master(lan: Lan, seconds: float) -> None:
    old = watch_handover(lan)
    before = len(lan.history)
    lan.inject(EngineCrash(old.number, seconds))
    back_in_time = old.lease_until > lan.now + seconds
    lan.run(20)
    assert len(lan.masters()) == 1
    if back_in_time:
        assert [(change.node, change.reason) for change in lan.history[before:]] == [(old.number, Reason.RESUMED)]


@examples(100)
@given(calm_lans(), st.floats(0, 2))
def test_a_restart_that_keeps_the_vips_within_the_lease_is_nothing_to_anybody_else(lan: Lan, seconds: float) -> None:
    (old,) = lan.masters()
    before = len(lan.history)
    watch_answers(lan, pause=0.0)
    lan.inject(Keep(old.number, seconds))
    lan.run(20)
    assert [(change.node, change.reason) for change in lan.history[before:]] == [(old.number, Reason.RESUMED)]


@examples(100)
@given(calm_lans(), st.floats(2, 8))
def test_a_restart_that_takes_longer_never_makes_two_answer(lan: Lan, seconds: float) -> None:
    old = watch_handover(lan)
    stop = lan.now
    lan.inject(Keep(old.number, seconds))
    lan.run(20)
    assert len(lan.masters()) == 1
    if seconds > max(map(down, lan.nodes)) + moment(lan):
        earliest = min(down(node) for node in lan.nodes if node is not old)
        assert earliest <= first_takeover(lan, since=stop) <= earliest + moment(lan)
        assert Reason.RESUMED not in {change.reason for change in lan.history}


@examples(100)
@given(calm_lans(), SKEWS, DELAYS, st.sampled_from((3, 4)), st.floats(0, 2))
def test_other_settings_of_a_master_are_no_outage(
    lan: Lan, advskew: int, delay: float, dead_ratio: int, later: float
) -> None:
    (master,) = lan.masters()
    before = len(lan.history)
    watch_answers(lan, pause=0.0 if not master.config.preempt else 5 * moment(lan))
    lan.inject(Reconfigure(master.number, 1, advskew, preempt_delay=delay))
    lan.run(later)
    lan.inject(Retune(dead_ratio, preempt=master.config.preempt))
    lan.run(20)
    (left,) = lan.masters()
    better = master.config.preempt and left is not master
    assert {change.reason for change in lan.history[before:]} == (
        {Reason.PREEMPT, Reason.BETTER_MASTER} if better else set()
    )
    assert left.config.advskew <= master.config.advskew


@examples(100)
@given(calm_lans(), NODE, SKEWS)
def test_who_returns_or_becomes_better_answers_only_once_the_one_before_has_let_go(
    lan: Lan, number: int, advskew: int
) -> None:
    node = lan.nodes[number % len(lan.nodes)]
    lan.inject(Crash(node.number))
    lan.inject(Reconfigure(node.number, 1, advskew))
    lan.inject(Retune(3, preempt=True))
    lan.run(bound(lan))
    lan.watchers.append(AtMost(lan, lambda first, second: first.answers() and second.answers(), lambda *_: 0.0))
    watch_answers(lan, pause=4 * moment(lan))
    lan.inject(Restart(node.number))
    lan.run(20)
    assert rank(lan.masters()[0]) == min(map(rank, lan.nodes))


@examples(50)
@given(calm_lans())
def test_a_vip_that_was_deleted_is_put_back_at_once(lan: Lan) -> None:
    (master,) = lan.masters()
    lan.inject(Disturb(master.number))
    lan.run(moment(lan))
    assert master.answers()


@examples(100)
@given(fleets(), st.floats(0.1, 12), SEEDS)
def test_nobody_takes_over_from_a_stranger_who_answers(configs: list[GroupConfig], seconds: float, seed: int) -> None:
    lan = Lan(configs, Conditions(), seed=seed)
    lan.start()
    lan.run(0.1)
    for node in lan.nodes:
        lan.inject(Occupy(node.number, seconds))
    lan.run(20)
    assert first_takeover(lan, since=0.0) >= 0.1 + seconds
    assert len(lan.masters()) == 1


@examples(100)
@given(calm_lans(of=fleets(dual=st.just(True))), st.sampled_from((4, 6)))
def test_where_a_family_falls_silent_each_backup_stands_up_once_at_most(lan: Lan, version: int) -> None:
    before = len(lan.history)
    lan.inject(Mute(version))
    lan.run(40)
    stood_up = [change.node for change in lan.history[before:] if change.after is Role.MASTER]
    assert len(stood_up) == len(set(stood_up))
    assert len(lan.masters()) == 1


@examples(100)
@given(calm_lans())
def test_who_returns_takes_over_only_with_preempt_and_only_if_better(lan: Lan) -> None:
    (old,) = lan.masters()
    lan.inject(Crash(old.number))
    lan.run(bound(lan))
    (new,) = lan.masters()
    lan.inject(Restart(old.number))
    lan.run(bound(lan))
    better = old.config.preempt and rank(old) < rank(new)
    assert lan.masters() == [old if better else new]
    assert [change.reason for change in lan.history if change.node == old.number][-1] is (
        Reason.PREEMPT if better else Reason.START
    )


def test_a_node_that_hears_nobody_makes_no_third_node_stand_up() -> None:
    skews = {0: 0, 1: 100, 2: 200}
    base = GroupConfig(name="web", vhid=1, source=SOURCES[0], preempt=True)
    lan = Lan([replace(base, source=SOURCES[n], advskew=skew) for n, skew in skews.items()], Conditions(), seed=0)
    for sender in (0, 1):
        lan.inject(Cut(sender, 2))
    lan.start()
    lan.run(30)
    assert [node.number for node in lan.masters()] == [0, 2]
    assert {change.after for change in lan.history if change.node == 1} == {Role.BACKUP}


# A multicast path that is broken in one direction ------------------------------------------------------------------


@examples(100)
@given(calm_lans(), st.data())
def test_a_path_that_is_broken_one_way_does_not_mean_two_masters(lan: Lan, data: st.DataObject) -> None:
    (master,) = lan.masters()
    deaf = data.draw(st.sampled_from([node.number for node in lan.nodes if node is not master]))
    lan.deaf.add((master.number, deaf))
    lan.run(60)
    settled = len(lan.history)
    lan.run(500)
    assert len(lan.masters()) == 1
    assert lan.history[settled:] == []
    lan.inject(Heal())
    lan.run(700)
    assert len(lan.masters()) == 1


@examples(100)
@given(calm_lans(), st.sampled_from((4, 6)))
def test_a_master_that_one_family_loses_is_challenged_once_by_each_backup(lan: Lan, version: int) -> None:
    (master,) = lan.masters()
    if master.config.second_source is None:
        return
    lan.muted.add((master.number, version))
    before = len(lan.history)
    lan.run(60)
    settled = len(lan.history)
    for node in lan.nodes:
        taken = [c for c in lan.history[before:] if c.node == node.number and c.after is Role.MASTER]
        # Its own attempt, and one after each attempt of another that it heard in that family for a while.
        assert len(taken) <= len(lan.nodes)
    lan.run(500)
    assert lan.history[settled:] == []
    assert len(lan.masters()) == 1
