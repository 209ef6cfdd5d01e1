"""A simulated LAN on which other implementations stand beside our own nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sidecar.protocol import events
from sidecar.protocol.effects import Advertise
from sidecar.protocol.types import GroupConfig, Reason, Role
from tests.fakes.foreign import Foreign
from tests.fakes.host import Change, Conditions, Node
from tests.fakes.lan import Lan


class ForeignNode(Node):
    """A host that runs another implementation; it answers for the VIP as long as it is master."""

    def __init__(self, lan: Lan, number: int, machine: Foreign) -> None:
        super().__init__(lan, number, machine.config, 0)
        self.machine = machine
        self._reads_at = 0.0

    @property
    def runs(self) -> bool:
        return self.machine.role is not Role.INIT

    @property
    def role(self) -> Role:
        return self.machine.role

    @property
    def demotion(self) -> int:
        return self.machine.demotion

    def answers(self) -> bool:
        return self.machine.role is Role.MASTER

    def start(self, *, resume: bool = False) -> None:  # noqa: ARG002 - nobody else has leases
        self._reads_at = self.lan.chance(self.machine.reads_late)
        self.machine.start(self.lan.now)
        self._arm()

    def crash(self, *, engine_only: bool = False) -> None:  # noqa: ARG002 - it is one process, or a kernel
        self.machine.crash()

    def deliver(self, event: events.Event) -> None:
        match event:
            case events.AdvertReceived():
                self.lan.at(self._read_time(), lambda: self._hear(event))
            case events.Stop():
                self._step(self.machine.stop())

    def _read_time(self) -> float:
        """Return when the buffer that an advert falls into now is read."""
        late = self.machine.reads_late
        if not late:
            return self.lan.now
        return self._reads_at + late * math.ceil((self.lan.now - self._reads_at) / late)

    def _hear(self, advert: events.AdvertReceived) -> None:
        if self.runs:
            self._step(self.machine.hear(advert, self.lan.now))

    def _tick(self, planned: float) -> None:
        if planned == self.machine.deadline():
            self._step(self.machine.tick(self.lan.now))

    def _step(self, adverts: Sequence[Advertise]) -> None:
        for advert in adverts:
            self.lan.broadcast(self.number, advert)
        self._arm()

    def _arm(self) -> None:
        role = self.machine.role
        if role is not self._said:
            self._said = role
            self.lan.history.append(Change(self.lan.now, self.number, role, Reason.START))
        deadline = self.machine.deadline()
        if deadline < math.inf:
            self.lan.at(deadline, lambda: self._tick(deadline))


class MixedLan(Lan):
    """``kinds`` tells which nodes, by number, run what. The others are ours, in `compat`: nothing is sealed."""

    def __init__(
        self,
        configs: Sequence[GroupConfig],
        kinds: Mapping[int, type[Foreign]],
        *,
        seed: int,
        demotions: Sequence[int] = (),
    ) -> None:
        super().__init__(configs, Conditions(sealed=False), seed=seed, demotions=demotions)
        every = [*demotions, *([0] * len(configs))]
        for number, kind in kinds.items():
            self.nodes[number] = ForeignNode(self, number, kind(configs[number], demotion=every[number]))
