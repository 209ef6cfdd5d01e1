"""Whatever the network does to the roles and to the way to the API server: it ends with one label, and it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.mirror import Agent, agent, running, snapshot
from tests.fakes.pods import FakePods
from tests.fakes.time import run

NODES = 3
REASONS = ("master-down", "preempt", "bow-out", "slower-master")


@dataclass(frozen=True)
class Step:
    """A node's role changes, or its way to the API server is cut, slow or whole again; then time goes by."""

    node: int
    what: str
    reason: str
    wait: float


STEPS = st.lists(
    st.builds(
        Step,
        node=st.integers(0, NODES - 1),
        what=st.sampled_from(["master", "backup", "master", "backup", "cut", "whole", "slow", "edit"]),
        reason=st.sampled_from(REASONS),
        wait=st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0, 5.0]),
    ),
    max_size=25,
)


class Cluster:
    def __init__(self) -> None:
        self.pods = FakePods()
        for name in "abc"[:NODES]:
            self.pods.add(name)
        self.agents = [agent(self.pods, name) for name in self.pods.pods]
        self.transitions = [0] * NODES

    def is_now(self, number: int, role: str, reason: str) -> None:
        self.transitions[number] += 1
        told = snapshot(
            role,
            transitions=self.transitions[number],
            reason=reason,
            since=asyncio.get_running_loop().time() + self.transitions[number] / 1000,
        )
        self.agents[number].reconciler.offer(told)

    def take(self, step: Step) -> None:
        client = self.agents[step.node].client
        match step.what:
            case "cut":
                client.cut = True
                self.pods.end_watches()
            case "whole":
                client.cut, client.delay = False, 0.0
            case "slow":
                client.delay = 0.2
            case "edit":
                self.pods.edit(self.agents[step.node].name, {"carp-role": None})
            case role:
                self.is_now(step.node, role, step.reason)

    def heal(self) -> list[Agent]:
        for each in self.agents:
            each.client.cut, each.client.delay = False, 0.0
        self.pods.end_watches()
        return self.agents


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, winner=st.integers(0, NODES - 1), reason=st.sampled_from(REASONS))
def test_once_the_network_agrees_exactly_one_pod_says_master_and_nobody_writes_any_more(
    steps: list[Step], winner: int, reason: str
) -> None:
    async def story() -> None:
        cluster = Cluster()
        async with running(*cluster.agents):
            for step in steps:
                cluster.take(step)
                await asyncio.sleep(step.wait)
            cluster.heal()
            for number in range(NODES):
                if number != winner:
                    cluster.is_now(number, "backup", "better-master")
            cluster.is_now(winner, "master", reason)
            await asyncio.sleep(5)
            assert cluster.pods.masters() == [cluster.agents[winner].name]
            written = len(cluster.pods.writes)
            await asyncio.sleep(600)
            assert cluster.pods.masters() == [cluster.agents[winner].name]
            assert len(cluster.pods.writes) == written
            assert all(each.status.pending_since is None for each in cluster.agents)

    run(story())


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, masters=st.sets(st.integers(0, NODES - 1), min_size=2), reason=st.sampled_from(REASONS))
def test_where_the_network_never_agrees_one_of_its_masters_says_so_and_it_ends_too(
    steps: list[Step], masters: set[int], reason: str
) -> None:
    async def story() -> None:
        cluster = Cluster()
        async with running(*cluster.agents):
            for step in steps:
                cluster.take(step)
                await asyncio.sleep(step.wait)
            cluster.heal()
            for number in range(NODES):
                cluster.is_now(number, "master" if number in masters else "backup", reason)
            await asyncio.sleep(60)
            (said,) = cluster.pods.masters()
            assert said in {cluster.agents[number].name for number in masters}
            written = len(cluster.pods.writes)
            await asyncio.sleep(600)
            assert cluster.pods.masters() == [said]
            assert len(cluster.pods.writes) == written

    run(story())
