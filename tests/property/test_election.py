"""Elections on a simulated LAN under faults: who may be master, for how long two may, and who holds the VIP when.

``HYPOTHESIS_PROFILE=long`` looks much longer than ``make test`` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.protocol.types import GroupConfig, Reason, Role
from tests.fakes.faults import (
    Crash,
    Cut,
    Demote,
    EngineCrash,
    Fault,
    HandOver,
    Heal,
    Link,
    Loss,
    Mute,
    ParentPause,
    Partition,
    Pause,
    Promote,
    Refuse,
    Restart,
    Stop,
)
from tests.fakes.host import Conditions, Node
from tests.fakes.lan import Lan
from tests.fakes.verdict import check_story
from tests.fakes.watchers import AtMost, bound, down, interval, moment, rank

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def examples(count: int) -> settings:
    return settings(max_examples=count * (30 if LONG else 1), suppress_health_check=SLOW)


# What may happen ---------------------------------------------------------------------------------------------------

SOURCES = [IPv4Address(f"10.0.{n}.{10 - n}") for n in range(5)]  # the two tie-breaks order them the other way round
SOURCES6 = [IPv6Address(f"fe80::{n:x}:{10 - n:x}") for n in (3, 0, 4, 1, 2)]  # and IPv6 has an order of its own
SEEDS = st.integers(0, 2**32 - 1)
NODE = st.integers(0, 4)
NAMES = st.sampled_from(("maintenance", "link:eth0", "health"))
DELAYS = st.sampled_from((0.0, 0.0, 0.0, 1.0, 5.0))
# 1.94 s between adverts at most: the lease of 2 s must last from one to the next.
SKEWS = st.one_of(st.integers(0, 240), st.sampled_from((0, 0, 1, 100)))


@st.composite
def fleets(
    draw: st.DrawFn,
    *,
    skews: st.SearchStrategy[int] = SKEWS,
    advbases: Sequence[int] = (1,),
    dead_ratios: Sequence[int] = (3,),
) -> list[GroupConfig]:
    """2..5 nodes of one group: dead ratio and preempt are the fleet's, the rest is each node's own."""
    common = GroupConfig(
        name="web",
        vhid=1,
        source=SOURCES[0],
        dead_ratio=draw(st.sampled_from(dead_ratios)),
        preempt=draw(st.booleans()),
    )
    dual = draw(st.booleans())
    return [
        replace(
            common,
            source=SOURCES[number],
            second_source=SOURCES6[number] if dual else None,
            advbase=draw(st.sampled_from(advbases)),
            advskew=draw(skews),
            startup_delay=draw(DELAYS),
            preempt_delay=draw(DELAYS),
        )
        for number in range(draw(st.integers(2, 5)))
    ]


def stories(unit: float, *, demoted: bool = True) -> st.SearchStrategy[list[tuple[float, Fault]]]:
    """Lists of (seconds since the one before, fault); ``unit`` is about a master-down interval."""
    short = st.floats(0, 2 * unit)
    kinds: list[st.SearchStrategy[Fault]] = [
        st.builds(Crash, NODE),
        st.builds(Restart, NODE),
        st.builds(EngineCrash, NODE, short),
        st.builds(Pause, NODE, short),
        st.builds(ParentPause, NODE, short),
        st.builds(Link, NODE, st.booleans()),
        st.builds(Stop, NODE),
        st.builds(Refuse, NODE, st.integers(1, 2)),
        st.builds(HandOver, NODE),
        st.builds(Cut, NODE, NODE),
        st.builds(Partition, st.frozensets(NODE, min_size=1, max_size=4)),
        st.builds(Heal),
        st.builds(Mute, st.sampled_from((4, 6))),
        st.builds(Loss, st.sampled_from((0.0, 0.1, 0.5, 0.9))),
    ]
    if demoted:
        kinds += [
            st.builds(Demote, NODE, NAMES, st.sampled_from((1, 2, 100, 240, 1000))),
            st.builds(Promote, NODE, NAMES),
        ]
    return st.lists(st.tuples(short, st.one_of(kinds)), max_size=8)


# Any story ---------------------------------------------------------------------------------------------------------


@examples(300)
@given(
    configs=fleets(),
    delay=st.sampled_from((0.0005, 0.002, 0.02)),
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


FAST = Conditions(delay=0.0002, wake=0.0002, work=0.0002)


@pytest.mark.parametrize(
    ("fleet", "conditions", "story"),
    [
        # Adverts every 16 to 250 ms; the kernel's shortest lease outlasts the takeover after a crash here.
        # A demoted node whose timer is shorter than a better one's interval would stand up again and again.
        (fleets(advbases=(0,), skews=st.integers(4, 64)), FAST, stories(0.2, demoted=False)),
        (fleets(advbases=(0,), skews=st.integers(24, 64)), FAST, stories(0.2)),
        (fleets(advbases=(1, 2, 5), dead_ratios=(3, 4)), Conditions(), stories(8.0, demoted=False)),
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


@st.composite
def calm_lans(draw: st.DrawFn) -> Lan:
    """A LAN at default timing with one master, at some moment between two of its adverts."""
    lan = Lan(draw(fleets()), Conditions(), seed=draw(SEEDS))
    lan.start()
    lan.run(bound(lan) + draw(st.floats(0, 2)))
    return lan


def watch_handover(lan: Lan, *, together: float = 0.0) -> Node:
    """Let nobody answer for longer than that together with the master of now, which is returned, until it preempts.

    A node that preempts, and successors that stand up at once (equal skews), may overlap until the first advert is
    heard and obeyed.
    """
    (old,) = lan.masters()

    def both(first: Node, second: Node) -> bool:
        return first.answers() and second.answers()

    def seconds(first: Node, second: Node) -> float:
        return together if old in (first, second) and old.reason is not Reason.PREEMPT else moment(lan)

    lan.watchers.append(AtMost(lan, both, seconds))
    return old


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


@examples(100)
@given(calm_lans())
def test_a_planned_stop_takes_a_tenth_of_a_second_and_no_two_answer(lan: Lan) -> None:
    old = watch_handover(lan)
    stop = lan.now
    lan.inject(Stop(old.number))
    lan.run(10)
    assert first_takeover(lan, since=stop) <= 0.1
    assert len(lan.masters()) == 1


@examples(100)
@given(calm_lans(), st.floats(0, 8))
def test_after_a_pause_the_kernel_has_let_go_before_another_answers(lan: Lan, seconds: float) -> None:
    # Not 0: who wakes just before its peers' timers are due may meet a successor for as long as an advert takes.
    old = watch_handover(lan, together=moment(lan))
    lan.inject(Pause(old.number, seconds))
    lan.run(20)
    assert len(lan.masters()) == 1


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
