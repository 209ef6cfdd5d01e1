"""A node of the simulated LAN, cut as the real one is.

A loop that drains its inbox before it looks at its timer, a parent that serves lease requests in order, and a kernel
that lets an address go at most ``slop`` after its lifetime.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from sidecar.protocol import effects, events, timing, types
from sidecar.protocol.machine import Group
from sidecar.protocol.types import GroupConfig, Reason, Role
from tests.fakes.client import Mac

if TYPE_CHECKING:
    from tests.fakes.lan import Lan


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What network, scheduler and kernel do at their worst. ``loss`` and ``duplication`` are probabilities."""

    delay: float = 0.002
    wake: float = 0.001
    """From an event or a deadline to the loop that serves it."""
    work: float = 0.002
    """What the parent takes for one request."""
    loss: float = 0.0
    duplication: float = 0.0
    sealed: bool = True
    """Whether adverts are sealed, which decides the tie-break."""
    slop: float = 0.9
    """How much longer than its lifetime the kernel keeps an address (up to 0.7 was measured)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of role."""

    at: float
    node: int
    after: Role
    reason: Reason


class Node:
    """One host: kernel, parent and engine. ``group`` is None while no engine runs."""

    def __init__(self, lan: Lan, number: int, config: GroupConfig, demotion: int) -> None:
        self.lan = lan
        self.number = number
        self.config = self.plan = _leased(config)
        """What the engine goes by, and what the parent wants it to."""
        self.settings = [(-math.inf, self.config)]
        """Since when it went by what."""
        self.demotions = {"test": demotion} if demotion else {}
        """What is taken from this node, by name, whatever becomes of its engine."""
        self.group: Group | None = None
        self.paused = False
        self.link_up = True
        self.mac: Mac = (number, 0)
        self.finished = False
        self.refusals = 0
        self.lease_until = -math.inf
        self.stalled_until = -math.inf
        """When loop and parent ran again after their last pause, crash or stop."""
        self.reason: Reason | None = None
        """Of the last change of role."""
        self.sent = 0
        self.confirmed = False
        """The engine was told that the VIP is leased, and has not given it up since."""
        self._releasing = 0
        self._said = Role.INIT
        self._inbox: deque[events.Event] = deque()
        self._wanted: deque[effects.Effect] = deque()
        self._turn_at = math.inf
        self._resumes_at = -math.inf
        self._life = self._engine_life = 0
        self._reviving = False
        self._back_after: float | None = None
        """How long it is away once it has stopped, None: for good."""
        self._parent_free_at = 0.0
        self._parent_resumes_at = self._serves_from = -math.inf
        self._held: list[Callable[[], None]] = []
        """Requests to a parent that is paused."""

    @property
    def runs(self) -> bool:
        return self.group is not None and not self.paused

    @property
    def parent_serves(self) -> bool:
        """The parent neither hangs, nor holds a lease that it took late, for something asked before it hung."""
        return self.lan.now >= self._serves_from

    @property
    def role(self) -> Role | None:
        return None if self.group is None else self.group.role

    @property
    def demotion(self) -> int:
        """As the group counts it now."""
        return 0 if self.group is None else self.group.demotion

    @property
    def had(self) -> list[GroupConfig]:
        """All settings that may still have an effect."""
        return [*(config for _, config in self.settings), self.plan]

    def settings_at(self, time: float) -> GroupConfig:
        """Return what it went by then; what came at that very moment came after."""
        return next((config for since, config in reversed(self.settings) if since < time), self.settings[0][1])

    def answers(self) -> bool:
        """Tell whether the kernel holds the VIP now."""
        return self.lease_until > self.lan.now

    # Life and death ----------------------------------------------------------------------------------------------

    def start(self, *, resume: bool = False) -> None:
        if not resume:
            self.lease_until = -math.inf
        self._engine_life += 1
        self._reviving = False
        self._back_after = None
        self._go_by(self.plan)
        self.group = Group(self.config)
        self.paused = self.finished = self.confirmed = False
        self._releasing = 0
        self._said = Role.INIT
        self._stalled()
        self._turn_at = math.inf
        for name, weight in self.demotions.items():
            self.deliver(events.Demote(name=name, weight=weight, detail=name))
        self.deliver(events.Start(link_up=self.link_up, resume=resume))

    def crash(self, *, engine_only: bool = False) -> None:
        self._stalled()
        self._engine_life += 1
        self._reviving = engine_only
        self._back_after = None
        if not engine_only:
            self._life += 1
            self.resume_parent_now()
        self.group = None
        self._inbox.clear()
        self._wanted.clear()

    def revive(self) -> None:
        """What the parent does for an engine that died."""
        if self._reviving:
            self.start(resume=self.answers())

    def keep(self, back_after: float) -> None:
        """Stop to begin anew soon: the VIPs stay until then, where the lease stands as long."""
        self._back_after = back_after
        self.deliver(events.Stop(keep=True))

    def come_back(self) -> None:
        """Begin anew, once the parent before this one has done all that it was asked."""
        if self._back_after is None or self.group is not None:
            return
        if self._parent_busy_until > self.lan.now:
            self.lan.at(self._parent_busy_until, self.come_back)
            return
        self.start(resume=self.answers() and self._lease_ends_in_time)

    def come_back_now(self) -> None:
        if self._back_after is not None:
            self._back_after = 0.0
            self.come_back()

    @property
    def _parent_busy_until(self) -> float:
        return max(self._parent_free_at, self._parent_resumes_at)

    @property
    def _lease_ends_in_time(self) -> bool:
        """Where it is longer than peers wait, one may have taken over: then nothing is resumed over a restart."""
        config = self.config
        patience = timing.patience(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)
        return config.lease + self.lan.conditions.slop < patience

    def pause(self, seconds: float) -> None:
        self.paused = True
        self._resumes_at = self.lan.now + seconds
        self.lan.at(self._resumes_at, self.resume)

    def resume(self) -> None:
        if self.paused and self._resumes_at <= self.lan.now:
            self.paused = False
            self._stalled()
            self._turn_at = math.inf
            self._wake(self.lan.now)

    def resume_now(self) -> None:
        self._resumes_at = self.lan.now
        self.resume()

    def _stalled(self) -> None:
        self.stalled_until = max(self.stalled_until, self.lan.now)

    def pause_parent(self, seconds: float) -> None:
        self._parent_resumes_at = self._serves_from = self.lan.now + seconds
        self.stalled_until = max(self.stalled_until, self._parent_resumes_at)
        self.lan.at(self._parent_resumes_at, self.resume_parent)

    def resume_parent(self) -> None:
        if self._parent_resumes_at <= self.lan.now:
            held, self._held = self._held, []
            for request in held:
                self._have_parent(request)

    def resume_parent_now(self) -> None:
        if self._parent_resumes_at > self.lan.now:
            self._parent_resumes_at = self._serves_from = self.stalled_until = self.lan.now
        self.resume_parent()

    def demote(self, name: str, weight: int) -> None:
        self.demotions[name] = weight
        self.deliver(events.Demote(name=name, weight=weight, detail=name))

    def promote(self, name: str) -> None:
        self.demotions.pop(name, None)
        self.deliver(events.Promote(name=name))

    def reconfigure(self, config: GroupConfig) -> None:
        self.plan = _leased(config)
        self.deliver(events.Reconfigured(self.plan))

    def _go_by(self, config: GroupConfig) -> None:
        if config != self.config:
            self.config = config
            self.settings.append((self.lan.now, config))

    def disturb(self) -> None:
        if self.lease_until > self.lan.now:
            self.lease_until = -math.inf
            self._stalled()  # until it is put back
            self.deliver(events.LeaseDisturbed())

    # The loop ----------------------------------------------------------------------------------------------------

    def deliver(self, event: events.Event) -> None:
        """Put an event where the loop finds it."""
        if self.group is not None:
            self._inbox.append(event)
            self._wake(self.lan.now)

    def _wake(self, at: float) -> None:
        turn_at = at + self.lan.chance(self.lan.conditions.wake)
        if turn_at < self._turn_at:
            self._turn_at = turn_at
            life = self._engine_life
            self.lan.at(turn_at, lambda: self._turn(life, turn_at))

    def _turn(self, life: int, planned: float) -> None:
        """One turn of the loop: packets and answers first, then the timer."""
        if life != self._engine_life or planned != self._turn_at or self.paused or self.group is None:
            return
        self._turn_at = math.inf
        if self._wanted:
            self._carry_out()
        while self._inbox and self.runs:
            self._handle(self._inbox.popleft())
        self._serve_timer()
        if self.group is None or self.paused:
            return
        now = self.lan.now
        if self.finished:
            self.group = None
            self._stalled()
            if self._back_after is not None:
                self.lan.at(now + self._back_after, self.come_back)
            return
        deadline = self.group.deadline()
        if deadline is not None:
            self._wake(max(deadline, now))

    def _serve_timer(self) -> None:
        group, now = self.group, self.lan.now
        deadline = group.deadline() if group is not None and not self.paused else None
        if group is None or deadline is None or deadline > now:
            return
        before = group.role
        self._handle(events.Tick())
        after = group.deadline()
        moved = after is None or after > now
        assert moved or group.role is not before, f"a Tick at {now} left the deadline at {after}"

    def _handle(self, event: events.Event) -> None:
        assert self.group is not None
        match event:
            case events.LeaseAnswered(error=error) if not self._releasing:
                self.confirmed = error is None
            case events.LeaseReleased():
                self._releasing -= 1
            case events.Reconfigured(config=config):
                self._go_by(config)
        wanted = self.group.handle(event, self.lan.now)
        for listener in self.lan.listeners:
            listener(self, event, wanted)
        for number, effect in enumerate(wanted):
            if isinstance(effect, effects.RoleChanged):
                assert effect.before is self._said, f"{effect} after {self._said}"
                self._said = effect.after
                released = effects.Release() in wanted[:number]
                assert released or effect.before is not Role.MASTER, f"{effect} without a Release before it"
        self._wanted.extend(wanted)
        self._carry_out()

    def _carry_out(self) -> None:
        """Do what is wanted, step by step; any step may be the last one for a while, or at all."""
        self.lan.step(self)
        while self._wanted and self.runs:
            effect = self._wanted.popleft()
            assert not self.finished, f"{effect} after Finished"
            self._perform(effect)
            self.lan.step(self)

    def _perform(self, effect: effects.Effect) -> None:
        """Carry out one effect; the assertions are the duties that effects.py puts on their order."""
        match effect:
            case effects.Advertise(advbase=types.BOW_OUT, advskew=types.BOW_OUT):
                hands_over = self.role is Role.MASTER
                hangs = self.reason is Reason.LEASE_UNANSWERED and not self.parent_serves
                assert hands_over or hangs or not self.answers(), "said goodbye while the kernel still answers"
                self.lan.broadcast(self.number, effect)
            case effects.Advertise():
                yields = effects.Release() in self._wanted
                assert self.role is Role.MASTER or yields, "an advert of one who is not master"
                self.lan.broadcast(self.number, effect)
            case effects.AdvertiseTo(advert=advert, target=target):
                self.lan.unicast(self.number, target, advert)
            case effects.Bind():
                self.confirmed = False
                self._ask_parent(self._lease)
            case effects.Renew():
                self._ask_parent(self._lease)
            case effects.Release():
                self.confirmed = False
                self._releasing += 1
                self._ask_parent(self._release)
            case effects.HeldBack():
                assert self.role is Role.BACKUP, "held back from what it is"
            case effects.Announce():
                assert self.confirmed, "announced what is not leased"
                self.lan.announce(self.number)
            case effects.RoleChanged():
                self._note(effect)
            case effects.Finished():
                self.finished = True
            case _:
                assert_never(effect)

    def _note(self, change: effects.RoleChanged) -> None:
        self.reason = change.reason
        self.lan.history.append(Change(self.lan.now, self.number, change.after, change.reason))

    # The parent and the kernel -----------------------------------------------------------------------------------

    def _ask_parent(self, serve: Callable[[], events.Event]) -> None:
        lan, life, engine = self.lan, self._life, self._engine_life
        asked_at = lan.now

        def request() -> None:
            if life != self._life:
                return
            if lan.now < self._parent_resumes_at:
                self._held.append(request)
                return
            answer = serve()
            if self.answers() and asked_at < self._parent_resumes_at:
                self._serves_from = self.lease_until
            if engine == self._engine_life:
                self.deliver(answer)

        self._have_parent(request)

    def _have_parent(self, request: Callable[[], None]) -> None:
        """Let the parent serve ``request`` after all that it was asked before."""
        self._parent_free_at = max(self._parent_free_at, self.lan.now) + self.lan.chance(self.lan.conditions.work)
        self.lan.at(self._parent_free_at, request)

    def _lease(self) -> events.LeaseAnswered:
        if self.refusals:
            self.refusals -= 1
            self.confirmed = False
            self.lease_until = -math.inf
            return events.LeaseAnswered(error="refused")
        self.lease_until = self.lan.now + self.config.lease + self.lan.chance(self.lan.conditions.slop)
        self.lan.at(self.lease_until, lambda: None)  # so that the watchers see it end
        return events.LeaseAnswered(error=None)

    def _release(self) -> events.LeaseReleased:
        self.lease_until = -math.inf
        return events.LeaseReleased()


def _leased(config: GroupConfig) -> GroupConfig:
    """Return these settings with the lease that follows from them."""
    lease = timing.lease(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)
    return replace(config, lease=lease)
