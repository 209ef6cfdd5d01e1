"""One CARP group as a state machine: the only place where a role changes.

Sources: ``carp_proto_input_c``, ``carp_setrun``, ``carp_master_down`` and ``carp_send_ad`` of OpenBSD ip_carp.c, and
ucarp's carp.c for the tie-break. Deadlines are absolute monotonic seconds; nothing here reads a clock.
"""

from __future__ import annotations

import math
from ipaddress import IPv4Address
from typing import assert_never

from sidecar.protocol import effects, events, timing
from sidecar.protocol.demotion import HARD, Demotions
from sidecar.protocol.ears import Ear, Ears
from sidecar.protocol.effects import Effect
from sidecar.protocol.events import AdvertReceived, Event
from sidecar.protocol.transitions import TRANSITIONS
from sidecar.protocol.types import BOW_OUT, GroupConfig, IPAddress, Reason, Role

ANNOUNCE_SPACING = 1.1
"""Seconds between announcements: Linux holds an ARP entry for 1 s (``locktime``) against a change."""
ANNOUNCE_COUNT = 4
STAGGER = 1 / 4096
"""Seconds per unit of advskew that a backup waits before it follows a master who leaves or is demoted, so that backups
do not all stand up together."""
LONGEST_STAGGER = 255 * STAGGER
LEASE = "lease"
"""The demotion of a node whose kernel did not take the VIPs."""
LEASE_RETRY = 30.0
"""Seconds until such a node contends again as if nothing had been."""


class Group:
    """The state of one group; ``handle`` and ``deadline`` are its whole interface, the attributes are for reading."""

    __slots__ = (
        "_announce_at",
        "_announcements_left",
        "_answer_by",
        "_down_detail",
        "_down_reason",
        "_ears",
        "_granted_extra",
        "_last_sent",
        "_leads_from",
        "_leased",
        "_master_since",
        "_next_advert",
        "_next_renewal",
        "_preempts_from",
        "_releases_pending",
        "_replied_at",
        "_stopping",
        "_yields_until",
        "config",
        "demotions",
        "role",
    )

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.role = Role.INIT
        self.demotions = Demotions()
        self._ears = Ears(config.source, config.second_source)
        self._down_reason = Reason.MASTER_DOWN
        self._down_detail = ""
        self._granted_extra = False
        self._master_since = -math.inf
        self._next_advert = math.inf
        self._last_sent = -math.inf
        self._replied_at = -math.inf
        self._announce_at = math.inf
        self._announcements_left = 0
        self._answer_by = math.inf
        self._next_renewal = math.inf
        self._leased = False
        self._leads_from = -math.inf
        self._preempts_from = -math.inf
        self._yields_until = -math.inf
        self._releases_pending = 0
        self._stopping = False

    @property
    def demotion(self) -> int:
        """Our own demotion as OpenBSD's byte tells it, 0..255."""
        return self.demotions.on_wire

    @property
    def master(self) -> IPAddress | None:
        """Who is master: our own source, whoever was heard last, or None if nobody is known."""
        return self.config.source if self.role is Role.MASTER else self._ears.master

    @property
    def interval(self) -> float:
        """Seconds between our own adverts."""
        return timing.interval(advbase=self.config.advbase, advskew=self.config.advskew)

    @property
    def _advertised_interval(self) -> float:
        """What our adverts say of it: more than the truth where we are demoted."""
        return timing.interval(advbase=self.config.advbase, advskew=self.demotions.advskew(self.config.advskew))

    @property
    def master_down(self) -> float:
        """Seconds of silence after which we take over."""
        config = self.config
        return timing.master_down(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)

    def deadline(self) -> float | None:
        """Return when ``Tick`` is due (monotonic seconds), or None if only an event can change anything."""
        match self.role:
            case Role.INIT:
                return None
            case Role.BACKUP:
                return self._ears.down_at
            case Role.MASTER:
                return min(self._next_advert, self._announce_at, self._answer_by)
            case _:
                assert_never(self.role)

    def handle(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Take one event at ``now`` and return what is to be done, in order."""
        if self._stopping:
            return self._handle_while_stopping(event)
        self.demotions.expire(now)
        deposed = self._depose_if_late(now)
        match event:
            case events.Start(link_up=link_up, resume=resume):
                done = self._start(link_up=link_up, resume=resume, now=now)
            case AdvertReceived():
                done = self._advert(event, now)
            case events.Tick():
                done = self._tick(now)
            case events.LinkChanged(up=up):
                done = self._link(up=up, now=now)
            case events.LeaseAnswered(error=error):
                done = self._lease_answered(error, now)
            case events.LeaseReleased():
                self._releases_pending = max(0, self._releases_pending - 1)
                done = []
            case events.Demote():
                done = self._demote(event, now)
            case events.Promote(name=name):
                self.demotions.give_back(name)
                done = []
            case events.HandOver():
                done = self._hand_over(now)
            case events.Stop():
                done = self._stop()
            case _:
                assert_never(event)
        return (*deposed, *done)

    # Starting, stopping, link ------------------------------------------------------------------------------------

    def _start(self, *, link_up: bool, resume: bool, now: float) -> list[Effect]:
        if not link_up:
            return []
        if resume:
            return self._become_master(Reason.RESUMED, "the lease of the engine before this one still stood", now)
        return self._become_backup(Reason.START, "listening for a master", now)

    def _link(self, *, up: bool, now: float) -> list[Effect]:
        if up:
            if self.role is not Role.INIT:
                return []
            return self._become_backup(Reason.LINK_UP, "the interface has its carrier back", now)
        if self.role is Role.INIT:
            return []
        return self._leave(Reason.LINK_DOWN, "the interface lost its carrier")

    def _stop(self) -> list[Effect]:
        self._stopping = True
        match self.role:
            case Role.INIT:
                return [effects.Finished()]
            case Role.BACKUP:
                return [*self._leave(Reason.STOP, "asked to stop"), effects.Finished()]
            case Role.MASTER:
                return self._leave(Reason.STOP, "asked to stop")
            case _:
                assert_never(self.role)

    def _handle_while_stopping(self, event: Event) -> tuple[Effect, ...]:
        """Wait for the release, then bow out: a peer that takes over now finds nobody else answering."""
        if not isinstance(event, events.LeaseReleased) or self._releases_pending == 0:
            return ()
        self._releases_pending -= 1
        return () if self._releases_pending else (self._bow_out(), effects.Finished())

    # Demotion ----------------------------------------------------------------------------------------------------

    def _demote(self, event: events.Demote, now: float) -> list[Effect]:
        """Tell a new demotion at once, as OpenBSD does; nobody lets go before somebody better has stood up."""
        before = self.demotion
        self.demotions.take(event.name, weight=event.weight, detail=event.detail, until=now + event.seconds)
        return self._advertise_and_renew(now) if self.role is Role.MASTER and self.demotion > before else []

    def _hand_over(self, now: float) -> list[Effect]:
        """Say goodbye, which every implementation obeys, but answer on until somebody has stood up."""
        if self.role is not Role.MASTER:
            return []
        self._yields_until = now + max(self.master_down, LONGEST_STAGGER)
        # The next regular advert would call those back who wait for their turn to stand up.
        self._next_advert = max(self._next_advert, now + LONGEST_STAGGER)
        self._last_sent = self._next_advert - self.interval
        return [self._bow_out()]

    # Adverts of others -------------------------------------------------------------------------------------------

    def _advert(self, advert: AdvertReceived, now: float) -> list[Effect]:
        ear = self._ears.of(advert.source)
        if ear is None:
            return []
        match self.role:
            case Role.INIT:
                return []
            case Role.BACKUP:
                return self._advert_as_backup(advert, ear, now)
            case Role.MASTER:
                return self._advert_as_master(advert, ear, now)
            case _:
                assert_never(self.role)

    def _advert_as_backup(self, advert: AdvertReceived, ear: Ear, now: float) -> list[Effect]:
        theirs = timing.interval(advbase=advert.advbase, advskew=advert.advskew)
        if advert.advbase == BOW_OUT and advert.advskew == BOW_OUT:
            # One that was overtaken on its way changes nothing: another has stood up already.
            if ear.master == advert.source or self._ears.master is None:
                self._ears.forget()
                self._stand_up_in_turn(Reason.BOW_OUT, f"{advert.source} said goodbye", now)
            return []
        cause = self._cause_to_take_over(advert, theirs, now)
        if cause is not None:
            # Of two masters the one that we follow deals with the other; a third would only join in.
            if ear.master != advert.source and now - self._ears.followed_at < self.interval:
                return []
            reason, detail = cause
            if reason is not Reason.DEMOTED_MASTER:
                return self._become_master(reason, detail, now)
            ear.master, ear.heard_at = advert.source, now
            self._stand_up_in_turn(reason, detail, now)
            return []
        if self._down_reason is not Reason.MASTER_DOWN:
            self._arm_down(now + self.master_down)  # somebody else had the earlier turn
        ear.master, ear.heard_at = advert.source, now
        ear.down_at = max(now + self.master_down, self._leads_from)
        self._granted_extra = False
        return []

    def _cause_to_take_over(self, advert: AdvertReceived, theirs: float, now: float) -> tuple[Reason, str] | None:
        """Return why a backup need not wait for the timer: its reason and a sentence for people."""
        if now < self._leads_from:
            return None
        preempts = self.config.preempt and now >= max(self._preempts_from, self._yields_until)
        ours = self._advertised_interval
        if preempts and ours < theirs and advert.demotion >= self.demotion:
            detail = f"{advert.source} advertises every {theirs:.3f} s, this node every {ours:.3f} s"
            return Reason.PREEMPT, detail
        if advert.demotion > self.demotion:
            detail = f"{advert.source} is demoted by {advert.demotion}, this node by {self.demotion}"
            return Reason.DEMOTED_MASTER, detail
        # OpenBSD looks at no demotion here: two masters of which the worse cannot hear patience would alternate.
        if self.config.advbase != 0 and self.master_down < theirs and advert.demotion >= self.demotion:
            detail = f"{advert.source} advertises every {theirs:.3f} s, our timer is {self.master_down:.3f} s"
            return Reason.SLOWER_MASTER, detail
        return None

    def _stand_up_in_turn(self, reason: Reason, detail: str, now: float) -> None:
        due = now + self.config.advskew * STAGGER
        if due < self._ears.down_at:
            self._arm_down(due, reason, detail)

    def _advert_as_master(self, advert: AdvertReceived, ear: Ear, now: float) -> list[Effect]:
        if advert.advbase == BOW_OUT and advert.advskew == BOW_OUT:
            return []
        theirs = timing.interval(advbase=advert.advbase, advskew=advert.advskew)
        yields = now < self._yields_until
        if yields or self._outranked_by(advert, theirs, ear, now):
            detail = f"{advert.source} advertises every {theirs:.3f} s, demotion {advert.demotion}"
            done = self._leave(Reason.HANDED_OVER if yields else Reason.BETTER_MASTER, detail)
            # The other family's timer rests until something is heard there: what it does not hear proves nothing now.
            self._arm_down(math.inf)
            ear.master, ear.heard_at = advert.source, now
            ear.down_at = now + self.master_down
            return done
        ear.heard_at = now
        # A rival that we outrank learns of it at once, at most once per interval: his answer must not start a storm.
        if now - self._replied_at < self.interval:
            return []
        self._replied_at = now
        done = self._advertise_and_renew(now)
        if self._leased:
            self._announcements_left = max(self._announcements_left, 1)
            self._announce_at = now + ANNOUNCE_SPACING  # again, once he has let go
            done.append(effects.Announce())
        return done

    def _outranked_by(self, advert: AdvertReceived, theirs: float, ear: Ear, now: float) -> bool:
        if advert.demotion != self.demotion:
            return advert.demotion < self.demotion
        ours = self._advertised_interval
        if ours != theirs:
            return ours > theirs
        main = self._ears.main
        if ear is not main and now - max(main.heard_at, self._master_since) < 2 * self.interval:
            return False  # the main family's addresses decide, if anything is heard there: both families may not differ
        return _ranks_before(advert.source, ear.source, sealed=advert.sealed)

    # Time --------------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        if self.role is Role.BACKUP and now >= self._ears.down_at:
            return self._master_is_down(now)
        if self.role is not Role.MASTER:
            return []
        if now >= self._answer_by:
            return self._lease_unanswered(now)
        done: list[Effect] = []
        if now >= self._next_advert:
            done += self._advertise_and_renew(now)
        if now >= self._announce_at:
            self._schedule_announcement(now)
            done.append(effects.Announce())
        return done

    def _master_is_down(self, now: float) -> list[Effect]:
        late = now - self._ears.down_at
        if late > self.interval / 2 and not self._granted_extra:
            # Whoever slept through the deadline has not listened: the master gets one more interval.
            self._granted_extra = True
            self._ears.postpone(due=now, until=now + self.interval)
            return []
        detail = self._down_detail
        if not detail:
            detail = self._silence(now)
        return self._become_master(self._down_reason, detail, now)

    def _depose_if_late(self, now: float) -> list[Effect]:
        """A master that was silent for as long as its peers wait has been replaced, whatever it still believes."""
        if self.role is not Role.MASTER:
            return []
        config = self.config
        skew = config.advskew if config.advbase == 0 else 0
        window = timing.master_down(advbase=config.advbase, advskew=skew, dead_ratio=config.dead_ratio)
        window = max(window, 1.5 * self.interval)  # a dead ratio of 1 must not depose whoever is on time
        silent = now - self._last_sent
        if silent < window:
            return []
        detail = f"this process was not run for {silent:.3f} s, peers wait {window:.3f} s"
        done = self._leave(Reason.WOKE_LATE, detail)
        self._arm_down(now + self.master_down)
        return done

    def _silence(self, now: float) -> str:
        """Say what was not heard, and in which family if the other one is heard on."""
        silent = self._ears.silent(now)
        if silent.master is None:
            return "no advert was heard"
        return f"no advert from {silent.master} for {now - silent.heard_at:.3f} s"

    # The lease ---------------------------------------------------------------------------------------------------

    def _lease_answered(self, error: str | None, now: float) -> list[Effect]:
        if self.role is not Role.MASTER or self._releases_pending:
            return []  # the answer to a lease that was given up since
        if error is None:
            self._answer_by = math.inf
            self.demotions.give_back(LEASE)
            if self._leased:
                return []
            self._leased = True
            self._schedule_announcement(now)
            return [effects.Announce()]
        return self._give_up(Reason.BIND_FAILED, error, now)

    def _lease_unanswered(self, now: float) -> list[Effect]:
        """Step down: whoever binds for us does not answer, so the kernel has let go of the VIPs, or is about to."""
        detail = f"no renewal of the lease was confirmed for {self.config.lease:g} s"
        return self._give_up(Reason.LEASE_UNANSWERED, detail, now)

    def _give_up(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        """Leave the VIPs to whoever can bind them; a preferred node would else take them back at once, in vain."""
        done = self._leave(reason, detail)
        self._arm_down(now + self.master_down)
        self.demotions.take(LEASE, weight=HARD, detail=detail, until=now + LEASE_RETRY)
        return [*done, self._bow_out()]

    def _advertise_and_renew(self, now: float) -> list[Effect]:
        """Renew with an advert and never without: peers count from the last advert, and the lease must end before them.

        Fast adverts need not renew each time: an eighth of the lease between renewals is near enough.
        """
        done = self._send_advert(now)
        if self._leased and now >= self._next_renewal:  # before that, Bind is on its way
            done.append(effects.Renew())
            self._await_answer(now)
        return done

    def _await_answer(self, now: float) -> None:
        seldom = self.config.lease / 8
        self._next_renewal = now + seldom if self.interval < seldom else now
        self._answer_by = min(self._answer_by, now + self.config.lease)

    def _schedule_announcement(self, now: float) -> None:
        self._announcements_left -= 1
        self._announce_at = now + ANNOUNCE_SPACING if self._announcements_left > 0 else math.inf

    # Role changes ------------------------------------------------------------------------------------------------

    def _switch(self, reason: Reason, detail: str) -> Effect:
        before, self.role = self.role, TRANSITIONS[self.role, reason]
        return effects.RoleChanged(before=before, after=self.role, reason=reason, detail=detail)

    def _become_master(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        changed = self._switch(reason, detail)
        self._ears.forget()
        self._master_since = now
        self._leased = False
        self._announcements_left = ANNOUNCE_COUNT
        self._announce_at = math.inf
        self._yields_until = -math.inf
        self._answer_by = math.inf
        self._await_answer(now)
        # The advert first: it stops the other backups while the kernel binds.
        return [*self._send_advert(now), effects.Bind(), changed]

    def _become_backup(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        """Begin to listen, at the start or when the link returns."""
        changed = self._switch(reason, detail)
        self._leads_from = now + self.config.startup_delay
        self._preempts_from = now + max(self.config.startup_delay, self.config.preempt_delay)
        self._arm_down(now + self.master_down)
        return [changed]

    def _leave(self, reason: Reason, detail: str) -> list[Effect]:
        """Stop being what we are; a master lets go of the VIPs before anything else."""
        was_master = self.role is Role.MASTER
        changed = self._switch(reason, detail)
        self._ears.forget()
        if not was_master:
            return [changed]
        self._releases_pending += 1
        return [effects.Release(), changed]

    def _send_advert(self, now: float) -> list[Effect]:
        self._last_sent = now
        self._next_advert = now + self.interval
        config = self.config
        advskew = self.demotions.advskew(config.advskew)
        return [effects.Advertise(advbase=config.advbase, advskew=advskew, demotion=self.demotion)]

    def _bow_out(self) -> Effect:
        return effects.Advertise(advbase=BOW_OUT, advskew=BOW_OUT, demotion=self.demotion)

    def _arm_down(self, at: float, reason: Reason = Reason.MASTER_DOWN, detail: str = "") -> None:
        self._ears.arm(max(at, self._leads_from))
        self._down_reason = reason
        self._down_detail = detail
        self._granted_extra = False


def _ranks_before(theirs: IPAddress, ours: IPAddress, *, sealed: bool) -> bool:
    """Tell whether ``theirs`` stays master when both advertise the same interval.

    Between our own kind it is the lower address. ucarp compares s_addr as the CPU reads it, so that on x86 and arm64
    the last octet counts most; with one that may be ucarp both sides have to do so.
    """
    if not sealed and isinstance(theirs, IPv4Address) and isinstance(ours, IPv4Address):
        return theirs.packed[::-1] < ours.packed[::-1]
    return int(theirs) < int(ours)
