"""A LAN of CARP groups in virtual time: delay, loss, partitions, crashes and pauses, and kernels that lease the VIP.

Deterministic: one event queue, one seeded source of chance. All times are seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from sidecar.protocol import effects, events
from sidecar.protocol.types import GroupConfig, IPAddress, Role
from tests.fakes.client import Client, Mac
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
    NewMac,
    NodeFault,
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
from tests.fakes.host import Change, Conditions, Node


class Lan:
    """Nodes on one segment. ``watchers`` are called after every step; what they find wrong, they raise.

    ``listeners`` are told each event that a group takes, and what it wants done; ``observers`` each fault.
    """

    def __init__(
        self,
        configs: Sequence[GroupConfig],
        conditions: Conditions,
        *,
        seed: int,
        demotions: Sequence[int] = (),
    ) -> None:
        self.conditions = conditions
        self.now = 0.0
        self.history: list[Change] = []
        self.watchers: list[Callable[[], None]] = []
        self.observers: list[Callable[[Fault], None]] = []
        self.clients: list[Client] = []
        self.steps = 0
        """Events taken and effects carried out so far, by all nodes."""
        self.interruptions: dict[int, Callable[[int], Fault]] = {}
        """By the number of the step after which it happens: from the acting node to the fault."""
        self.listeners: list[Callable[[Node, events.Event, tuple[effects.Effect, ...]], None]] = []
        self._cut: set[tuple[int, int]] = set()
        self.muted: set[int | tuple[int, int]] = set()
        """IP versions whose adverts reach nobody, or those of one sender (number, IP version)."""
        self.deaf: set[tuple[int, int]] = set()
        """Senders and receivers between whom multicast is lost, but not unicast."""
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        every = [*demotions, *([0] * len(configs))]
        self.nodes = [Node(self, number, config, every[number]) for number, config in enumerate(configs)]

    # Time --------------------------------------------------------------------------------------------------------

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._sequence), action))

    def chance(self, most: float) -> float:
        return self._random.uniform(0.0, most)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            self._watch()
        self.now = end
        self._watch()

    def _watch(self) -> None:
        for watcher in self.watchers:
            watcher()

    def step(self, node: Node) -> None:
        """Note that ``node`` has done something; this may be the moment at which something happens to it."""
        self.steps += 1
        if self.steps in self.interruptions:
            self.inject(self.interruptions.pop(self.steps)(node.number))

    # The wire ----------------------------------------------------------------------------------------------------

    def hears(self, receiver: int, sender: int) -> bool:
        up = self.nodes[sender].link_up and self.nodes[receiver].link_up
        return up and (sender, receiver) not in self._cut

    def broadcast(self, sender: int, advert: effects.Advertise) -> None:
        self.nodes[sender].sent += 1
        config = self.nodes[sender].config
        for source in (config.source, config.second_source):
            if source is not None and not {source.version, (sender, source.version)} & self.muted:
                self._broadcast(sender, source, advert)

    def packet(
        self,
        sender: int,  # noqa: ARG002 - tests/fakes/clocks.py seals for it
        source: IPAddress,
        advert: effects.Advertise,
    ) -> events.AdvertReceived:
        """Return an advert as it arrives."""
        return events.AdvertReceived(
            source=source,
            advbase=advert.advbase,
            advskew=advert.advskew,
            demotion=advert.demotion,
            sealed=self.conditions.sealed,
        )

    def _broadcast(self, sender: int, source: IPAddress, advert: effects.Advertise) -> None:
        packet = self.packet(sender, source, advert)
        for node in self.nodes:
            if node.number == sender or (sender, node.number) in self.deaf:
                continue
            for _ in range(1 + (self._random.random() < self.conditions.duplication)):
                self._carry(sender, node, packet)

    def unicast(self, sender: int, target: IPAddress, advert: effects.Advertise) -> None:
        config = self.nodes[sender].config
        source = next(s for s in (config.source, config.second_source) if s is not None and s.version == target.version)
        for node in self.nodes:
            if target in (node.config.source, node.config.second_source):
                self._carry(sender, node, self.packet(sender, source, advert))

    def _carry(self, sender: int, receiver: Node, packet: events.AdvertReceived) -> None:
        if not self.hears(receiver.number, sender) or self._random.random() < self.conditions.loss:
            return

        def arrive() -> None:
            if self.hears(receiver.number, sender):
                receiver.deliver(packet)

        self.at(self.now + self.chance(self.conditions.delay), arrive)

    def announce(self, sender: int) -> None:
        """Tell the clients where the VIP is."""
        for client in self.clients:
            if self.nodes[sender].link_up and (sender, client.beside) not in self._cut:
                self.at(self.now + self.chance(self.conditions.delay), self._telling(client, self.nodes[sender].mac))

    def _telling(self, client: Client, mac: Mac) -> Callable[[], None]:
        return lambda: client.hear(mac, self.now)

    # Faults ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def inject(self, fault: Fault) -> None:
        """Let one fault happen now; one that makes no sense for the node as it is changes nothing."""
        for observer in self.observers:
            observer(fault)
        match fault:
            case Partition(members):
                others = set(range(len(self.nodes))) - members
                self._cut_all([pair for m in members for o in others for pair in ((m, o), (o, m))])
            case Cut(sender, receiver):
                self._cut_all([(sender, receiver)])
            case Deaf(sender, receiver):
                self.deaf.add((sender, receiver))
            case Heal():
                self._heal()
            case Mute(version):
                self.muted.add(version)
            case Loss(probability):
                self.conditions = replace(self.conditions, loss=probability)
            case Retune(dead_ratio=dead_ratio, preempt=preempt):
                for node in self.nodes:
                    node.reconfigure(replace(node.plan, dead_ratio=dead_ratio, preempt=preempt))
            case _:
                self._inject_into(self.nodes[fault.node], fault)
        self._watch()

    def _inject_into(self, node: Node, fault: NodeFault) -> None:
        match fault:
            case Crash() if node.group is not None:
                node.crash()
            case Restart() if node.group is None:
                node.start()
            case EngineCrash(back_after=delay) if node.group is not None:
                node.crash(engine_only=True)
                self.at(self.now + delay, node.revive)
            case Pause(seconds=seconds) if node.runs:
                node.pause(seconds)
            case ParentPause(seconds=seconds):
                node.pause_parent(seconds)
            case Link(up=up) if node.link_up != up:
                node.link_up = up
                node.deliver(events.LinkChanged(up=up))
            case NewMac():
                number, had = node.mac
                node.mac = number, had + 1
                node.deliver(events.LinkChanged(up=True))
            case _:
                self._ask(node, fault)

    def _ask(self, node: Node, fault: NodeFault) -> None:
        """Let somebody ask something of a node, if it is no fault of its lease."""
        match fault:
            case Stop():
                node.deliver(events.Stop())
            case Keep(back_after=delay) if node.group is not None:
                node.keep(delay)
            case Reconfigure():
                node.reconfigure(_changed(node.plan, fault))
            case Demote(name=name, weight=weight):
                node.demote(name, weight)
            case Promote(name=name):
                node.promote(name)
            case HandOver():
                node.deliver(events.HandOver())
            case _:
                self._inject_into_lease(node, fault)

    def _inject_into_lease(self, node: Node, fault: NodeFault) -> None:
        match fault:
            case Refuse(times=times):
                node.refusals = times
            case Disturb():
                node.disturb()
            case Occupy(seconds=seconds):
                node.deliver(events.Occupied(by="the VIP is at a stranger's", seconds=seconds))
            case _:
                return

    def _cut_all(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._cut.update((sender, receiver) for sender, receiver in pairs if sender != receiver)

    def _heal(self) -> None:
        self._cut.clear()
        self.muted.clear()
        self.deaf.clear()

    def settle(self) -> None:
        """End every fault that can end by itself: cuts, loss, pauses, refusals, an engine's absence, a restart."""
        self._heal()
        self.conditions = replace(self.conditions, loss=0.0)
        for node in self.nodes:
            node.refusals = 0
            node.resume_now()
            node.resume_parent_now()
            node.revive()
            node.come_back_now()

    def contenders(self) -> list[Node]:
        """Return the nodes that could be master."""
        return [node for node in self.nodes if node.group is not None and node.link_up]

    def masters(self) -> list[Node]:
        return [node for node in self.nodes if node.role is Role.MASTER]


def _changed(config: GroupConfig, fault: Reconfigure) -> GroupConfig:
    own = {field: getattr(fault, field) for field in ("advbase", "advskew", "preempt_delay", "startup_delay")}
    return replace(config, **own)
