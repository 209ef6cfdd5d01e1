"""What is measured on the simulated LAN, and watchers that raise where something is that may be at no moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

from sidecar.protocol import effects, events, timing
from sidecar.protocol.demotion import ADVSKEW_AT_MOST, HARD, MOST_ON_WIRE
from sidecar.protocol.machine import LEASE, Group
from sidecar.protocol.types import BOW_OUT, HANDS_OVER, LET_GO, GroupConfig, Role
from tests.fakes.host import Node
from tests.fakes.lan import Lan


def down(node: Node) -> float:
    return _down(node.config)


def _down(config: GroupConfig) -> float:
    return timing.master_down(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)


def interval(node: Node) -> float:
    return _interval(node.config)


def _interval(config: GroupConfig) -> float:
    return timing.interval(advbase=config.advbase, advskew=config.advskew)


def shortest_interval(node: Node) -> float:
    """The shortest that it has ever had."""
    return min(map(_interval, node.had))


def rank(node: Node) -> tuple[int, float]:
    """The lower, the better: what preempt compares."""
    advskew = max(node.config.advskew, min(node.config.advskew + node.demotion, ADVSKEW_AT_MOST))
    return node.demotion, timing.interval(advbase=node.config.advbase, advskew=advskew)


def moment(lan: Lan) -> float:
    """What it takes at most to carry an advert, to wake for it, and to have the parent put or take a lease on it."""
    conditions = lan.conditions
    return conditions.delay + 2 * conditions.wake + 3 * conditions.work


def bound(lan: Lan) -> float:
    """From the last fault to the one master: the longest delay, timer or lease, and three intervals.

    One is the grace for who woke late, two are for rivals to settle it. Whose kernel refused the VIP waits before that.
    """
    had = [config for node in lan.nodes for config in node.had]  # what began under old settings may go on
    timers = max(map(_down, had))
    leases = max(config.lease for config in had) + lan.conditions.slop
    delays = max(max(config.startup_delay, config.preempt_delay) for config in had)
    standing = [each for node in lan.nodes if node.group for each in node.group.demotions.standing()]
    refused = max([each.until - lan.now for each in standing if each.name == LEASE], default=0.0)
    intervals = max(map(_interval, had))
    return max(0.0, refused) + delays + max(timers, leases) + 3 * intervals + 10 * moment(lan)


# Watchers: what may be at no moment --------------------------------------------------------------------------------

Pairwise = Callable[[Node, Node], bool]


class AtMost:
    """Fails where ``both`` holds of two nodes for longer than ``seconds`` allow them."""

    def __init__(self, lan: Lan, both: Pairwise, seconds: Callable[[Node, Node], float]) -> None:
        self._lan = lan
        self._both = both
        self._seconds = seconds
        self._since: dict[tuple[int, int], float] = {}
        self._most: dict[tuple[int, int], float] = {}
        """The longest that they were allowed since then: settings may change."""

    def __call__(self) -> None:
        now = self._lan.now
        for first, second in combinations(self._lan.nodes, 2):
            pair = (first.number, second.number)
            lasted = now - self._since.get(pair, now)
            most = self._most[pair] = max(self._seconds(first, second), self._most.get(pair, 0.0))
            assert lasted <= most, f"nodes {pair} for {lasted:.4f} s, at most {most:.4f} s, at {now:.4f}"
            if self._both(first, second):
                self._since.setdefault(pair, now)
            else:
                self._since.pop(pair, None)
                self._most.pop(pair, None)


def hear_each_other(lan: Lan, first: Node, second: Node) -> bool:
    """Two loops that run and lose nothing of one another."""
    if lan.muted:
        return False  # equal nodes wait for the family that decides between them
    ways = (first.number, second.number), (second.number, first.number)
    if any(way in lan.deaf for way in ways):
        return False  # a rival is answered by unicast, but an advert that nobody asked for is lost
    return first.runs and second.runs and not lan.conditions.loss and all(lan.hears(*way) for way in ways)


def no_two_masters(lan: Lan) -> AtMost:
    """Two masters that hear each other settle it by the next advert of the better one."""

    def both(first: Node, second: Node) -> bool:
        return first.role is second.role is Role.MASTER and hear_each_other(lan, first, second)

    def seconds(first: Node, second: Node) -> float:
        return max(interval(first), interval(second)) + lan.conditions.delay + 3 * lan.conditions.wake

    return AtMost(lan, both, seconds)


def no_two_answerers(lan: Lan) -> AtMost:
    """The same of their kernels, which follow once the loser's parent has let go, or the lease has ended."""

    def both(first: Node, second: Node) -> bool:
        if not (first.answers() and second.answers()):
            return False
        return first.parent_serves and second.parent_serves and hear_each_other(lan, first, second)

    def seconds(first: Node, second: Node) -> float:
        return max(interval(first), interval(second)) + 2 * moment(lan)

    return AtMost(lan, both, seconds)


@dataclass(slots=True)
class KeptLease:
    """A master whose loop runs holds the VIP without a break from the first confirmation on."""

    lan: Lan
    holding: set[int] = field(default_factory=set)

    def __call__(self) -> None:
        for node in self.lan.nodes:
            awake = node.runs and self.lan.now > node.stalled_until + moment(self.lan)
            if not (awake and node.role is Role.MASTER and node.confirmed):
                self.holding.discard(node.number)
            elif node.answers():
                self.holding.add(node.number)
            else:
                assert node.number not in self.holding, f"node {node.number} lost its lease at {self.lan.now:.4f}"


# Listeners: what no group may want ---------------------------------------------------------------------------------


class Balance:
    """Keeps each group's accounts: what was taken and not given back is its demotion, and its adverts say so.

    One that was asked to stop takes and gives nothing any more.
    """

    def __init__(self) -> None:
        self._accounts: dict[Group, dict[str, int]] = {}
        self._stopped: set[Group] = set()

    def __call__(self, node: Node, event: events.Event, wanted: tuple[effects.Effect, ...]) -> None:
        assert node.group is not None
        if node.group in self._stopped:
            return
        account = self._accounts.setdefault(node.group, {})
        match event:
            case events.Demote(name=name, weight=weight):
                account[name] = weight
            case events.Promote(name=name):
                account.pop(name, None)
            case events.Stop():
                self._stopped.add(node.group)
        taken = node.group.demotions.standing()
        assert all(each.detail for each in taken)
        standing = {each.name: each.weight for each in taken}
        lease = standing.pop(LEASE, 0)
        assert standing == account
        assert lease in {0, HARD}
        owed = min(sum(account.values()) + lease, MOST_ON_WIRE)
        configured = node.config.advskew
        advskew = max(configured, min(configured + owed, ADVSKEW_AT_MOST))
        for effect in wanted:
            if isinstance(effect, effects.Advertise):
                assert effect.demotion == owed
                assert effect.advskew in {advskew, BOW_OUT, HANDS_OVER, LET_GO}


class Strangers:
    """Nobody becomes master while a stranger answers, unless it has been master or has heard a member before."""

    def __init__(self) -> None:
        self._until: dict[Group, float] = {}
        self._proven: set[Group] = set()

    def __call__(self, node: Node, event: events.Event, wanted: tuple[effects.Effect, ...]) -> None:
        assert node.group is not None
        match event:
            case events.AdvertReceived() | events.Start(resume=True):
                self._proven.add(node.group)
            case events.Occupied(seconds=seconds):
                self._until[node.group] = node.lan.now + seconds
        if any(isinstance(effect, effects.RoleChanged) and effect.after is Role.MASTER for effect in wanted):
            assert node.group in self._proven or node.lan.now >= self._until.get(node.group, node.lan.now)
            self._proven.add(node.group)
