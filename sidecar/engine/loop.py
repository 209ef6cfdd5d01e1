"""The engine's only loop: drain the packet sockets, listen to the parent, meet the deadlines."""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from itertools import islice

from sidecar.engine.lag import Lag
from sidecar.engine.path import Port
from sidecar.engine.perform import GroupRunner
from sidecar.engine.receive import find, read
from sidecar.engine.standing import Standing, carrier_lost, changes, unhealthy
from sidecar.engine.succession import Succession
from sidecar.engine.timers import Timers
from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import (
    Bound,
    ChangeGroup,
    CloseInterface,
    Demote,
    Disturbed,
    GroupChanged,
    GroupStatus,
    GroupStopped,
    HandOver,
    Health,
    InterfaceStatus,
    LinkChanged,
    Message,
    MessageError,
    OpenInterface,
    Promote,
    Released,
    Snapshot,
    StartGroup,
    StatusReply,
    StatusRequest,
    Stop,
    StopGroup,
    Stopped,
)
from sidecar.net import sockets
from sidecar.net.inquiry import AnswerError, read_answer
from sidecar.observe.moment import boot_time
from sidecar.protocol import events, timing
from sidecar.protocol.demotion import HARD
from sidecar.protocol.packet import PacketError

log = logging.getLogger(__name__)

_SEND_ERRORS_LAST = 30.0
_MIRROR = ""
"""The owner of the mirror's deadline; no group has this name."""
_SUCCESSION = " "
"""The owner of the deadline until which successors are waited for; nor has any group this name."""
_MIRROR_SPACING = 0.05
"""Seconds between two snapshots of the roles: they name all groups, and many may change in a row."""
_STATUS_PAGE = 400
"""Peers and transitions in one message of the status; some 100 kB, which any socket's buffer holds."""
_GROUP_ITSELF = 4
"""A group's own part of the status is as long as that of so many of its peers."""
_PACKETS_PER_TURN = 256
"""A flood must not keep the loop from its timers."""


class Engine:
    """All groups of this node. ``run`` returns once they have handed over, or the parent is gone."""

    def __init__(self, channel: Channel, *, node: str, clock: Callable[[], float] = boot_time) -> None:
        self._channel = channel
        self._node = node
        self._clock = clock
        self._ports: dict[str, Port] = {}
        self._groups: dict[str, GroupRunner] = {}
        self._by_vhid: dict[str, dict[int, GroupRunner]] = {}
        self._handlers: dict[int, Callable[[float], None]] = {}
        self._timers = Timers()
        self._lag = Lag()
        self._unfinished: set[str] = set()
        self._leaving: set[str] = set()
        """Groups that end while the others go on."""
        self._failing: dict[str, float] = {}
        """Interfaces that adverts do not leave, and until when that demotes."""
        self._standing = Standing()
        self._health = Health()
        self._roles_changed = False
        self._mirror_from = -math.inf
        self._stopping = False
        self._kept: set[str] = set()
        """Groups whose VIPs the next run resumes: they stop last."""
        self._succession = Succession()
        self._poll = select.epoll()

    def run(self) -> int:
        """Serve until asked to stop; return the exit code."""
        self._watch(self._channel.fileno(), self._from_parent)
        try:
            while not self._done():
                self.turn()
            self._mirror_from = -math.inf
            self._mirror(self._clock())
            self._channel.send(Stopped())
        except ChannelClosedError:
            return 1  # the parent is gone: its leases run out, and nobody can bind for us
        except BlockingIOError:
            log.error("the parent does not read what it is told: this engine ends")  # noqa: TRY400 - no more to know
            return 1
        finally:
            self._poll.close()
        return 0

    def turn(self) -> None:
        """Wait for the next event or deadline and serve all that is due. Packets come before timers: a backup that
        was not run hears first what was said in the meantime."""
        promised = self._timers.next()
        for fd, _ in self._poll.poll(self._timeout()):
            handler = self._handlers.get(fd)  # none where what was just heard closed it
            if handler is not None:
                handler(self._clock())
        now = self._clock()
        if promised is not None and promised <= now:
            self._lag.note(now - promised)
        for name in self._timers.due(now):
            if name == _SUCCESSION:
                self._succession.expire(now)
                self._timers.arm(_SUCCESSION, self._succession.deadline)
            elif name != _MIRROR:
                self._feed(self._groups[name], events.Tick(), now)
        self._stop_kept(now)
        self._mirror(now)

    def _timeout(self) -> float | None:
        deadline = self._timers.next()
        return None if deadline is None else max(0.0, deadline - self._clock())

    def _done(self) -> bool:
        return self._stopping and not self._unfinished and self._succession.deadline == math.inf

    def _feed(self, runner: GroupRunner, event: events.Event, now: float) -> None:
        """Every event that is not an advert reaches its group by way of here."""
        runner.handle(event, now)
        self._settle(runner)

    def _settle(self, runner: GroupRunner) -> None:
        """Take over what an event changed: the deadline, the role, the end. The loop looks at no other group."""
        self._timers.arm(runner.plan.name, runner.deadline)
        if runner.role_changed:
            runner.role_changed = False
            self._roles_changed = True
        if runner.finished:
            self._unfinished.discard(runner.plan.name)
            if runner.plan.name in self._leaving:
                self._forget(runner)
                return
        port, until = runner.port, self._failing.get(runner.port.name)
        in_vain = until is not None and port.failed_at >= until  # tried again since
        if port.failing is not (until is not None) or in_vain:
            self._demote_for(port)

    def _demote_for(self, port: Port) -> None:
        """Be a worse master everywhere while adverts do not leave an interface (``carp_send_ad``, OpenBSD ip_carp.c).

        For a while only: who is master no longer sends none that could prove that it is over. If the next one does not
        leave either, it begins anew.
        """
        name = f"send-errors:{port.name}"
        event: events.Event = events.Promote(name=name)
        if port.failing:
            self._failing[port.name] = self._clock() + _SEND_ERRORS_LAST
            detail = f"adverts do not leave {port.name}: {port.fault}"
            event = events.Demote(name=name, weight=HARD, detail=detail, seconds=_SEND_ERRORS_LAST)
            log.warning("demoted by %d for at most %.0f s: %s (%s)", HARD, _SEND_ERRORS_LAST, detail, name)
        else:
            log.info("the demotion %s is over", name)
            del self._failing[port.name]
        for each in self._groups.values():
            self._feed(each, event, self._clock())

    def _watch(self, fd: int, handler: Callable[[float], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    # The parent --------------------------------------------------------------------------------------------------

    def _from_parent(self, _: float) -> None:
        while (received := self._channel.receive()) is not None:
            message, fds = received
            now = self._clock()
            match message:
                case OpenInterface():
                    self._open(message, fds, now)
                case CloseInterface(interface=name):
                    self._close(self._ports.pop(name))
                case StartGroup():
                    self._start(message, now)
                case LinkChanged():
                    self._link(message, now)
                case ChangeGroup() | StopGroup() | Bound() | Released() | Disturbed():
                    self._obey_for_a_group(message, now)
                case _:
                    self._obey_as_a_whole(message, now)

    def _obey_for_a_group(self, message: ChangeGroup | StopGroup | Bound | Released | Disturbed, now: float) -> None:
        runner = self._groups[message.group.name if isinstance(message, ChangeGroup) else message.group]
        match message:
            case ChangeGroup(group=plan, lease=lease):
                self._channel.send(GroupChanged(group=plan.name))
                runner.change(plan, lease=lease, now=now)
                self._settle(runner)
            case StopGroup(group=name):
                self._leaving.add(name)
                self._feed(runner, events.Stop(), now)
            case Bound(error=error):
                self._feed(runner, events.LeaseAnswered(error=error), now)
            case Released():
                self._feed(runner, events.LeaseReleased(), now)
            case Disturbed(detail=detail):
                runner.note_disturbance(detail)
                self._feed(runner, events.LeaseDisturbed(), now)

    def _obey_as_a_whole(self, message: Message, now: float) -> None:
        match message:
            case StatusRequest():
                self._answer(message)
            case Demote(name=name, weight=weight, detail=detail):
                self._demote(events.Demote(name=name, weight=weight, detail=detail), now)
            case Promote(name=name):
                self._promote(name, now)
            case Health():
                self._note_health(message, now)
            case HandOver():
                for runner in self._groups.values():
                    self._feed(runner, events.HandOver(), now)
            case Stop():
                self._stop(now)
            case _:
                log.error("the parent sent a %s, which is not for the engine", type(message).__name__)

    def _open(self, message: OpenInterface, fds: list[int], now: float) -> None:
        inherited = [socket.socket(fileno=fd) for fd in fds]
        wires = dict(zip(message.wires, inherited, strict=False))
        raws = dict(zip(message.raws, inherited[len(wires) :], strict=False))
        port = self._ports.get(message.interface)
        if port is None:
            port = Port(message.interface, message.mac, message.up, wires, raws, index=message.index)
            self._ports[port.name] = port
            self._by_vhid[message.interface] = {}
        else:
            # Another interface of the same name: nothing that was true of the one before still is.
            is_another = port.index != message.index
            if is_another:
                self._link(LinkChanged(interface=port.name, up=False, mac=port.mac), now)
            self._close(port)
            port.wires, port.raws = wires, raws
            if is_another:
                port.index = message.index
                self._link(LinkChanged(interface=port.name, up=message.up, mac=message.mac), now)
        port.ears = tuple(inherited[len(wires) + len(raws) :])
        port.gateways = tuple(ip_address(each) for each in message.gateways)
        port.own_macs = frozenset(message.own_macs)
        for wire in wires.values():
            self._watch(wire.fileno(), partial(self._from_wire, port, wire))
        for ear in port.ears:
            self._watch(ear.fileno(), partial(self._from_neighbours, port, ear))

    def _close(self, port: Port) -> None:
        for ear in (*port.wires.values(), *port.ears):
            del self._handlers[ear.fileno()]
            self._poll.unregister(ear.fileno())
        for sock in (*port.wires.values(), *port.raws.values(), *port.ears):
            sock.close()

    def _start(self, message: StartGroup, now: float) -> None:
        plan = message.group
        runner = GroupRunner(
            plan,
            self._ports[plan.interface],
            self._channel.send,
            lease=message.lease,
            history=message.history,
            reached=None if message.seal_offset is None else now + message.seal_offset,
        )
        self._groups[plan.name] = runner
        self._by_vhid[plan.interface][plan.vhid] = runner
        self._unfinished.add(plan.name)
        for demotion in self._standing.concerning(interface=plan.interface, ignore_link=plan.ignore_link):
            runner.handle(demotion, now)
        for demotion in unhealthy(self._health, plan.name).values():
            runner.handle(demotion, now)
        runner.start(resume=message.resume, now=now)
        self._roles_changed = True  # also of a group that waits for its link
        self._settle(runner)
        self._note_carrier(runner.port, now)

    def _forget(self, runner: GroupRunner) -> None:
        name, port = runner.plan.name, runner.port
        self._leaving.discard(name)
        self._timers.arm(name, None)
        del self._groups[name]
        del self._by_vhid[port.name][runner.plan.vhid]
        port.groups -= 1
        self._roles_changed = True
        self._channel.send(GroupStopped(group=name))
        self._note_carrier(port, self._clock())

    def _link(self, message: LinkChanged, now: float) -> None:
        port = self._ports[message.interface]
        is_another_mac, port.mac = port.mac != message.mac, message.mac
        if port.up == message.up:
            if port.up and is_another_mac:
                self._tell_of_link(self._by_vhid[port.name].values(), port, now)
            return
        port.up = message.up
        self._tell_of_link(self._by_vhid[port.name].values() if port.up else self._caring(port), port, now)
        self._note_carrier(port, now)

    def _tell_of_link(self, runners: Iterable[GroupRunner], port: Port, now: float) -> None:
        for runner in list(runners):
            self._feed(runner, events.LinkChanged(up=port.up), now)

    def _caring(self, port: Port) -> list[GroupRunner]:
        return [runner for runner in self._by_vhid[port.name].values() if not runner.plan.ignore_link]

    def _note_carrier(self, port: Port, now: float) -> None:
        """Be a worse master on the other interfaces while one that a group cares for has no carrier."""
        if port.up or not self._caring(port):
            self._promote(carrier_lost(port.name).name, now, interface=port.name)
        else:
            self._demote(carrier_lost(port.name), now, interface=port.name)

    def _demote(self, event: events.Demote, now: float, *, interface: str | None = None) -> None:
        if not self._standing.take(event, interface=interface):
            return
        if self._tells_of(interface):
            log.warning("demoted by %d: %s (%s)", event.weight, event.detail, event.name)
        for runner in self._groups.values():
            if event in self._standing.concerning(interface=runner.port.name, ignore_link=runner.plan.ignore_link):
                self._feed(runner, event, now)

    def _promote(self, name: str, now: float, *, interface: str | None = None) -> None:
        if self._standing.give_back(name):
            if self._tells_of(interface):
                log.info("the demotion %s is over", name)
            for runner in self._groups.values():
                self._feed(runner, events.Promote(name=name), now)

    def _note_health(self, health: Health, now: float) -> None:
        before, self._health = self._health, health
        for each in health.demotions:
            if each not in before.demotions:
                where = f" for {', '.join(each.groups)}" if each.groups else ""
                role = " while backup" if each.as_backup else ""
                log.warning("demoted by %d%s%s: %s (%s)", each.weight, where, role, each.detail, each.name)
        standing = {(each.name, each.groups) for each in health.demotions}
        for each in before.demotions:
            if (each.name, each.groups) not in standing:
                log.info("the demotion %s is over", each.name)
        for name, runner in self._groups.items():
            for event in changes(before, health, name):
                self._feed(runner, event, now)

    def _tells_of(self, interface: str | None) -> bool:
        """Tell whether a demotion for an interface's carrier can concern anybody: with only this one it can't."""
        return interface is None or len(self._ports) > 1

    def _stop(self, now: float) -> None:
        self._stopping = True
        for name, runner in self._groups.items():
            if runner.plan.on_exit == "keep" and name not in self._leaving:
                self._kept.add(name)
                continue
            if runner.is_master:
                waits = timing.succession(advbase=runner.plan.advbase, advskew=runner.plan.advskew)
                self._succession.await_one(runner.plan.name, until=now + waits)
            self._feed(runner, events.Stop(), now)
        self._timers.arm(_SUCCESSION, self._succession.deadline)

    def _stop_kept(self, now: float) -> None:
        """Stop them once all others are over: the next run has what is left of the lease after their last advert."""
        if self._kept and self._unfinished <= self._kept and self._succession.deadline == math.inf:
            kept, self._kept = self._kept, set()
            for name in kept:
                self._feed(self._groups[name], events.Stop(keep=True), now)

    # The wire ----------------------------------------------------------------------------------------------------

    def _from_wire(self, port: Port, wire: socket.socket, _: float) -> None:
        groups = self._by_vhid[port.name]
        for _turn in range(_PACKETS_PER_TURN):
            frame = sockets.receive(wire)
            if frame is None:
                return
            if not groups:
                continue  # none has begun yet, so nobody can tell whose it is
            try:
                arrival = read(frame)
                runner = find(arrival, groups)
            except PacketError as error:
                port.drop(error, wall=time.time())
                continue
            runner.receive(arrival, self._clock())
            self._settle(runner)
            if runner.successor is not None:
                self._succession.heard(runner.plan.name, runner.successor)

    def _from_neighbours(self, port: Port, ear: socket.socket, now: float) -> None:
        """Hear who says that he has one of the VIPs, or is told that we have it."""
        groups = self._by_vhid[port.name].values()
        for _turn in range(_PACKETS_PER_TURN):
            frame = sockets.receive_ethernet(ear)
            if frame is None:
                return
            try:
                answer = read_answer(frame)
            except AnswerError:
                continue  # whatever it is, it is nobody's word
            for runner in groups:
                if answer.address in runner.vips or answer.told in runner.vips:
                    runner.hear(answer, now)
                    self._settle(runner)

    # What people see ---------------------------------------------------------------------------------------------

    def _mirror(self, now: float) -> None:
        """Tell of changed roles, unless that was done just now, or the parent has too much to read already."""
        if not self._roles_changed:
            return
        if now >= self._mirror_from:
            self._mirror_from = now + _MIRROR_SPACING
            with contextlib.suppress(BlockingIOError):
                self._channel.send(Snapshot(groups=tuple(runner.role() for runner in self._groups.values())))
                self._roles_changed = False
                return
        self._timers.arm(_MIRROR, self._mirror_from)

    def _answer(self, request: StatusRequest) -> None:
        try:
            self._channel.send(self._status(request))
        except (MessageError, BlockingIOError) as error:
            log.error("the status cannot be told: %s", error)  # noqa: TRY400 - a question must not end the engine

    def _status(self, request: StatusRequest) -> StatusReply:
        first = min(max(0, request.first), len(self._groups))
        groups = self._page(first)
        after = first + len(groups)
        return StatusReply(
            token=request.token,
            more=after if groups and after < len(self._groups) else None,
            node=self._node,
            groups=groups,
            interfaces=tuple(
                InterfaceStatus(
                    name=port.name,
                    up=port.up,
                    drops={reason.value: count for reason, count in sorted(port.drops.items())},
                    peers=port.strangers.status(),
                )
                for port in self._ports.values()
            ),
            lag=self._lag.status(),
        )

    def _page(self, first: int) -> tuple[GroupStatus, ...]:
        """Return the status of as many groups as fit into one message with all that they hear, at least of one."""
        groups: list[GroupStatus] = []
        room = _STATUS_PAGE
        for runner in islice(self._groups.values(), first, None):
            groups.append(runner.status())
            room -= _GROUP_ITSELF + len(groups[-1].peers) + len(groups[-1].history)
            if room <= 0:
                break
        return tuple(groups)
