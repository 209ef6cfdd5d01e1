"""The parent: owns the kernel's state, runs the engine and the agent, outlives them both.

It opens the packet sockets and passes them on, leases and releases VIPs on the engine's word, and tells the engine what
the kernel says of the links. It parses nothing that a stranger sent.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Literal

from sidecar import privileges
from sidecar.children import Backoff, Child, describe, reap, spawn
from sidecar.control import ControlError, ControlServer, InUseError
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import (
    Bind,
    Bound,
    LinkChanged,
    Message,
    MessageError,
    MirroredGroup,
    OpenInterface,
    Release,
    Released,
    Renew,
    Snapshot,
    StartAgent,
    StartGroup,
    StatusReply,
    Stop,
    Stopped,
)
from sidecar.ipc.plan import GroupPlan, Plan, decode_plan
from sidecar.net import lease, sockets
from sidecar.net.addresses import AddressError, Addresses, Link
from sidecar.net.links import LinkMonitor, LinksLostError
from sidecar.observe import log as observe_log
from sidecar.protocol import timing

log = logging.getLogger(__name__)

EXIT_STOPPED, EXIT_FAILED, EXIT_SETTINGS, EXIT_PRIVILEGE = 0, 1, 2, 3

ENGINE_HAND_OVER = 3.0
"""Seconds that the engine has to hand over when asked to stop."""
LISTEN_AT_MOST = 0.02
"""Seconds of the engine's messages in one turn of the loop."""
AGENT_FAREWELL = 4.0
"""Seconds that the agent has to write the last role before it is ended."""


class Stage(enum.Enum):
    """How far a planned stop has come."""

    RUNNING = enum.auto()
    HANDING_OVER = enum.auto()
    """The engine releases the VIPs and bows out."""
    FAREWELL = enum.auto()
    """The network knows; the agent tells Kubernetes."""
    OVER = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The sockets of one interface by IP version: packet sockets, and raw ones where a group sends by unicast."""

    wires: dict[Literal[4, 6], socket.socket]
    raws: dict[Literal[4, 6], socket.socket]


class StartError(Exception):
    """The sidecar can't start; ``code`` is the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def main(plan_fd: int) -> int:
    """Run the sidecar with the plan that is readable from ``plan_fd``; return the exit code."""
    with os.fdopen(plan_fd, "rb") as file:
        plan = decode_plan(file.read())
    observe_log.configure(level=plan.log_level, style=plan.log_format, process="parent")
    supervisor = Supervisor(plan)
    try:
        return supervisor.run()
    except StartError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for the operator, not a traceback
        return error.code
    finally:
        supervisor.close()


class Supervisor:
    """One sidecar: the parent's state and its loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._addresses: Addresses | None = None
        self._monitor: LinkMonitor | None = None
        self._control = ControlServer(Path(plan.runtime_dir))
        self._links: dict[str, Link] = {}
        self._sockets: dict[str, Opened] = {}
        self._memberships: dict[tuple[str, str], socket.socket] = {}
        self._leases: dict[str, lease.VipLease] = {}
        self._held: set[str] = set()
        """Groups whose VIPs are leased to this node."""
        self._engine: Child | None = None
        self._agent: Child | None = None
        self._backoff = {"engine": Backoff(), "agent": Backoff()}
        self._restart_at: dict[str, float] = {}
        self._snapshot: Snapshot | None = None
        self._stage = Stage.RUNNING
        self._stage_ends = math.inf

    # Start -------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises StartError."""
        self._require_capabilities()
        self._watch_signals()
        self._addresses = Addresses()
        self._monitor = LinkMonitor()
        self._watch(self._monitor.fileno(), self._links_changed)
        self._links = {link.name: link for link in self._addresses.links()}
        self._open_control()  # before the sweep, which would take the VIPs of a sidecar that runs already
        self._sweep()
        self._open_interfaces()
        self._start_engine()
        self._start_agent()
        while self._stage is not Stage.OVER:
            self._turn()
        return EXIT_STOPPED

    def close(self) -> None:
        """End the children and take the VIPs off: nothing of us stays."""
        for child in (self._engine, self._agent):
            if child is not None:
                child.kill()
        if self._addresses is not None:
            for name in sorted(self._held):
                self._release(name)
            self._addresses.close()
        self._control.close()

    def _require_capabilities(self) -> None:
        have = privileges.effective_capabilities()
        missing = [
            name
            for name, bit in (("NET_ADMIN", privileges.CAP_NET_ADMIN), ("NET_RAW", privileges.CAP_NET_RAW))
            if not have >> bit & 1
        ]
        if missing:
            raise StartError(
                EXIT_PRIVILEGE,
                f"missing capability {' and '.join(missing)}: run as root, or with securityContext.capabilities.add "
                "[NET_ADMIN, NET_RAW] in the pod",
            )

    def _sweep(self) -> None:
        vips = [ip_interface(vip) for group in self._plan.groups for vip in group.vips]
        try:
            for removed in lease.sweep(self._kernel(), vips):
                log.warning("removed %s, which an earlier run left behind", removed)
        except AddressError as error:
            log.warning("%s: what an earlier run left behind stays until its lease ends", error)

    def _open_interfaces(self) -> None:
        for group in self._plan.groups:
            link = self._links.get(group.interface)
            if link is None or not link.mac:
                fault = "is not there" if link is None else "is not an Ethernet interface"
                raise StartError(
                    EXIT_SETTINGS, f"CARP_INTERFACE: {group.interface} {fault}; there are: {self._names()}"
                )
            if group.interface not in self._sockets:
                self._sockets[group.interface] = self._open_sockets(group.interface)
            if group.transport == "multicast":
                self._join(group, link.index)
            self._leases[group.name] = lease.VipLease(
                index=link.index,
                vips=tuple(ip_interface(vip) for vip in group.vips),
                seconds=timing.lease(advbase=group.advbase, advskew=group.advskew, dead_ratio=group.dead_ratio),
            )

    def _join(self, group: GroupPlan, index: int) -> None:
        for path in group.paths:
            membership = (group.interface, path.multicast_group)
            if membership not in self._memberships:
                self._memberships[membership] = sockets.join(index=index, group=ip_address(path.multicast_group))

    def _open_sockets(self, interface: str) -> Opened:
        groups = [group for group in self._plan.groups if group.interface == interface]
        spoken = {ip_address(path.source).version for group in groups for path in group.paths}
        unicast = {ip_address(path.source).version for g in groups if g.transport == "unicast" for path in g.paths}
        try:
            return Opened(
                wires={version: sockets.open_packet_socket(interface, version) for version in sorted(spoken)},
                raws={version: sockets.open_raw_socket(interface, version) for version in sorted(unicast)},
            )
        except PermissionError as error:
            raise StartError(EXIT_PRIVILEGE, f"cannot open a packet socket on {interface}: {error.strerror}") from error
        except OSError as error:
            raise StartError(EXIT_FAILED, f"cannot open a packet socket on {interface}: {error.strerror}") from error

    def _names(self) -> str:
        return ", ".join(sorted(link.name for link in self._links.values() if link.mac)) or "none"

    def _open_control(self) -> None:
        try:
            listener = self._control.open()
        except InUseError as error:
            raise StartError(
                EXIT_FAILED, f"{error}; stop it first, or give this one a CARP_RUNTIME_DIR of its own"
            ) from error
        except ControlError as error:
            # The VIP matters more than the ability to ask about it.
            log.warning("%s; `carp-sidecar status` will not work", error)
            return
        self._watch(listener.fileno(), self._control_connects)

    # Children ----------------------------------------------------------------------------------------------------

    def _start_engine(self) -> None:
        plan = self._plan
        try:
            child = spawn("engine", [plan.node_name, plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            raise StartError(EXIT_FAILED, f"cannot start the engine: {error.strerror}") from error
        self._engine = child
        self._watch(child.channel.fileno(), self._engine_speaks)
        with contextlib.suppress(ChannelClosedError, BlockingIOError):  # it died at once: SIGCHLD tells
            self._instruct(child)

    def _instruct(self, child: Child) -> None:
        for name, opened_sockets in self._sockets.items():
            link = self._links[name]
            opened = OpenInterface(
                interface=name,
                index=link.index,
                mac=link.mac,
                up=link.up,
                wires=tuple(opened_sockets.wires),
                raws=tuple(opened_sockets.raws),
            )
            every = [*opened_sockets.wires.values(), *opened_sockets.raws.values()]
            child.channel.send(opened, [sock.fileno() for sock in every])
        for group in self._plan.groups:
            resume = group.name in self._held and self._leases[group.name].held(self._kernel())
            if not resume and group.name in self._held:
                self._release(group.name)
            child.channel.send(StartGroup(group=group, resume=resume))

    def _start_agent(self) -> None:
        kubernetes = self._plan.kubernetes
        if kubernetes is None:
            return
        plan = self._plan
        try:
            child = spawn("agent", [plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            log.error("cannot start the agent: %s", error.strerror)  # noqa: TRY400 - the VIP does not depend on it
            self._restart_at["agent"] = time.monotonic() + self._backoff["agent"].after_death(lived=0.0)
            return
        self._agent = child
        self._watch(child.channel.fileno(), self._agent_speaks)
        groups = tuple(MirroredGroup(name=g.name, interface=g.interface, vhid=g.vhid, vips=g.vips) for g in plan.groups)
        with contextlib.suppress(ChannelClosedError, BlockingIOError):  # it died at once: SIGCHLD tells
            child.channel.send(StartAgent(node=plan.node_name, kubernetes=kubernetes, groups=groups))
            if self._snapshot is not None:
                child.channel.send(self._snapshot)

    def _children_ended(self) -> None:
        children = [child for child in (self._engine, self._agent) if child is not None]
        for child, code in reap(children):
            if child is self._engine:
                self._engine_speaks()  # its last words
            self._unwatch(child.channel.fileno())
            child.channel.close()
            if child is self._engine:
                self._engine = None
            else:
                self._agent = None
            if self._stage is not Stage.RUNNING:
                self._stop_goes_on()
                continue
            now = time.monotonic()
            delay = self._backoff[child.name].after_death(lived=now - child.started)
            log.error("the %s %s; it starts again in %.0f s", child.name, describe(code), delay)
            self._restart_at[child.name] = now + delay

    def _restart_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self._restart_at.items() if at <= now]:
            del self._restart_at[name]
            match name:
                case "engine":
                    try:
                        self._start_engine()
                    except StartError as error:
                        log.error("%s", error)  # noqa: TRY400 - tried again, as after a death
                        self._restart_at[name] = now + self._backoff[name].after_death(lived=0.0)
                case _:
                    self._start_agent()

    # The engine --------------------------------------------------------------------------------------------------

    def _engine_speaks(self) -> None:
        engine = self._engine
        enough = time.monotonic() + LISTEN_AT_MOST  # signals, links and clients wait meanwhile
        try:
            while engine is not None and engine is self._engine and (got := engine.channel.receive()) is not None:
                self._obey(got[0])
                if time.monotonic() > enough:
                    return
        except ChannelClosedError:
            self._unwatch(engine.channel.fileno() if engine is not None else -1)
        except MessageError as error:
            log.error("the engine sent nonsense (%s); it is started anew", error)  # noqa: TRY400
            if engine is not None:
                engine.kill()

    def _obey(self, message: Message) -> None:
        match message:
            case Bind(group=name) | Renew(group=name) if name in self._leases:
                self._bind(name)
            case Release(group=name) if name in self._leases:
                self._release(name)
                self._tell_engine(Released(group=name))
            case Snapshot():
                self._snapshot = message
                self._tell_agent(message)
            case StatusReply():
                self._control.answer(message)
            case Stopped():
                log.debug("the engine has handed over")
            case _:
                log.error("the engine sent a %s, which is not for the parent", type(message).__name__)

    def _bind(self, name: str) -> None:
        error = self._leases[name].renew(self._kernel())
        if error is None:
            self._held.add(name)
        else:
            self._held.discard(name)
            log.error("cannot lease the VIPs of group %s: %s", name, error, extra={"group": name})
        self._tell_engine(Bound(group=name, error=error))

    def _release(self, name: str) -> None:
        self._held.discard(name)
        error = self._leases[name].release(self._kernel())
        if error is not None:
            log.error("cannot release a VIP of group %s: %s", name, error, extra={"group": name})

    def _tell_engine(self, message: Message) -> None:
        if self._engine is None:
            return
        try:
            self._engine.channel.send(message)
        except ChannelClosedError:
            return  # its end arrives as SIGCHLD
        except BlockingIOError:
            log.error("the engine does not read what it is told; it is started anew")  # noqa: TRY400
            self._engine.kill()

    # The agent ---------------------------------------------------------------------------------------------------

    def _agent_speaks(self) -> None:
        agent = self._agent
        if agent is None:
            return
        try:
            agent.channel.receive()
        except (ChannelClosedError, MessageError):
            self._unwatch(agent.channel.fileno())

    def _tell_agent(self, message: Message) -> None:
        if self._agent is None:
            return
        try:
            self._agent.channel.send(message)
        except (ChannelClosedError, BlockingIOError):
            # Only the newest snapshot matters, and one that does not read gets it when it starts anew.
            log.warning("the agent does not read; it is started anew")
            self._agent.kill()

    # Links -------------------------------------------------------------------------------------------------------

    def _links_changed(self) -> None:
        assert self._monitor is not None  # noqa: S101 - narrowing; run() made it
        try:
            changed = self._monitor.changes()
        except LinksLostError:
            changed = list(self._kernel().links())
        for link in changed:
            known = self._links.get(link.name)
            if link.name not in self._sockets or known is None or known == link:
                continue
            if known.index != link.index:
                if not link.up:
                    continue  # an old one that goes, or a new one that is not there yet
                # Sockets, memberships and leases belong to the old one: whoever runs us starts us anew.
                raise StartError(
                    EXIT_FAILED, f"interface {link.name} was replaced (index {known.index} -> {link.index})"
                )
            self._links[link.name] = link
            self._tell_engine(LinkChanged(interface=link.name, up=link.up, mac=link.mac))

    # Stop --------------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _woken)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # start-up held them back
        self._wakeup = (reader, writer)
        self._watch(reader.fileno(), self._signalled)

    def _signalled(self) -> None:
        for number in self._wakeup[0].recv(4096):
            match number:
                case signal.SIGCHLD:
                    self._children_ended()
                case _:
                    self._stop()

    def _stop(self) -> None:
        if self._stage is not Stage.RUNNING:
            return
        log.info("asked to stop: handing over")
        self._stage, self._stage_ends = Stage.HANDING_OVER, time.monotonic() + ENGINE_HAND_OVER
        self._restart_at.clear()
        self._tell_engine(Stop())
        self._stop_goes_on()

    def _stop_goes_on(self) -> None:
        """Go to the next stage of the stop once the children have done their part of this one."""
        if self._stage is Stage.HANDING_OVER and self._engine is None:
            for name in sorted(self._held):
                self._release(name)
            self._stage, self._stage_ends = Stage.FAREWELL, time.monotonic() + AGENT_FAREWELL
            self._tell_agent(Stop())
        if self._stage is Stage.FAREWELL and self._agent is None:
            self._stage, self._stage_ends = Stage.OVER, math.inf

    def _stage_overdue(self) -> None:
        log.warning("a child did not stop in time; it is ended")
        self._stage_ends = math.inf
        for child in (self._engine, self._agent if self._stage is Stage.FAREWELL else None):
            if child is not None:
                child.kill()

    # Loop --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        due = min([self._stage_ends, *self._restart_at.values()])
        timeout = None if due == math.inf else max(0.0, due - time.monotonic())
        for fd, _ in self._poll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()
        self._restart_due()
        if time.monotonic() >= self._stage_ends:
            self._stage_overdue()

    def _control_connects(self) -> None:
        client = self._control.accept()
        if client is not None:
            self._watch(client.fileno(), partial(self._control_asks, client.fileno()))

    def _control_asks(self, fd: int) -> None:
        if fd not in self._control.clients:
            self._unwatch(fd)
            return
        request = self._control.request(fd)
        if fd not in self._control.clients:
            self._unwatch(fd)
        if request is None:
            return
        if self._engine is None:
            wait = max(0.0, self._restart_at.get("engine", 0.0) - time.monotonic())
            self._control.refuse(request.token, f"the engine is not running; it starts again in {wait:.0f} s")
            self._unwatch(fd)
            return
        self._tell_engine(request)

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None and fd >= 0:
            try:
                self._poll.unregister(fd)
            except (OSError, ValueError):
                return  # closed already: epoll forgot it by itself

    def _kernel(self) -> Addresses:
        assert self._addresses is not None  # noqa: S101 - narrowing; run() made it
        return self._addresses


def _woken(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor carries the signal into the loop."""
