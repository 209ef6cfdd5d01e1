"""One CARP group as a state machine: the only place where a role changes.

Sources: ``carp_proto_input_c``, ``carp_setrun``, ``carp_master_down`` and ``carp_send_ad`` of OpenBSD ip_carp.c, and
ucarp's carp.c for the tie-break. Deadlines are absolute monotonic seconds; nothing here reads a clock.
"""

from __future__ import annotations

import math
from typing import assert_never

from sidecar.protocol import effects, election, events, timing
from sidecar.protocol.demotion import HARD, Demotions
from sidecar.protocol.ears import Ear, Ears
from sidecar.protocol.effects import Effect
from sidecar.protocol.events import AdvertReceived, Event
from sidecar.protocol.letting_go import LettingGo
from sidecar.protocol.mastership import Mastership
from sidecar.protocol.transitions import TRANSITIONS
from sidecar.protocol.types import BOW_OUT, HANDS_OVER, LET_GO, GroupConfig, IPAddress, Reason, Role

STAGGER = 1 / 4096
"""Seconds per unit of advskew that a backup waits before it follows a master who leaves or is demoted, so that backups
do not all stand up together."""
LONGEST_STAGGER = 255 * STAGGER
STRANGER_LETS_GO_WITHIN = 0.02
"""Seconds, half an interval at most, until a master who is replaced alive and says nothing counts as having let go."""
_REPLACED_ALIVE = frozenset({Reason.PREEMPT, Reason.SLOWER_MASTER, Reason.DEMOTED_MASTER, Reason.HANDED_OVER})
LEASE = "lease"
"""The demotion of a node whose kernel did not take the VIPs."""
LEASE_RETRY = 30.0
"""Seconds until such a node contends again as if nothing had been; twice as many after each further failure."""
LEASE_RETRY_AT_MOST = 600.0


class Group:
    """The state of one group; ``handle`` and ``deadline`` are its whole interface, the attributes are for reading."""

    __slots__ = (
        "_down_detail",
        "_down_reason",
        "_ears",
        "_granted_extra",
        "_leads_from",
        "_lease_failures",
        "_letting_go",
        "_mastership",
        "_occupied_by",
        "_occupied_until",
        "_offers_until",
        "_preempts_from",
        "_replaced",
        "_says_goodbye",
        "_sealed",
        "_stopping",
        "_yields_until",
        "config",
        "demotions",
        "held_back",
        "role",
        "unproven",
    )

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.role = Role.INIT
        self.demotions = Demotions()
        self.unproven = True
        """It has neither held the VIPs nor heard a member: whether somebody else has them is an open question."""
        self.held_back: str | None = None
        """Why it does not take over although its timer has ended."""
        self._occupied_until, self._occupied_by = -math.inf, ""
        self._ears = Ears(config.source, config.second_source)
        self._down_reason = Reason.MASTER_DOWN
        self._down_detail = ""
        self._granted_extra = False
        self._mastership: Mastership | None = None
        self._lease_failures = 0
        self._leads_from = -math.inf
        self._preempts_from = -math.inf
        self._yields_until = self._offers_until = -math.inf
        self._letting_go = LettingGo()
        self._replaced: frozenset[IPAddress] = frozenset()
        """The addresses of the living master whose place is to be taken: nobody else can say that it has let go."""
        self._stopping = False
        self._says_goodbye = False
        self._sealed = False

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
    def _candidate(self) -> election.Candidate:
        """How we stand: our adverts claim a longer interval than they have where we are demoted."""
        advskew = self.demotions.advskew(self.config.advskew)
        interval = election.claimed_interval(advbase=self.config.advbase, advskew=advskew)
        return election.Candidate(interval=interval, demotion=self.demotion)

    @property
    def master_down(self) -> float:
        """Seconds of silence after which we take over."""
        config = self.config
        return timing.master_down(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)

    def deadline(self) -> float | None:
        """Return when ``Tick`` is due (monotonic seconds), or None if only an event can change anything."""
        if self._mastership is not None:
            return self._mastership.deadline
        return self._ears.down_at if self.role is Role.BACKUP else None

    def handle(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Take one event at ``now`` and return what is to be done, in order."""
        if self._stopping:
            return self._handle_while_stopping(event, now)
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
            case events.LeaseAnswered() | events.LeaseReleased() | events.LeaseDisturbed() | events.Occupied():
                done = self._of_the_vips(event, now)
            case events.Demote():
                done = self._demote(event, now)
            case events.Promote(name=name):
                self.demotions.give_back(name)
                done = []
            case events.Reconfigured(config=config):
                done = self._reconfigure(config, now)
            case events.HandOver():
                done = self._hand_over(now)
            case events.Stop(keep=keep):
                done = self._stop(keep=keep)
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

    def _reconfigure(self, config: GroupConfig, now: float) -> list[Effect]:
        """Stay what we are: a master begins its clockwork and its lease anew, a backup its wait for the master.

        A turn to stand up and delays that run already end when they would have.
        """
        self.config = config
        if self._mastership is not None:
            return self._begin_mastership(now, wait=self._mastership.waits_for(now))
        if self.role is Role.BACKUP and self._down_reason is Reason.MASTER_DOWN:
            self._arm_down(now + self.master_down)
        return []

    def _link(self, *, up: bool, now: float) -> list[Effect]:
        if up:
            if self.role is not Role.INIT:
                return self._announce_anew(now)
            return self._become_backup(Reason.LINK_UP, "the interface has its carrier back", now)
        if self.role is Role.INIT:
            return []
        return self._leave(Reason.LINK_DOWN, "the interface lost its carrier")

    def _announce_anew(self, now: float) -> list[Effect]:
        """Tell a LAN that may have forgotten: the link is back, which the group ignored, or has another MAC."""
        if self._mastership is None or not self._mastership.leased:
            return []
        self._mastership.announce_out_of_turn(now)
        return [effects.Announce()]

    def _stop(self, *, keep: bool) -> list[Effect]:
        self._stopping = True
        if keep and self._mastership is not None and self._mastership.leased:
            # Peers count from this advert, and whoever starts within the lease goes on as if nothing had been.
            self._mastership = None
            return [self._advert_of_ours(), effects.Renew(), effects.Finished()]
        # An heir may wait for the word of one that was about to give it.
        self._says_goodbye = self._mastership is not None or bool(self._letting_go.pending)
        done = [] if self.role is Role.INIT else self._leave(Reason.STOP, "asked to stop")
        return done if self._letting_go.pending else [*done, effects.Finished()]

    def _handle_while_stopping(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Wait for the release, then bow out: a peer that takes over now finds nobody else answering."""
        if not isinstance(event, events.LeaseReleased) or not self._letting_go.pending:
            return ()
        self._letting_go.released(now)
        if self._letting_go.pending:
            return ()
        return (self._goodbye(), effects.Finished()) if self._says_goodbye else (effects.Finished(),)

    # Demotion ----------------------------------------------------------------------------------------------------

    def _demote(self, event: events.Demote, now: float) -> list[Effect]:
        """Tell a new demotion at once, as OpenBSD does; nobody lets go before somebody better has stood up."""
        before = self.demotion
        self.demotions.take(
            event.name,
            weight=event.weight,
            detail=event.detail,
            until=now + event.seconds,
            as_backup=event.as_backup,
        )
        return self._advertise(self._mastership, now) if self._mastership and self.demotion > before else []

    def _hand_over(self, now: float) -> list[Effect]:
        """Say goodbye, which every implementation obeys, but answer on until somebody has stood up."""
        if self._mastership is None:
            return []
        self._yields_until = now + max(self.master_down, LONGEST_STAGGER)
        # A regular advert would call those back who wait for their turn to stand up.
        self._offers_until = now + LONGEST_STAGGER
        return self._advertise(self._mastership, now)

    # Adverts of others -------------------------------------------------------------------------------------------

    def _advert(self, advert: AdvertReceived, now: float) -> list[Effect]:
        ear = self._ears.of(advert.source)
        if ear is None:
            return []
        self._prove()
        self._sealed = advert.sealed
        if advert.let_go:
            return [] if self._mastership is None else self._rival_let_go(advert.source, self._mastership, now)
        if self._mastership is not None:
            return self._advert_as_master(advert, ear, self._mastership, now)
        if self.role is not Role.BACKUP:
            return []
        return [*self._hear_heir(advert, now), *self._advert_as_backup(advert, ear, now)]

    def _advert_as_backup(self, advert: AdvertReceived, ear: Ear, now: float) -> list[Effect]:
        if advert.goodbye:
            self._goodbye_as_backup(advert, ear, now)
            return []
        cause = self._cause_to_take_over(advert, now)
        if cause is not None:
            # Of two masters the one that we follow deals with the other; a third would only join in.
            if ear.master != advert.source and now - self._ears.followed_at < self.interval:
                return []
            reason, detail = cause
            self._replaced = self._ears.masters | {advert.source}
            if reason is not Reason.DEMOTED_MASTER:
                return self._become_master(reason, detail, now)
            ear.master, ear.heard_at = advert.source, now
            self._stand_up_in_turn(reason, detail, now)
            return []
        if self._down_reason is not Reason.MASTER_DOWN:
            self._arm_down(now + self.master_down)  # somebody else had the earlier turn
        if ear.resting and not ear.wakes(advert.source, interval=election.interval_of(advert), now=now):
            return []
        ear.resting = False
        ear.master, ear.heard_at = advert.source, now
        ear.down_at = max(now + self.master_down, self._leads_from)
        self._granted_extra = False
        return []

    def _goodbye_as_backup(self, advert: AdvertReceived, ear: Ear, now: float) -> None:
        in_turn = self._down_reason in _REPLACED_ALIVE
        if in_turn and advert.bow_out and advert.source in self._replaced:
            # Our turn stays as it is, but there is nobody to wait for any more.
            self._arm_down(self._ears.down_at, Reason.BOW_OUT, f"{advert.source} said goodbye")
        # One that was overtaken on its way changes nothing: another has stood up already.
        elif ear.master == advert.source or self._ears.master is None:
            same = self._replaced if in_turn else frozenset()  # the same word over the other address family
            self._replaced = same | self._ears.masters | {advert.source}
            self._ears.forget()
            reason = Reason.HANDED_OVER if advert.hands_over else Reason.BOW_OUT
            self._stand_up_in_turn(reason, f"{advert.source} said goodbye", now)

    def _cause_to_take_over(self, advert: AdvertReceived, now: float) -> tuple[Reason, str] | None:
        if now < self._leads_from:
            return None
        preempts = self.config.preempt and now >= max(self._preempts_from, self._yields_until)
        patience = self.master_down if self.config.advbase else None
        return election.cause_to_take_over(advert, self._candidate, preempts=preempts, patience=patience)

    def _stand_up_in_turn(self, reason: Reason, detail: str, now: float) -> None:
        due = now + self.demotions.advskew(self.config.advskew) * STAGGER
        if due < self._ears.down_at:
            self._arm_down(due, reason, detail)

    def _advert_as_master(self, advert: AdvertReceived, ear: Ear, mastership: Mastership, now: float) -> list[Effect]:
        if advert.goodbye:
            return self._rival_let_go(advert.source, mastership, now) if advert.bow_out and mastership.waits else []
        yields = now < self._yields_until
        if yields or self._outranked_by(advert, ear, since=mastership.since, now=now):
            theirs, us = election.interval_of(advert), self._candidate
            detail = (
                f"{advert.source} advertises every {theirs:.3f} s, demotion {advert.demotion}; "
                f"this node every {us.interval:.3f} s, demotion {us.demotion}"
            )
            # The winner may have heard nothing of us, but clients have learnt the way to us: it has to announce. Who
            # knows no word of ours hears one more advert, as from ucarp before it yields.
            last = [self._advert_of_ours()] if mastership.leased and not (yields or advert.sealed) else []
            done = [*last, *self._leave(Reason.HANDED_OVER if yields else Reason.BETTER_MASTER, detail)]
            # And it may wait with its bind until we have let go; where we wait, that is somebody else's to say.
            if not mastership.waits:
                self._letting_go.yield_until(now + self.master_down, interval=min(self.interval, theirs))
                self._letting_go.hear(advert, now)
            # The other family's timer rests until somebody is heard there: what it does not hear proves nothing now.
            self._arm_down(now + self.master_down)
            self._ears.rest_but(ear)
            ear.master, ear.heard_at = advert.source, now
            # BSD yields to its equals too: whoever did so first must not stand up again together with it.
            tie = not advert.sealed and election.outranks(advert, self._candidate) is None
            ear.down_at = now + self.master_down + (self.interval / 2 if tie else 0.0)
            return done
        ear.heard_at = now
        listener = advert.source if advert.sealed else None  # strangers such as ucarp listen to no unicast
        if not mastership.may_reply(listener, now):
            return []
        done = self._advertise(mastership, now, *([] if listener is None else [listener]))
        if mastership.leased:
            mastership.announce_out_of_turn(now)
            done.append(effects.Announce())
        return done

    def _rival_let_go(self, rival: IPAddress, mastership: Mastership, now: float) -> list[Effect]:
        """Bind, if that was waited for; else announce: a rival that we never heard may have led clients astray."""
        if mastership.waits:
            return self._bind(mastership, now) if rival in self._replaced else []
        if not mastership.leased or not mastership.may_reply(None, now):
            return []
        mastership.announce_out_of_turn(now)
        return [effects.Announce()]

    def _outranked_by(self, advert: AdvertReceived, ear: Ear, *, since: float, now: float) -> bool:
        outranked = election.outranks(advert, self._candidate)
        if outranked is not None:
            return outranked
        main = self._ears.main
        if ear is not main and now - max(main.heard_at, since) < 2 * self.interval:
            return False  # while anything is heard in the main family it decides: the other may be in another order
        return election.ranks_before(advert.source, ear.source, sealed=advert.sealed)

    # Time --------------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        if self.role is Role.BACKUP and now >= self._ears.down_at:
            return self._master_is_down(now)
        mastership = self._mastership
        if mastership is None:
            return []
        if mastership.unanswered(now):
            # Whoever binds for us does not answer, so the kernel has let go of the VIPs, or is about to.
            detail = f"no renewal of the lease was confirmed for {self.config.lease:g} s"
            return self._give_up(Reason.LEASE_UNANSWERED, detail, now)
        if mastership.bind_due(now):
            return self._bind(mastership, now)
        done: list[Effect] = []
        if mastership.advert_due(now):
            done += self._advertise(mastership, now)
        if mastership.announcement_due(now):
            mastership.announce(now)
            done.append(effects.Announce())
        return done

    def _master_is_down(self, now: float) -> list[Effect]:
        late = now - self._ears.down_at
        if late > self.interval / 2 and not self._granted_extra:
            # Whoever slept through the deadline has not listened: the master gets one more interval.
            self._granted_extra = True
            self._ears.postpone(due=now, until=now + self.interval)
            return []
        if self.unproven and now < self._occupied_until:
            return self._hold_back(now)
        detail = self._down_detail
        if not detail:
            detail = self._silence(now)
        return self._become_master(self._down_reason, detail, now)

    def _hold_back(self, now: float) -> list[Effect]:
        """Bind nothing beside a stranger who answers; ask again when his last answer counts no more."""
        self._ears.postpone(due=now, until=self._occupied_until)
        if self.held_back is not None:
            return []
        self.held_back = f"{self._occupied_by}, but nobody who has it is heard to be master"
        return [effects.HeldBack(self.held_back)]

    def _prove(self) -> None:
        """Note that the VIPs are a matter among members from now on: no stranger delays a takeover any more."""
        self.unproven, self.held_back = False, None

    def _depose_if_late(self, now: float) -> list[Effect]:
        """A master that was silent for as long as its peers wait has been replaced, whatever it still believes."""
        silent = None if self._mastership is None else self._mastership.silence(now)
        if silent is None:
            return []
        detail = f"this process was not run for {silent:.3f} s, peers do not wait so long"
        done = self._leave(Reason.WOKE_LATE, detail)
        self._listen_anew(now)
        return done

    def _silence(self, now: float) -> str:
        """Say what was not heard, and in which family if the other one is heard on."""
        silent = self._ears.silent(now)
        elsewhere = self._ears.others(silent, heard_since=now - self.master_down)
        told = "no advert was heard"
        if silent.master is not None:
            told = f"no advert from {silent.master} for {now - silent.heard_at:.3f} s"
        if not elsewhere:
            return told
        return f"{told} over IPv{silent.source.version}, while {elsewhere[0].master} is heard over the other family"

    def _wait_for_living(self, reason: Reason) -> float:
        """Return how long a master that we know to be alive may take to let go, 0 if we know of none.

        One of our kind says so. Where his word is lost, or he died or hangs, his lease is over after the time of ours.
        """
        if reason not in _REPLACED_ALIVE:
            return 0.0
        return self.master_down if self._sealed else min(STRANGER_LETS_GO_WITHIN, self.interval / 2)

    # The lease ---------------------------------------------------------------------------------------------------

    def _of_the_vips(
        self,
        event: events.LeaseAnswered | events.LeaseReleased | events.LeaseDisturbed | events.Occupied,
        now: float,
    ) -> list[Effect]:
        match event:
            case events.LeaseAnswered(error=error):
                return self._lease_answered(error, now)
            case events.LeaseReleased():
                return self._released(now)
            case events.LeaseDisturbed():
                return self._lease_disturbed(now)
            case events.Occupied(by=by, seconds=seconds):
                self._occupied_by, self._occupied_until = by, now + seconds
                return []
            case _:
                assert_never(event)

    def _lease_answered(self, error: str | None, now: float) -> list[Effect]:
        mastership = self._mastership
        if mastership is None or self._letting_go.pending:
            return []  # the answer to a lease that was given up since
        if error is not None:
            return self._give_up(Reason.BIND_FAILED, error, now)
        self.demotions.give_back(LEASE)
        self._lease_failures = 0
        if not mastership.answered():
            return []
        mastership.announce(now)
        renewed = self._advertise(mastership, now) if mastership.confirmed_late else []
        return [*renewed, effects.Announce()]

    def _lease_disturbed(self, now: float) -> list[Effect]:
        """Begin the lease anew, with an advert as always, and announce it anew."""
        mastership = self._mastership
        if mastership is None or not mastership.leased:
            return []  # what is being bound or released is on its way to be right
        return self._bind(mastership, now)

    def _bind(self, mastership: Mastership, now: float) -> list[Effect]:
        """Begin a lease, with an advert as always."""
        mastership.begin_lease(now)
        return [*self._advertise(mastership, now), effects.Bind()]

    def _released(self, now: float) -> list[Effect]:
        """Tell whoever we yielded to that we have let go."""
        heirs = self._letting_go.released(now)
        return [self._word_to(heir) for heir in heirs] if self.role is Role.BACKUP else []

    def _hear_heir(self, advert: AdvertReceived, now: float) -> list[Effect]:
        heir = self._letting_go.hear(advert, now)
        return [] if heir is None else [self._word_to(heir)]

    def _word_to(self, heir: IPAddress) -> Effect:
        return effects.AdvertiseTo(self._goodbye(LET_GO), heir)

    def _give_up(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        """Leave the VIPs to whoever can bind them; a preferred node would else take them back at once, in vain."""
        done = self._leave(reason, detail)
        self._listen_anew(now)
        retry = min(LEASE_RETRY * 2**self._lease_failures, LEASE_RETRY_AT_MOST)
        self._lease_failures += 1
        self.demotions.take(LEASE, weight=HARD, detail=detail, until=now + retry)
        return [*done, self._goodbye()]

    def _advertise(self, mastership: Mastership, now: float, *rivals: IPAddress) -> list[Effect]:
        advert = self._goodbye(HANDS_OVER) if now < self._offers_until else self._advert_of_ours()
        done: list[Effect] = [
            advert,
            *(effects.AdvertiseTo(advert, rival) for rival in {*mastership.deaf(now), *rivals}),
        ]
        return [*done, effects.Renew()] if mastership.advertise(now) else done

    # Role changes ------------------------------------------------------------------------------------------------

    def _switch(self, reason: Reason, detail: str) -> Effect:
        before, self.role = self.role, TRANSITIONS[self.role, reason]
        self.demotions.backup = self.role is Role.BACKUP
        return effects.RoleChanged(before=before, after=self.role, reason=reason, detail=detail)

    def _become_master(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        changed = self._switch(reason, detail)
        self._prove()
        self._ears.forget()
        self._yields_until = self._offers_until = -math.inf
        return [*self._begin_mastership(now, wait=self._wait_for_living(reason)), changed]

    def _begin_mastership(self, now: float, *, wait: float) -> list[Effect]:
        config = self.config
        patience = timing.patience(advbase=config.advbase, advskew=config.advskew, dead_ratio=config.dead_ratio)
        mastership = Mastership(now, interval=self.interval, lease=config.lease, patience=patience, wait=wait)
        self._mastership = mastership
        # The advert first: it stops the other backups while the kernel binds, and has a living master let go.
        return [*self._advertise(mastership, now), *([] if mastership.waits else [effects.Bind()])]

    def _become_backup(self, reason: Reason, detail: str, now: float) -> list[Effect]:
        """Begin to listen, at the start or when the link returns."""
        changed = self._switch(reason, detail)
        self._leads_from = now + self.config.startup_delay
        self._preempts_from = now + max(self.config.startup_delay, self.config.preempt_delay)
        self._listen_anew(now)
        return [changed]

    def _leave(self, reason: Reason, detail: str) -> list[Effect]:
        """Stop being what we are; a master lets go of the VIPs before anything else."""
        changed = self._switch(reason, detail)
        self._ears.forget()
        held, self._mastership = self._mastership is not None, None
        self._letting_go.leave(releases=held)
        return [effects.Release(), changed] if held else [changed]

    def _advert_of_ours(self) -> effects.Advertise:
        advskew = self.demotions.advskew(self.config.advskew)
        return effects.Advertise(advbase=self.config.advbase, advskew=advskew, demotion=self.demotion)

    def _goodbye(self, advskew: int = BOW_OUT) -> effects.Advertise:
        return effects.Advertise(advbase=BOW_OUT, advskew=advskew, demotion=self.demotion)

    def _listen_anew(self, now: float) -> None:
        self._ears.begin(math.inf)
        self._arm_down(now + self.master_down)

    def _arm_down(self, at: float, reason: Reason = Reason.MASTER_DOWN, detail: str = "") -> None:
        self._ears.arm(max(at, self._leads_from))
        self._down_reason = reason
        self._down_detail = detail
        self._granted_extra = False
