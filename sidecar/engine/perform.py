"""One group at work: its machine's effects carried out, its packets counted, its story told."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from ipaddress import ip_interface
from typing import assert_never

from sidecar.engine.asking import Asking
from sidecar.engine.counters import Continued, Counters, SealedCounters
from sidecar.engine.path import Path, Port
from sidecar.engine.peers import Peers
from sidecar.engine.receive import Arrival, authenticate
from sidecar.engine.rivals import Rivals
from sidecar.ipc.messages import (
    CHANGES_REMEMBERED,
    Bind,
    DemotionStatus,
    GroupRole,
    GroupStatus,
    Message,
    Release,
    Renew,
    TransitionStatus,
)
from sidecar.ipc.plan import GroupPlan
from sidecar.net import neighbor, sockets
from sidecar.net.inquiry import Answer
from sidecar.protocol import effects, packet, timing
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.events import AdvertReceived, Event, Reconfigured, Start
from sidecar.protocol.machine import Group
from sidecar.protocol.packet import PacketError
from sidecar.protocol.seal import Sealed
from sidecar.protocol.types import BOW_OUT, LET_GO, DropReason, GroupConfig, IPAddress, Reason, Role, virtual_mac

log = logging.getLogger(__name__)

_TROUBLE = frozenset({Reason.LINK_DOWN, Reason.WOKE_LATE, Reason.BIND_FAILED, Reason.LEASE_UNANSWERED})
"""What somebody should look into, not just know."""


_REFUSALS_AT_MOST = 16
_NEIGHBOURS_ASKED = 3


class GroupRunner:
    """Feeds one ``Group`` with events and performs its effects.

    ``tell_parent`` sends a message to the parent; ``finished`` turns True once the group has handed over. ``lease`` is
    how long the kernel keeps the VIPs, where the parent knows better than the timing; ``history`` is of earlier
    engines, and so is what their seals have ``reached`` (Unix seconds).
    """

    def __init__(  # noqa: PLR0913 - what a parent knows of a group
        self,
        plan: GroupPlan,
        port: Port,
        tell_parent: Callable[[Message], None],
        *,
        lease: float | None = None,
        history: Iterable[TransitionStatus] = (),
        reached: float | None = None,
    ) -> None:
        self.port = port
        port.groups += 1
        self.vips = tuple(ip_interface(vip).ip for vip in plan.vips)
        self._obey(plan)
        self.group = Group(self._config(lease))
        self.peers = Peers()
        self._asking = Asking(plan.name, port, self.vips)
        self.finished = False
        self.successor: IPAddress | None = None
        """Who was heard to be master after this group had finished."""
        self.role_changed = False
        """Set by a role change; the loop clears it once the mirror has been told."""
        self._tell_parent = tell_parent
        self._counters: Counters = Continued()
        if plan.replay == "strict":
            self._counters = SealedCounters(plan, reached=reached)
        self._now = 0.0
        self._sent = 0
        self._received = 0
        self._send_errors = 0
        self._send_error = ""
        self._drops: Counter[DropReason] = Counter()
        self._refused: Counter[tuple[IPAddress, DropReason]] = Counter()
        """Since the last advert that was not."""
        self._rivals = Rivals()
        self._transitions: Counter[Reason] = Counter()
        self._history: deque[TransitionStatus] = deque(history, maxlen=CHANGES_REMEMBERED)
        self._announcements = 0
        self._disturbances = 0
        self._disturbance: str | None = None
        self._since = time.time()
        self._reason = ""
        self._detail = ""

    def _obey(self, plan: GroupPlan) -> None:
        self.plan = plan
        paths = [Path(each, transport=plan.transport, port=self.port) for each in plan.paths]
        self.paths: dict[int, Path] = {path.source.version: path for path in paths}
        """By IP version, the main one first."""
        self.authenticators = tuple(
            Authenticator(key=key, vhid=plan.vhid, addresses=self.vips) for key in (plan.key, *plan.accepted_keys)
        )
        """The first one signs; the others are accepted, so that a password can be changed node by node."""
        self._standing = timing.standing(advbase=plan.advbase, advskew=plan.advskew, dead_ratio=plan.dead_ratio)

    def _config(self, lease: float | None) -> GroupConfig:
        plan, paths = self.plan, tuple(self.paths.values())
        timers = {"advbase": plan.advbase, "advskew": plan.advskew, "dead_ratio": plan.dead_ratio}
        return GroupConfig(
            name=plan.name,
            vhid=plan.vhid,
            source=paths[0].source,
            second_source=paths[1].source if len(paths) > 1 else None,
            preempt=plan.preempt,
            preempt_delay=plan.preempt_delay,
            startup_delay=plan.startup_delay,
            lease=timing.lease(**timers) if lease is None else lease,
            **timers,
        )

    # In ----------------------------------------------------------------------------------------------------------

    def change(self, plan: GroupPlan, *, lease: float | None, now: float) -> None:
        """Go on with other settings, of which interface, vhid, VIPs and own addresses are the same."""
        self._obey(plan)
        self._counters.change_keys(plan)
        self.handle(Reconfigured(self._config(lease)), now)

    def start(self, *, resume: bool, now: float) -> None:
        """Begin, as the master that an earlier engine was if ``resume``."""
        self.handle(Start(link_up=self.port.up or self.plan.ignore_link, resume=resume), now)

    def receive(self, arrival: Arrival, now: float) -> None:
        """Take a packet that names this group's vhid; whatever it is, it is counted."""
        try:
            password = authenticate(arrival, self)
            self._counters.accept(arrival, password, now)
        except PacketError as error:
            self._drops[error.reason] += 1
            self._note_refusal(arrival.source, error.reason)
            if self.peers.dropped(arrival.source, error.reason, wall=time.time()):
                self._report_drop(arrival, error)
            return
        self._received += 1
        self._refused.clear()
        header = arrival.header
        self._note_password(arrival, password + 1)
        heard = AdvertReceived(
            source=arrival.source,
            advbase=header.advbase,
            advskew=header.advskew,
            demotion=header.demotion,
            sealed=self.plan.replay == "strict",
        )
        if self.finished and heard.claims:
            self.successor = heard.source
        was_master = self.is_master
        self.handle(heard, now)
        if was_master and self.is_master and heard.claims:
            self._note_rival(heard.source, now)

    def handle(self, event: Event, now: float) -> None:
        """Let the machine decide and do what it wants, in its order."""
        was_master = self.is_master
        done = self.group.handle(event, now)
        if self.is_master and (not was_master or isinstance(event, AdvertReceived)):
            # A master begins, or hears a rival, who may have refused it for its clock.
            self._counters.anchor(now, resumed=isinstance(event, Start))  # no other start makes a master
        self._now = now
        for effect in done:
            self._perform(effect)
        self._asking.follow(unproven=self.group.unproven, master=self.is_master, interval=self.group.interval, now=now)
        if self._asking.ask(now, mac=self._mac, peers=self._neighbours):
            self._announce()

    def hear(self, answer: Answer, now: float) -> None:
        """Take somebody's word for who has an address."""
        occupied = self._asking.heard(answer, now, mac=self._mac)
        if occupied is not None:
            self.handle(occupied, now)

    def _neighbours(self) -> list[IPAddress]:
        """Return hosts that must know the way to the VIPs: peers, as far as they are known."""
        targets = (target for path in self.paths.values() for target in path.targets if not target.is_multicast)
        return list(dict.fromkeys((*targets, *self.peers.members())))[:_NEIGHBOURS_ASKED]

    @property
    def deadline(self) -> float | None:
        """When ``handle`` wants a Tick."""
        return min(self.group.deadline() or math.inf, self._asking.deadline)

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Advertise():
                self._advertise(effect)
            case effects.AdvertiseTo(advert=advert, target=target):
                self._advertise_to(advert, target)
            case effects.Bind():
                until, offset = self._now + self._standing, self._counters.offset
                self._tell_parent(Bind(group=self.plan.name, until=until, seal_offset=offset))
            case effects.Renew():
                until, offset = self._now + self._standing, self._counters.offset
                self._tell_parent(Renew(group=self.plan.name, until=until, seal_offset=offset))
            case effects.Release():
                self._tell_parent(Release(group=self.plan.name))
            case effects.Announce():
                self._announce()
            case effects.HeldBack(detail=detail):
                log.warning("not master yet: %s", detail, extra={"group": self.plan.name})
            case effects.RoleChanged():
                self._note_role(effect)
            case effects.Finished():
                self.finished = True
            case _:
                assert_never(effect)

    def path(self, version: int) -> Path | None:
        """Return how adverts over IPv4 or IPv6 are addressed, or None if the group does not speak it."""
        return self.paths.get(version)

    # Out ---------------------------------------------------------------------------------------------------------

    def _advertise(self, advert: effects.Advertise) -> None:
        errors = [
            error for path in self.paths.values() for error in path.transmit(self._signed(path, advert), mac=self._mac)
        ]
        if None in errors:
            self._sent += 1
        for error in errors:
            self._note_sending(error)
        self.port.note_advert(None if None in errors else self._send_error, self._now)

    def _advertise_to(self, advert: effects.Advertise, target: IPAddress) -> None:
        path = self.paths[target.version]
        # The word of who has let go is for one alone; an advert has gone to all already, with unicast to each of them.
        alone = (advert.advbase, advert.advskew) == (BOW_OUT, LET_GO)
        if alone or target not in path.targets:
            self._note_sending(path.send_to(target, self._signed(path, advert)))

    @property
    def _mac(self) -> bytes:
        """What we speak from: a virtual MAC is shown by a master and by nobody else, since switches follow it."""
        return virtual_mac(self.plan.vhid) if self.plan.mac == "virtual" and self.is_master else self.port.mac

    def _signed(self, path: Path, advert: effects.Advertise) -> bytes:
        """Return the CARP header of an advert, with a counter of its own."""
        said = Sealed(source=path.source, advbase=advert.advbase, advskew=advert.advskew, demotion=advert.demotion)
        counter = self._counters.next(said, self._now)
        header = packet.Header(
            vhid=self.plan.vhid,
            advbase=advert.advbase,
            advskew=advert.advskew,
            demotion=advert.demotion,
            counter=counter,
            mac=self.authenticators[0].sign(counter),
        )
        return packet.pack(header)

    def _announce(self) -> None:
        self._announcements += 1
        wire = next(iter(self.port.wires.values()))  # a packet socket sends frames of any kind
        for vip in self.vips:
            for frame in neighbor.announcements(mac=self._mac, address=vip):
                self._note_sending(sockets.send(wire, frame))
        self._asking.announced(self._now)

    def _note_sending(self, error: str | None) -> None:
        """Count what could not be sent, and log each kind of fault once until something is sent again."""
        if error is None:
            self._send_error = ""
            return
        self._send_errors += 1
        if error != self._send_error:
            self._send_error = error
            log.warning("cannot send on %s: %s", self.port.name, error, extra={"group": self.plan.name})

    # What people see ---------------------------------------------------------------------------------------------

    def _note_role(self, change: effects.RoleChanged) -> None:
        self._transitions[change.reason] += 1
        self._since = time.time()
        of_link = change.reason in (Reason.LINK_DOWN, Reason.LINK_UP)
        self._reason = change.reason
        self._detail = f"{change.detail} ({self.port.name})" if of_link else change.detail
        self.role_changed = True
        trouble = change.reason in _TROUBLE
        if change.reason is Reason.MASTER_DOWN and self._refused:
            # Somebody advertises whom this node does not accept: two may be master now.
            trouble = True
            self._detail += f"; refused were {self._refusals()}"
        self._history.append(
            TransitionStatus(
                at=self._since,
                before=change.before,
                after=change.after,
                reason=change.reason,
                detail=self._detail,
            )
        )
        log.log(
            logging.WARNING if trouble else logging.INFO,
            "%s -> %s: %s",
            change.before,
            change.after,
            self._detail,
            extra={
                "group": self.plan.name,
                "interface": self.port.name,
                "vhid": self.plan.vhid,
                "vips": ",".join(self.plan.vips),
                "reason": change.reason.value,
            },
        )

    def _note_refusal(self, source: IPAddress, reason: DropReason) -> None:
        if (source, reason) in self._refused or len(self._refused) < _REFUSALS_AT_MOST:
            self._refused[source, reason] += 1

    def _refusals(self) -> str:
        return ", ".join(
            f"{count} from {source} ({reason})" for (source, reason), count in self._refused.most_common(3)
        )

    def _note_rival(self, source: IPAddress, now: float) -> None:
        if self._rivals.heard(source, interval=self.group.interval, now=now):
            log.warning(
                "%s is master too and goes on although it was answered: it does not hear this node, or does not accept "
                "its adverts",
                source,
                extra={"group": self.plan.name, "vhid": self.plan.vhid},
            )

    def note_disturbance(self, detail: str) -> None:
        """Count that somebody else touched a VIP; the parent has logged it."""
        self._disturbances += 1
        self._disturbance = detail

    def _note_password(self, arrival: Arrival, password: int) -> None:
        before = self.peers.heard(
            arrival.source, arrival.header, password=password, wall=time.time(), followed=self.group.master
        )
        if password != before and (before or password > 1):
            log.info(
                "%s uses password %d of %d",
                arrival.source,
                password,
                len(self.authenticators),
                extra={"group": self.plan.name, "vhid": self.plan.vhid},
            )

    def _report_drop(self, arrival: Arrival, error: PacketError) -> None:
        log.warning(
            "adverts from %s are refused: %s",
            arrival.source,
            error,
            extra={"group": self.plan.name, "vhid": self.plan.vhid, "reason": error.reason.value},
        )

    def role(self) -> GroupRole:
        """Return what the mirror needs to know."""
        return GroupRole(
            name=self.plan.name,
            role=self.group.role,
            since=self._since,
            reason=self._reason,
            transitions=self._transitions.total(),
            detail=self._detail,
        )

    def status(self) -> GroupStatus:
        """Return all that ``carp-sidecar status`` shows."""
        now = self._now
        master = self.group.master
        return GroupStatus(
            name=self.plan.name,
            interface=self.port.name,
            vhid=self.plan.vhid,
            vips=self.plan.vips,
            role=self.group.role,
            since=self._since,
            reason=self._reason,
            detail=self._detail,
            master=None if master is None else str(master),
            source=str(self.group.config.source),
            second_source=None if self.group.config.second_source is None else str(self.group.config.second_source),
            transitions=self._transitions.total(),
            transitions_by_reason={reason.value: count for reason, count in sorted(self._transitions.items())},
            history=tuple(self._history),
            advbase=self.plan.advbase,
            advskew=self.plan.advskew,
            demotion=self.group.demotion,
            demotions=tuple(
                DemotionStatus(
                    name=each.name,
                    weight=each.weight,
                    detail=each.detail,
                    seconds=max(0.0, each.until - now) if math.isfinite(each.until) else None,
                )
                for each in self.group.demotions.standing()
            ),
            adverts_sent=self._sent,
            adverts_received=self._received,
            send_errors=self._send_errors,
            announcements=self._announcements,
            drops={reason.value: count for reason, count in sorted(self._drops.items())},
            peers=self.peers.status(),
            rivals=tuple(str(each) for each in self._rivals.standing(since=now - 3 * self.group.interval)),
            held_back=self.group.held_back,
            proof=self._asking.proof,
            contestants=self._asking.contestants,
            disturbances=self._disturbances,
            disturbance=self._disturbance,
        )

    @property
    def is_master(self) -> bool:
        """Tell whether this node is master now."""
        return self.group.role is Role.MASTER
