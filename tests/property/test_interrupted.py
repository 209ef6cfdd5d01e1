"""Every sequence once more, cut at each of its steps: after any event and any effect something happens to who acted.

The idea is Patroni's (``tests/test_quorum.py``). ``HYPOTHESIS_PROFILE=long`` tries every interruption at every step,
else they take turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

import pytest

from sidecar.protocol.types import GroupConfig
from tests.fakes.faults import (
    Crash,
    Demote,
    EngineCrash,
    Fault,
    HandOver,
    Heal,
    Keep,
    Link,
    ParentPause,
    Partition,
    Pause,
    Promote,
    Reconfigure,
    Refuse,
    Restart,
    Stop,
)
from tests.fakes.host import Conditions
from tests.fakes.lan import Lan
from tests.fakes.verdict import Story, check_story, play

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

# The first node is the master, 3 s after the start, unless the story has it otherwise.
STORIES: Mapping[str, Story] = MappingProxyType(
    {
        "election": [(5.0, Heal())],
        "planned stop": [(4.2, Stop(0)), (3.0, Restart(0))],
        "crash and return": [(4.2, Crash(0)), (4.0, Restart(0)), (2.0, Heal())],
        "hand over": [(4.2, HandOver(0)), (2.0, Heal())],
        "demote and promote": [(4.2, Demote(0, "maintenance", 240)), (2.0, Promote(0, "maintenance")), (2.0, Heal())],
        "partition": [(4.2, Partition(frozenset({0}))), (4.0, Heal()), (2.0, Heal())],
        "bind refused": [(2.0, Refuse(0, 1)), (3.0, Heal())],
        "carrier lost": [(4.2, Link(0, up=False)), (4.0, Link(0, up=True)), (2.0, Heal())],
        # With preemption it is master again, and stops, before its first release is served.
        "parent behind": [
            (4.2, ParentPause(0, 4.0)),
            (0.1, Demote(0, "maintenance", 240)),
            (0.2, Promote(0, "maintenance")),
            (2.5, Stop(0)),
            (3.0, Heal()),
        ],
        "kept within the lease": [(4.2, Keep(0, 1.0)), (4.0, Heal())],
        "kept for too long": [(4.2, Keep(0, 5.0)), (7.0, Heal())],
        "other settings": [(4.2, Reconfigure(0, 1, 150)), (0.7, Reconfigure(1, 1, 0)), (2.0, Heal())],
        "parent hangs": [(4.2, ParentPause(0, 4.0)), (5.0, Heal())],
    }
)
INTERRUPTIONS: tuple[Callable[[int], Fault], ...] = (
    Crash,
    partial(EngineCrash, back_after=0.2),
    partial(EngineCrash, back_after=4.0),
    partial(Pause, seconds=1.0),
    partial(Pause, seconds=4.0),
    partial(ParentPause, seconds=4.0),
    Stop,
    partial(Keep, back_after=1.0),
)


def make(*, preempt: bool, seed: int) -> Lan:
    base = GroupConfig(name="web", vhid=1, source=IPv4Address("10.0.0.1"), preempt=preempt)
    configs = [
        replace(
            base,
            source=IPv4Address(f"10.0.0.{number + 1}"),
            second_source=IPv6Address(f"fe80::{number + 1}"),
            advskew=50 * number,
        )
        for number in range(3)
    ]
    return Lan(configs, Conditions(), seed=seed)


CASES = [(name, preempt) for name in STORIES for preempt in (False, True)]


@pytest.mark.parametrize(("name", "preempt"), CASES)
def test_interrupted_anywhere(name: str, preempt: bool) -> None:
    story = STORIES[name]
    whole = make(preempt=preempt, seed=1)
    whole.start()
    play(whole, story)
    turns = len(INTERRUPTIONS) if LONG else 1
    for step in range(1, whole.steps + 1):
        for turn in range(turns):
            fault = INTERRUPTIONS[(step + turn) % len(INTERRUPTIONS)]
            lan = make(preempt=preempt, seed=1)
            lan.interruptions[step] = fault
            try:
                check_story(lan, story)
            except AssertionError as error:
                error.add_note(f"interrupted after step {step} by {fault}")
                raise
