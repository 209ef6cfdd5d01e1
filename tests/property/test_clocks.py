"""Sealed adverts on the simulated LAN: clocks, replays and forgeries change nothing at all."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.types import DropReason, GroupConfig
from tests.fakes.clocks import Attack, ClockedLan, ClockStep
from tests.fakes.faults import Crash, Fault, Restart
from tests.fakes.host import Conditions
from tests.fakes.verdict import check_story
from tests.fakes.watchers import bound
from tests.property.strategies import NODE, SEEDS, SOURCES, SOURCES6, examples, fleets, stories

FIELDS = st.sampled_from(("", "", "source", "advbase", "advskew", "demotion", "counter"))
attacks = st.builds(Attack, NODE, st.integers(0, 50), FIELDS)
offsets = st.lists(st.floats(-20, 20), min_size=5, max_size=5)


def mischief(most: float) -> st.SearchStrategy[list[tuple[float, ClockStep | Attack]]]:
    steps = st.builds(ClockStep, NODE, st.floats(-most, most))
    return st.lists(st.tuples(st.floats(0, 2), steps | attacks), max_size=8)


def merged(
    story: list[tuple[float, Fault]], other: list[tuple[float, ClockStep | Attack]]
) -> list[tuple[float, Fault | ClockStep | Attack]]:
    """Return one story of two that begin at the same time."""
    timed = []
    for each in (story, other):
        now = 0.0
        for gap, fault in each:
            now += gap
            timed.append((now, fault))
    timed.sort(key=lambda pair: pair[0])
    times = [0.0, *(time for time, _ in timed)]
    return [(time - before, fault) for before, (time, fault) in zip(times, timed, strict=False)]


@examples(100)
@given(
    configs=fleets(),
    delay=st.sampled_from((0.0005, 0.02)),
    duplication=st.sampled_from((0.0, 0.2)),
    offsets=offsets,
    story=stories(3.0),
    mischief=mischief(30.0),
    seed=SEEDS,
)
def test_every_story_goes_as_with_right_clocks_and_without_attacks(
    *,
    configs: list[GroupConfig],
    delay: float,
    duplication: float,
    offsets: list[float],
    story: list[tuple[float, Fault]],
    mischief: list[tuple[float, ClockStep | Attack]],
    seed: int,
) -> None:
    conditions = Conditions(delay=delay, duplication=duplication)
    whole = merged(story, mischief)
    honest = ClockedLan(configs, conditions, seed=seed, honest=True)
    check_story(honest, whole)
    hostile = ClockedLan(configs, conditions, seed=seed, offsets=offsets)
    check_story(hostile, whole)
    assert hostile.history == honest.history
    assert not any(node.drops.get(DropReason.CLOCK_SKEW) for node in hostile.nodes)


@examples(50)
@given(configs=fleets(), mischief=mischief(1e7), seed=SEEDS)
def test_no_step_of_any_size_changes_a_role(
    configs: list[GroupConfig], mischief: list[tuple[float, ClockStep | Attack]], seed: int
) -> None:
    lan = ClockedLan(configs, Conditions(), seed=seed, most=1e8, allowed=0.9)
    lan.start()
    lan.run(bound(lan))
    settled, drops = len(lan.history), [dict(node.drops) for node in lan.nodes]
    for gap, fault in mischief:
        lan.run(gap)
        lan.inject(replace(fault, node=fault.node % len(lan.nodes)))
    lan.run(20)
    assert lan.history[settled:] == []
    assert [node.drops for node in lan.nodes] == drops


def test_ticks_keep_pace_with_the_clock_at_the_fastest_timing_over_both_families() -> None:
    base = GroupConfig(name="web", vhid=1, source=SOURCES[0], advbase=0)
    configs = [
        replace(base, source=SOURCES[number], second_source=SOURCES6[number], advskew=number + 1) for number in (0, 1)
    ]
    lan = ClockedLan(configs, Conditions(delay=0.0001, wake=0.0001, work=0.0001), seed=1, allowed=2.0)
    lan.start()
    lan.run(5.0)
    (master,) = lan.masters()
    (backup,) = (node for node in lan.nodes if node is not master)
    lan.inject(Crash(backup.number))
    lan.inject(Restart(backup.number))
    lan.run(1.0)
    assert lan.masters() == [master]
