"""The simulated LAN with sealed adverts: wall clocks that are wrong and are set, and somebody who repeats and forges.

The counters are the engine's own (``engine.counters``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sidecar.engine.counters import SealedCounters
from sidecar.engine.receive import Arrival
from sidecar.protocol import effects, events
from sidecar.protocol.packet import Header, PacketError
from sidecar.protocol.seal import TICKS_PER_SECOND, Sealed
from sidecar.protocol.types import DropReason, GroupConfig, IPAddress, Role
from tests.fakes.faults import Fault
from tests.fakes.host import Conditions, Node
from tests.fakes.lan import Lan
from tests.fakes.plans import group_plan

EPOCH = 1.8e9
"""Unix seconds at which virtual time begins."""
TAG_BITS = 24
REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class ClockStep:
    """Somebody sets a node's wall clock."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attack:
    """A node gets an advert again that somebody sent a while ago, ``age`` adverts back, as it was or altered.

    ``field`` names what is altered, or is "" for a plain replay.
    """

    node: int
    age: int
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter(events.AdvertReceived):
    """An advert on its way, with its counter."""

    counter: int


class ClockedNode(Node):
    """A node with a wall clock, ``offset`` seconds ahead of the true one."""

    def __init__(self, lan: ClockedLan, number: int, config: GroupConfig, *, offset: float, allowed: float) -> None:
        super().__init__(lan, number, config, 0)
        self.offset = offset
        self.drops: dict[DropReason, int] = {}
        self._plan = group_plan(replay="strict", clock_skew=allowed)
        self._counters = SealedCounters(self._plan, wall=self.wall)
        self._seal_offset: float | None = None
        """What its parent remembers."""
        self._sealed: dict[IPAddress, int] = {}
        """By source, the highest tick that any life of this node has put into an advert."""
        self._heard: dict[IPAddress, int] = {}
        """The last tick of each source that this life has accepted."""

    def wall(self) -> float:
        return EPOCH + self.lan.now + self.offset

    def start(self, *, resume: bool = False) -> None:
        """A parent whose engine died tells the next one how far the seals were.

        A clock that was set back before a restart of all is the one thing that the seal cannot survive: it is set
        right.
        """
        offset = self._seal_offset if self._counters.offset is None else self._counters.offset
        self._seal_offset = offset if self._reviving else None
        if self._seal_offset is None:
            self.offset = max(
                self.offset, (max(self._sealed.values(), default=-1) + 1) / TICKS_PER_SECOND - EPOCH - self.lan.now
            )
        reached = None if self._seal_offset is None else self.lan.now + self._seal_offset
        self._counters = SealedCounters(self._plan, reached=reached, wall=self.wall)
        self._heard.clear()
        super().start(resume=resume)

    def seal(self, said: Sealed) -> int:
        counter = self._counters.next(said, self.lan.now)
        tick = counter >> TAG_BITS
        before = self._sealed.get(said.source, -1)
        assert tick > before, f"{said.source} sealed tick {tick} after {before}"
        self._sealed[said.source] = tick
        return counter

    def anchor(self, event: events.Event) -> None:
        """As ``GroupRunner.handle`` does between the machine's decision and its effects."""
        if self.role is Role.MASTER and (self._said is not Role.MASTER or isinstance(event, events.AdvertReceived)):
            self._counters.anchor(self.lan.now, resumed=isinstance(event, events.Start))

    def replay(self, letter: Letter) -> None:
        """Get what this node may have heard already: then it is refused."""
        tick = letter.counter >> TAG_BITS
        if self.runs and letter.source in self._heard and tick <= self._heard[letter.source]:
            assert self._opens(letter) is not None, f"{letter} was accepted again"

    def forge(self, letter: Letter) -> None:
        """Get what nobody sent: it is refused."""
        if self.runs:
            assert self._opens(letter) is not None, f"{letter} was accepted, and nobody sent it"

    def _handle(self, event: events.Event) -> None:
        if isinstance(event, Letter):
            refused = self._opens(event)
            if refused is not None:
                self.drops[refused] = self.drops.get(refused, 0) + 1
                return
            self._heard[event.source] = event.counter >> TAG_BITS
        if isinstance(event, events.Reconfigured):
            self._counters.change_keys(self._plan)
        super()._handle(event)

    def _opens(self, letter: Letter) -> DropReason | None:
        header = Header(
            vhid=self._plan.vhid,
            advbase=letter.advbase,
            advskew=letter.advskew,
            demotion=letter.demotion,
            counter=letter.counter,
            mac=b"",
        )
        try:
            arrival = Arrival(source=letter.source, destination=self.config.source, header=header)
            self._counters.accept(arrival, 0, self.lan.now)
        except PacketError as error:
            return error.reason
        return None


class ClockedLan(Lan):
    """``offsets`` are the nodes' clocks at the start. With ``honest``, nobody sets a clock or attacks.

    Clocks stay within ``most`` seconds of the true time, whatever the steps; ``allowed`` is the skew that the nodes
    accept.
    """

    nodes: list[ClockedNode]  # type: ignore[assignment]

    def __init__(
        self,
        configs: Sequence[GroupConfig],
        conditions: Conditions,
        *,
        seed: int,
        offsets: Sequence[float] = (),
        most: float = 25.0,
        allowed: float = 60.0,
        honest: bool = False,
    ) -> None:
        super().__init__(configs, conditions, seed=seed)
        every = [*offsets, *([0.0] * len(configs))]
        self.nodes = [
            ClockedNode(self, number, config, offset=every[number], allowed=allowed)
            for number, config in enumerate(configs)
        ]
        self.listeners.append(_anchor)
        self.attacks = 0
        self._most = most
        self._honest = honest
        self._sent: deque[Letter] = deque(maxlen=REMEMBERED)

    def packet(self, sender: int, source: IPAddress, advert: effects.Advertise) -> events.AdvertReceived:
        said = Sealed(source=source, advbase=advert.advbase, advskew=advert.advskew, demotion=advert.demotion)
        letter = Letter(
            source=source,
            advbase=advert.advbase,
            advskew=advert.advskew,
            demotion=advert.demotion,
            sealed=True,
            counter=self.nodes[sender].seal(said),
        )
        self._sent.append(letter)
        return letter

    def inject(self, fault: Fault | ClockStep | Attack) -> None:
        match fault:
            case ClockStep() | Attack() if not self._honest:
                for observer in self.observers:
                    observer(fault)
                self._mischief(fault)
            case ClockStep() | Attack():
                return
            case _:
                super().inject(fault)

    def _mischief(self, fault: ClockStep | Attack) -> None:
        match fault:
            case ClockStep(node=number, seconds=seconds):
                node = self.nodes[number]
                node.offset = min(max(node.offset + seconds, -self._most), self._most)
            case Attack(node=number, age=age, field=field) if age < len(self._sent):
                self.attacks += 1
                letter = self._sent[-1 - age]
                if field:
                    self.nodes[number].forge(self._altered(letter, field))
                else:
                    self.nodes[number].replay(letter)

    def _altered(self, letter: Letter, field: str) -> Letter:
        """Return it with another value in ``field``; the source is that of somebody else here."""
        if field == "source":
            others = (node.config.source for node in self.nodes if node.config.source != letter.source)
            return replace(letter, source=next(others))
        return replace(letter, **{field: getattr(letter, field) ^ 1})


def _anchor(node: Node, event: events.Event, _: tuple[effects.Effect, ...]) -> None:
    assert isinstance(node, ClockedNode)
    node.anchor(event)
