"""A story of faults on a simulated LAN, and what has to hold while it lasts and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sidecar.protocol.types import GroupConfig, Reason, Role
from tests.fakes.clocks import Attack, ClockStep
from tests.fakes.faults import Cut, Deaf, Fault, Heal, Loss, Mute, Partition, Promote, Retune
from tests.fakes.lan import Lan
from tests.fakes.watchers import (
    Balance,
    KeptLease,
    Strangers,
    bound,
    down,
    no_two_answerers,
    no_two_masters,
    rank,
    shortest_interval,
)

Story = Sequence[tuple[float, Fault | ClockStep | Attack]]
"""(seconds since the one before, fault)."""


def check_story(lan: Lan, story: Story) -> int:
    """Start all nodes, play the story, and raise AssertionError where something is not as it has to be.

    Returns how many steps the story took.
    """
    lan.watchers += [no_two_masters(lan), no_two_answerers(lan), KeptLease(lan)]
    lan.listeners += [Balance(), Strangers()]
    lan.start()
    play(lan, story)
    steps = lan.steps
    lan.interruptions.clear()
    check_outcome(lan)
    check_recovery(lan)
    check_no_storm(lan)
    check_delays(lan)
    return steps


def play(lan: Lan, story: Story) -> None:
    """Let the faults happen; one that names a node that the LAN does not have happens to another."""
    count = len(lan.nodes)
    for gap, fault in story:
        lan.run(gap)
        match fault:
            case Cut(sender, receiver) | Deaf(sender, receiver):
                lan.inject(type(fault)(sender % count, receiver % count))
            case Partition(members):
                lan.inject(Partition(frozenset(n % count for n in members)))
            case Heal() | Loss() | Mute() | Retune():
                lan.inject(fault)
            case _:
                lan.inject(replace(fault, node=fault.node % count))


def check_outcome(lan: Lan) -> None:
    """After the last fault: one master within the bound, the best where preempt is on, and no change after that."""
    lan.settle()
    lan.run(bound(lan))
    settled = len(lan.history)
    lan.run(2 * max(down(node) for node in lan.nodes))
    assert lan.history[settled:] == [], "a role changed without a fault"
    contenders, masters = lan.contenders(), lan.masters()
    assert [node for node in lan.nodes if node.answers()] == masters
    assert len(masters) == bool(contenders)
    if masters and masters[0].config.preempt:
        assert rank(masters[0]) == min(rank(node) for node in contenders)


def check_recovery(lan: Lan) -> None:
    """Once all demotions are given back there is none, and the outcome is that of undemoted nodes."""
    if any(node.demotion for node in lan.nodes):
        for node in lan.nodes:
            for name in tuple(node.demotions):
                lan.inject(Promote(node.number, name))
        check_outcome(lan)
    assert all(node.demotion == 0 for node in lan.contenders())


def check_no_storm(lan: Lan) -> None:
    """Rivals answer one another at most once per interval, whatever was lost, repeated or late."""
    for node in lan.nodes:
        changes = sum(change.node == node.number for change in lan.history) + len(node.settings)
        assert node.sent <= 2 * (lan.now / shortest_interval(node) + 1) + 2 * changes


def check_delays(lan: Lan) -> None:
    """Nobody leads before its start-up delay is over, nor preempts before its preempt delay is."""
    began: dict[int, tuple[float, GroupConfig]] = {}
    for change in lan.history:
        match change.reason:
            case Reason.START | Reason.LINK_UP:
                began[change.node] = change.at, lan.nodes[change.node].settings_at(change.at)
            case Reason.RESUMED:
                began[change.node] = -math.inf, lan.nodes[change.node].config
            case Reason.PREEMPT:
                since, config = began[change.node]
                assert change.at >= since + max(config.startup_delay, config.preempt_delay)
            case _ if change.after is Role.MASTER:
                since, config = began[change.node]
                assert change.at >= since + config.startup_delay
