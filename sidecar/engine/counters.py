"""The counters of a group's adverts: sealed between our own kind, or continued as ucarp and the BSDs do it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from sidecar.engine.receive import Arrival
from sidecar.ipc.plan import GroupPlan
from sidecar.protocol.packet import PacketError
from sidecar.protocol.seal import TICKS_PER_SECOND, Gate, Seal, Sealed, Ticker
from sidecar.protocol.types import DropReason, IPAddress

_MASK = (1 << 64) - 1


class Counters(Protocol):
    """Gives each advert of ours its counter, and judges those of others once their HMAC was found right."""

    @property
    def offset(self) -> float | None:
        """How far the last tick that was sealed was ahead of the clock of ``now``, in seconds; None: there is none."""
        ...

    def anchor(self, now: float, *, resumed: bool = False) -> None:
        """Read the wall clock: a mastership begins, or a rival does not seem to hear us.

        One that is ``resumed`` goes on where an earlier engine's was.
        """
        ...

    def next(self, advert: Sealed, now: float) -> int:
        """Return the 64-bit counter of the next advert."""
        ...

    def accept(self, arrival: Arrival, password: int, now: float) -> None:
        """Take note of an advert that password number ``password`` signed. Raises PacketError if it is refused."""
        ...

    def change_keys(self, plan: GroupPlan) -> None:
        """Go on with the keys of ``plan``."""
        ...


class Continued:
    """``compat``: random at first, then one more than the last that was sent or heard (``carp_send_ad``, ip_carp.c)."""

    def __init__(self) -> None:
        self._last = int.from_bytes(os.urandom(8), "big")

    @property
    def offset(self) -> float | None:
        """None: no clock is involved."""
        return None

    def anchor(self, now: float, *, resumed: bool = False) -> None:
        """Do nothing: no clock is involved."""

    def next(self, advert: Sealed, now: float) -> int:  # noqa: ARG002 - the counter seals nothing
        """Return the next counter."""
        self._last = (self._last + 1) & _MASK
        return self._last

    def accept(self, arrival: Arrival, password: int, now: float) -> None:  # noqa: ARG002 - nothing to judge
        """Go on from the counter that was heard, as every implementation does."""
        self._last = arrival.header.counter

    def change_keys(self, plan: GroupPlan) -> None:
        """Do nothing: no key is involved."""


class SealedCounters:
    """``strict``: the counter is a seal (``protocol.seal``). ``wall`` returns Unix seconds.

    ``reached`` is how far an earlier engine's ticks have come, in Unix seconds: they were this node's too.
    """

    def __init__(self, plan: GroupPlan, *, reached: float | None = None, wall: Callable[[], float] = time.time) -> None:
        self._seals = _seals(plan)
        # One for each source, as receivers keep them apart: at the fastest timing one for two families would run away.
        self._tickers: dict[IPAddress, Ticker] = {}
        self._anchored: tuple[float, float] | None = None
        """Where the wall clock was read last, and when."""
        self._reached = reached
        """Until a mastership begins."""
        self._sealed: tuple[int, float] | None = None
        """The highest tick, and when it was sealed."""
        self._gate = Gate(allowed_skew=plan.clock_skew)
        self._allowed = plan.clock_skew
        self._wall = wall

    @property
    def offset(self) -> float | None:
        """How far the last tick that was sealed was ahead of the clock of ``now``, in seconds; None: there is none."""
        if self._sealed is None:
            return None
        tick, at = self._sealed
        return tick / TICKS_PER_SECOND - at

    def anchor(self, now: float, *, resumed: bool = False) -> None:
        """Go on from the wall clock, or from what an earlier engine has reached where that is higher.

        A mastership that is ``resumed`` goes on as if the engine had not died: no step of the wall clock moves it.
        """
        wall = self._wall()
        if self._reached is not None:
            wall, self._reached = self._reached if resumed else max(wall, self._reached), None
        self._anchored = wall, now
        for ticker in self._tickers.values():
            ticker.anchor(wall=wall, now=now)

    def next(self, advert: Sealed, now: float) -> int:
        """Seal an advert."""
        ticker = self._tickers.get(advert.source)
        if ticker is None:
            ticker = self._tickers[advert.source] = Ticker()
            if self._anchored is not None:
                wall, at = self._anchored
                ticker.anchor(wall=wall, now=at)
        tick = ticker.next(now)
        if self._sealed is None or tick >= self._sealed[0]:
            self._sealed = tick, now
        return self._seals[0].counter(tick, advert)

    def accept(self, arrival: Arrival, password: int, now: float) -> None:
        """Break the seal and judge it. Raises PacketError (BROKEN_SEAL, REPLAYED, CLOCK_SKEW)."""
        header = arrival.header
        said = Sealed(source=arrival.source, advbase=header.advbase, advskew=header.advskew, demotion=header.demotion)
        tick = self._seals[password].tick(header.counter, said)
        reason = self._gate.refuse(tick, source=arrival.source, wall=self._wall(), now=now)
        if reason is not None:
            raise PacketError(reason, self._explain(reason))

    def change_keys(self, plan: GroupPlan) -> None:
        """Seal and break seals with other keys; what each sender said last is remembered."""
        self._seals = _seals(plan)

    def _explain(self, reason: DropReason) -> str:
        match reason:
            case DropReason.BROKEN_SEAL:
                return (
                    "no valid seal: an advert that was altered, or a peer such as ucarp or BSD, which all nodes of the "
                    "group accept with CARP_REPLAY=compat"
                )
            case DropReason.REPLAYED:
                return (
                    "sealed before one that was heard already: a replay, or a clock that was set back before a restart"
                )
            case _:
                return (
                    f"sealed more than {self._allowed:.0f} s away from this node's clock: set both nodes' clocks (NTP)"
                )


def _seals(plan: GroupPlan) -> tuple[Seal, ...]:
    return tuple(Seal(key=key, vhid=plan.vhid) for key in (plan.key, *plan.accepted_keys))
