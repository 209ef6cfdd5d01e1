"""What may happen on the simulated LAN, as hypothesis draws it.

``HYPOTHESIS_PROFILE=long`` looks much longer; ``mutation`` always looks at the same and makes no failing example
smaller, ``mutants`` does so with fewer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from sidecar.protocol.types import GroupConfig
from tests.fakes.faults import (
    Crash,
    Cut,
    Deaf,
    Demote,
    Disturb,
    EngineCrash,
    Fault,
    HandOver,
    Heal,
    Keep,
    Link,
    Loss,
    Mute,
    Occupy,
    ParentPause,
    Partition,
    Pause,
    Promote,
    Reconfigure,
    Refuse,
    Restart,
    Retune,
    Stop,
)
from tests.fakes.host import Conditions
from tests.fakes.lan import Lan
from tests.fakes.watchers import bound

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "")
LONG = PROFILE == "long"
HUNTED = PROFILE in {"mutation", "mutants"}
TIMES = {"long": 30.0, "mutants": 0.3}.get(PROFILE, 1.0)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def examples(count: int) -> settings:
    """Return settings for so many examples; where bugs are planted, a first one that fails is enough."""
    hunt = settings(phases=[Phase.generate], derandomize=True, database=None) if HUNTED else settings()
    return settings(hunt, max_examples=round(count * TIMES), suppress_health_check=SLOW)


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
    dual: st.SearchStrategy[bool] = st.booleans(),  # noqa: B008 - a strategy is immutable
) -> list[GroupConfig]:
    """2..5 nodes of one group: dead ratio and preempt are the fleet's, the rest is each node's own."""
    common = GroupConfig(
        name="web",
        vhid=1,
        source=SOURCES[0],
        dead_ratio=draw(st.sampled_from(dead_ratios)),
        preempt=draw(st.booleans()),
    )
    both_families = draw(dual)
    return [
        replace(
            common,
            source=SOURCES[number],
            second_source=SOURCES6[number] if both_families else None,
            advbase=draw(st.sampled_from(advbases)),
            advskew=draw(skews),
            startup_delay=draw(DELAYS),
            preempt_delay=draw(DELAYS),
        )
        for number in range(draw(st.integers(2, 5)))
    ]


@st.composite
def calm_lans(draw: st.DrawFn, *, of: st.SearchStrategy[list[GroupConfig]] = fleets()) -> Lan:  # noqa: B008 - immutable
    """A LAN at default timing with one master, at some moment between two of its adverts."""
    lan = Lan(draw(of), Conditions(), seed=draw(SEEDS))
    lan.start()
    lan.run(bound(lan) + draw(st.floats(0, 2)))
    return lan


def stories(
    unit: float,
    *,
    demoted: bool = True,
    skews: st.SearchStrategy[int] = SKEWS,
    advbases: Sequence[int] = (1,),
    dead_ratios: Sequence[int] = (3,),
) -> st.SearchStrategy[list[tuple[float, Fault]]]:
    """Lists of (seconds since the one before, fault); ``unit`` is about a master-down interval.

    Settings that change stay as ``fleets`` has them.
    """
    short = st.floats(0, 2 * unit)
    kinds: list[st.SearchStrategy[Fault]] = [
        st.builds(Crash, NODE),
        st.builds(Restart, NODE),
        st.builds(EngineCrash, NODE, short),
        st.builds(Pause, NODE, short),
        st.builds(ParentPause, NODE, short),
        st.builds(Link, NODE, st.booleans()),
        st.builds(Stop, NODE),
        st.builds(Keep, NODE, short),
        st.builds(Reconfigure, NODE, st.sampled_from(advbases), skews, DELAYS, DELAYS),
        st.builds(Retune, st.sampled_from(dead_ratios), st.booleans()),
        st.builds(Refuse, NODE, st.integers(1, 2)),
        st.builds(Disturb, NODE),
        st.builds(Occupy, NODE, st.floats(0.1, 2.5)),
        st.builds(HandOver, NODE),
        st.builds(Cut, NODE, NODE),
        st.builds(Deaf, NODE, NODE),
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


def demotions(unit: float) -> st.SearchStrategy[list[tuple[float, Fault]]]:
    """Lists of demotions and promotions from few sources, and what may happen to an engine in between."""
    first = st.integers(0, 1)
    names = st.sampled_from(("maintenance", "health"))
    kinds = (
        st.builds(Demote, first, names, st.integers(1, 300)),
        st.builds(Promote, first, names),
        st.builds(EngineCrash, first, st.floats(0, unit)),
    )
    return st.lists(st.tuples(st.floats(0, unit), st.one_of(kinds)), max_size=12)
