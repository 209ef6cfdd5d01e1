"""A random fleet and a random story for it, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from sidecar.protocol.types import GroupConfig
from tests.fakes.clocks import Attack, ClockedLan, ClockStep
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

Happening = Fault | ClockStep | Attack
LONGEST_STORY = 40
DELAYS = (0.0, 0.0, 0.0, 1.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A sort of fleet. ``unit`` is about a master-down interval in seconds."""

    name: str
    weight: int
    unit: float
    advbases: tuple[int, ...] = (1,)
    skews: tuple[int, int] = (0, 240)
    dead_ratios: tuple[int, ...] = (3,)
    delays: tuple[float, ...] = (0.0005, 0.002, 0.02, 1.2)
    slow: float = 0.001
    """What loop and parent take at most to serve something, seconds."""
    demoted: bool = True
    clocked: bool = False
    calm: float = 1.0
    """How many units pass between two faults, on average."""


KINDS = (
    Kind(name="default timing", weight=8, unit=3.0),
    Kind(name="hours between faults", weight=2, unit=3.0, calm=2000.0),
    Kind(name="under a second", weight=3, unit=0.2, advbases=(0,), skews=(24, 64), delays=(0.0002, 0.02), slow=0.0002),
    # A demoted node whose timer is shorter than a better one's interval would stand up again and again.
    Kind(name="mixed intervals", weight=2, unit=8.0, advbases=(1, 2, 5), dead_ratios=(3, 4), demoted=False),
    Kind(name="sealed", weight=4, unit=3.0, clocked=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a run consists of. ``interruptions`` are by step, see ``Lan.interruptions``."""

    seed: int
    kind: str
    configs: tuple[GroupConfig, ...]
    conditions: Conditions
    offsets: tuple[float, ...] | None
    story: tuple[tuple[float, Happening], ...]
    interruptions: dict[int, Fault] = field(default_factory=dict)

    def lan(self) -> Lan:
        """Return the LAN on which it will happen."""
        if self.offsets is None:
            made = Lan(self.configs, self.conditions, seed=self.seed)
        else:
            made = ClockedLan(self.configs, self.conditions, seed=self.seed, offsets=self.offsets)
        made.interruptions = {step: _to(fault) for step, fault in self.interruptions.items()}
        return made


def _to(fault: Fault) -> Callable[[int], Fault]:
    return lambda node: replace(fault, node=node)  # type: ignore[call-arg]


def make(seed: int) -> Case:
    """Return the case of this seed."""
    chance = random.Random(seed)
    (kind,) = chance.choices(KINDS, [each.weight for each in KINDS])
    dual = chance.random() < 0.4
    common = GroupConfig(
        name="web",
        vhid=1,
        source=IPv4Address("10.0.0.1"),
        dead_ratio=chance.choice(kind.dead_ratios),
        preempt=chance.random() < 0.5,
    )
    configs = tuple(
        replace(
            common,
            source=IPv4Address(f"10.0.{number}.{10 - number}"),
            second_source=IPv6Address(f"fe80::{chance.randrange(1, 2**16):x}:{number}") if dual else None,
            advbase=chance.choice(kind.advbases),
            advskew=_skew(chance, kind),
            startup_delay=chance.choice(DELAYS),
            preempt_delay=chance.choice(DELAYS),
        )
        for number in range(chance.choices((2, 3, 4, 5), (4, 4, 1, 1))[0])
    )
    conditions = Conditions(
        delay=chance.choice(kind.delays),
        wake=kind.slow,
        work=2 * kind.slow,
        duplication=chance.choice((0.0, 0.1)),
        sealed=kind.clocked or chance.random() < 0.5,
    )
    return Case(
        seed=seed,
        kind=kind.name,
        configs=configs,
        conditions=conditions,
        offsets=tuple(chance.uniform(-20, 20) for _ in configs) if kind.clocked else None,
        story=tuple(_story(chance, kind, len(configs))),
    )


def _skew(chance: random.Random, kind: Kind) -> int:
    return chance.choice((chance.randint(*kind.skews), kind.skews[0], 100 if kind.skews[1] > 100 else 30))


def _story(chance: random.Random, kind: Kind, nodes: int) -> list[tuple[float, Happening]]:
    length = chance.randint(1, LONGEST_STORY)
    return [
        (chance.expovariate(1 / (kind.unit * kind.calm)), happening(chance, nodes, unit=kind.unit, kind=kind))
        for _ in range(length)
    ]


def happening(chance: random.Random, nodes: int, *, unit: float, kind: Kind) -> Happening:
    """Return something that may happen to one of ``nodes`` nodes."""
    node = chance.randrange(nodes)
    name = chance.choice(("maintenance", "link:eth0", "health"))
    short = chance.choice((chance.uniform(0, 2), chance.uniform(0, 0.2), chance.uniform(0, 6))) * unit
    makers: list[Callable[[], Happening]] = [
        lambda: Crash(node),
        lambda: Restart(node),
        lambda: Restart(node),
        lambda: EngineCrash(node, short),
        lambda: Pause(node, short),
        lambda: ParentPause(node, short),
        lambda: Link(node, up=False),
        lambda: Link(node, up=True),
        lambda: Link(node, up=True),
        lambda: Stop(node),
        lambda: Keep(node, short),
        lambda: _other_settings(chance, kind, node),
        lambda: Retune(chance.choice(kind.dead_ratios), chance.random() < 0.5),
        lambda: Refuse(node, chance.randint(1, 3)),
        lambda: Disturb(node),
        lambda: Occupy(node, short),
        lambda: HandOver(node),
        lambda: Cut(node, chance.randrange(nodes)),
        lambda: Deaf(node, chance.randrange(nodes)),
        lambda: Partition(frozenset(chance.sample(range(nodes), chance.randint(1, nodes - 1)))),
        Heal,
        Heal,
        lambda: Mute(chance.choice((4, 6))),
        lambda: Loss(chance.choice((0.0, 0.0, 0.1, 0.5, 0.9))),
    ]
    if kind.demoted:
        makers += [
            lambda: Demote(node, name, chance.choice((1, 2, 100, 240, 1000))),
            lambda: Promote(node, name),
            lambda: Promote(node, name),
        ]
    if kind.clocked:
        fields = ("", "", "source", "advbase", "advskew", "demotion", "counter")
        makers += [lambda: ClockStep(node, chance.uniform(-30, 30))] * 3
        makers += [lambda: Attack(node, chance.randrange(60), chance.choice(fields))] * 5
    return chance.choice(makers)()


def _other_settings(chance: random.Random, kind: Kind, node: int) -> Reconfigure:
    delays = chance.choice(DELAYS), chance.choice(DELAYS)
    return Reconfigure(node, chance.choice(kind.advbases), _skew(chance, kind), *delays)


def interruption(chance: random.Random, *, unit: float) -> Fault:
    """Return something that may happen to a node in the middle of what it does."""
    short = chance.uniform(0, 2) * unit
    faults = (
        Crash(0),
        EngineCrash(0, short),
        Pause(0, short),
        ParentPause(0, short),
        Stop(0),
        HandOver(0),
        Keep(0, short),
    )
    return chance.choice(faults)


def unit_of(case: Case) -> float:
    """Return about a master-down interval of the case, in seconds."""
    return next(kind.unit for kind in KINDS if kind.name == case.kind)
