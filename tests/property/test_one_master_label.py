"""One pod says master, whatever the way to the API server does to the agents of both sides of each failover.

The real thing, two hundred of them before a real API server, is in tests/cluster/test_mirror.py; this is the same in
virtual time, and many times as many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fakes.mirror import Agent, agent, running, snapshot
from tests.fakes.pods import FakePods
from tests.fakes.time import run, until

NAMES = "abc"
MOMENTS = st.sampled_from([0.0, 0.02, 0.1, 0.5])


@dataclass(frozen=True)
class FailOver:
    """``winner`` counts from the old master on; ``dies``: what becomes of the old one's way, "" if it lives and yields.

    ``outage`` is what the winner's way suffers for ``lasts`` seconds, "" for nothing.
    """

    winner: int
    dies: str
    outage: str
    lasts: float
    pause: float


FAIL_OVERS = st.builds(
    FailOver,
    winner=st.integers(1, len(NAMES) - 1),
    dies=st.sampled_from(["", "cut", "deaf", "silent"]),
    outage=st.sampled_from(["", "", "cut", "deaf"]),
    lasts=st.sampled_from([0.0, 0.3, 2.0]),
    pause=st.sampled_from([0.0, 0.0, 0.7, 3.0]),
)


@dataclass(frozen=True)
class Way:
    """How long it takes to the API server and back."""

    there: float
    back: float


@settings(max_examples=30, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # to shrink a story takes minutes
@given(
    ways=st.lists(st.builds(Way, there=MOMENTS, back=MOMENTS), min_size=len(NAMES), max_size=len(NAMES)),
    story=st.lists(FAIL_OVERS, min_size=5, max_size=20),
)
def test_never_two_pods_say_master_where_each_claim_arrives_before_the_next_failover(
    ways: Sequence[Way], story: Sequence[FailOver]
) -> None:
    pods = FakePods()
    for name in NAMES:
        pods.add(name)
    agents = [agent(pods, name) for name in NAMES]
    for each, way in zip(agents, ways, strict=True):
        each.client.delay, each.client.back = way.there, way.back
    run(played(pods, agents, story))
    assert not [masters for masters in pods.history if len(masters) > 1]


async def played(pods: FakePods, agents: Sequence[Agent], story: Sequence[FailOver]) -> None:
    transitions = 0

    def is_now(number: int, role: str, reason: str) -> None:
        nonlocal transitions
        transitions += 1
        agents[number].reconciler.offer(snapshot(role, transitions=transitions, reason=reason))

    def suffers(number: int, fault: str, suffers: bool) -> None:
        if fault:
            setattr(agents[number].client, fault, suffers)
            pods.end_watches()

    async with running(*agents):
        master = 0
        is_now(master, "master", "master-down")
        await until(lambda: pods.masters() == [NAMES[master]], "the first")
        for each in story:
            winner = (master + each.winner) % len(NAMES)
            suffers(master, each.dies, True)
            suffers(winner, each.outage, True)
            is_now(winner, "master", "master-down" if each.dies else "preempt")
            if not each.dies:
                is_now(master, "backup", "better-master")
            await asyncio.sleep(each.lasts)
            suffers(winner, each.outage, False)
            await until(lambda: pods.masters() == [NAMES[winner]], "the label follows")  # noqa: B023 - at once
            await asyncio.sleep(each.pause)
            if each.dies:
                is_now(master, "backup", "woke-late")
                suffers(master, each.dies, False)
            master = winner
        await asyncio.sleep(5)
        assert pods.masters() == [NAMES[master]]
