"""The parent: owns the kernel's state, runs the engine and the agent, outlives them both.

It opens the packet sockets and passes them on, leases and releases VIPs on the engine's word, and tells the engine what
the kernel says of the links. It parses nothing that a stranger sent.
"""

from __future__ import annotations

import enum
import logging
import math
import os
import signal
import time
from functools import partial
from pathlib import Path

from sidecar import privileges
from sidecar.children import Child, Restarts, describe, reap, spawn
from sidecar.control import ControlError, ControlServer, InUseError
from sidecar.exits import EXIT_FAILED, EXIT_PRIVILEGE, EXIT_STOPPED, ExitError
from sidecar.holdings import Holdings
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import (
    Bind,
    Bound,
    LinkChanged,
    Message,
    MessageError,
    OpenInterface,
    Release,
    Released,
    Renew,
    Snapshot,
    StartGroup,
    StatusReply,
    Stop,
    Stopped,
)
from sidecar.ipc.plan import Plan, decode_plan
from sidecar.mirror import Mirror
from sidecar.observe import log as observe_log
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

ENGINE_BEGINS_WITHIN = 5.0
"""Seconds until a new engine reads its groups."""
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


def main(plan_fd: int) -> int:
    """Run the sidecar with the plan that is readable from ``plan_fd``; return the exit code."""
    with os.fdopen(plan_fd, "rb") as file:
        plan = decode_plan(file.read())
    observe_log.configure(level=plan.log_level, style=plan.log_format, process="parent")
    supervisor = Supervisor(plan)
    try:
        return supervisor.run()
    except ExitError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for the operator, not a traceback
        return error.code
    finally:
        supervisor.close()


class Supervisor:
    """One sidecar: the parent's state and its loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reactor = Reactor()
        self._holdings = Holdings(plan.groups)
        self._control = ControlServer(Path(plan.runtime_dir))
        self._engine: Child | None = None
        self._restarts = Restarts()
        self._mirror = Mirror(plan, self._reactor, self._restarts)
        self._stage = Stage.RUNNING
        self._stage_ends = math.inf

    # Start -------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises ExitError."""
        self._require_capabilities()
        self._reactor.watch_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD), self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # start-up held them back
        self._reactor.watch(self._holdings.open(), self._links_changed)
        self._open_control()  # before the sweep, which would take the VIPs of a sidecar that runs already
        self._holdings.sweep()
        self._holdings.open_interfaces()
        self._start_engine()
        self._mirror.start()
        while self._stage is not Stage.OVER:
            self._turn()
        return EXIT_STOPPED

    def close(self) -> None:
        """End the children and take the VIPs off: nothing of us stays."""
        for child in (self._engine, self._mirror.child):
            if child is not None:
                child.kill()
        self._holdings.close()
        self._control.close()

    def _require_capabilities(self) -> None:
        missing = privileges.missing_capabilities()
        if missing:
            raise ExitError(
                EXIT_PRIVILEGE,
                f"missing capability {' and '.join(missing)}: run as root, or with securityContext.capabilities.add "
                "[NET_ADMIN, NET_RAW] in the pod",
            )

    def _open_control(self) -> None:
        try:
            listener = self._control.open()
        except InUseError as error:
            raise ExitError(
                EXIT_FAILED, f"{error}; stop it first, or give this one a CARP_RUNTIME_DIR of its own"
            ) from error
        except ControlError as error:
            # The VIP matters more than the ability to ask about it.
            log.warning("%s; `carp-sidecar status` will not work", error)
            return
        self._reactor.watch(listener.fileno(), self._control_connects)

    # Children ----------------------------------------------------------------------------------------------------

    def _start_engine(self) -> None:
        plan = self._plan
        try:
            child = spawn("engine", [plan.node_name, plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            raise ExitError(EXIT_FAILED, f"cannot start the engine: {error.strerror}") from error
        self._engine = child
        self._reactor.watch(child.channel.fileno(), self._engine_speaks)
        # Without the right to a larger buffer many groups do not fit: wait for the engine to read.
        child.channel.socket.settimeout(ENGINE_BEGINS_WITHIN)
        try:
            self._instruct(child)
        except ChannelClosedError:
            return  # it died at once: SIGCHLD tells
        except TimeoutError:
            log.error("the engine does not read what it is told; it is started anew")  # noqa: TRY400
            child.kill()
        child.channel.socket.setblocking(False)

    def _instruct(self, child: Child) -> None:
        for name, opened in self._holdings.sockets.items():
            link = self._holdings.links[name]
            message = OpenInterface(
                interface=name,
                index=link.index,
                mac=link.mac,
                up=link.up,
                wires=tuple(opened.wires),
                raws=tuple(opened.raws),
            )
            child.channel.send(message, [sock.fileno() for sock in opened.every])
        resumable = self._holdings.resumable()
        for group in self._plan.groups:
            child.channel.send(StartGroup(group=group, resume=group.name in resumable))

    def _children_ended(self) -> None:
        children = [child for child in (self._engine, self._mirror.child) if child is not None]
        for child, code in reap(children):
            if child is self._engine:
                self._engine_speaks()  # its last words
            self._reactor.unwatch(child.channel.fileno())
            child.channel.close()
            if child is self._engine:
                self._engine = None
            else:
                self._mirror.ended()
            if self._stage is not Stage.RUNNING:
                self._stop_goes_on()
                continue
            now = time.monotonic()
            delay = self._restarts.schedule(child.name, lived=now - child.started, now=now)
            log.error("the %s %s; it starts again in %.0f s", child.name, describe(code), delay)

    def _restart_due(self) -> None:
        now = time.monotonic()
        for name in self._restarts.due(now):
            if name == "agent":
                self._mirror.start()
                continue
            try:
                self._start_engine()
            except ExitError as error:
                log.error("%s", error)  # noqa: TRY400 - tried again, as after a death
                self._restarts.schedule(name, lived=0.0, now=now)

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
            self._reactor.unwatch(engine.channel.fileno() if engine is not None else -1)
        except MessageError as error:
            log.error("the engine sent nonsense (%s); it is started anew", error)  # noqa: TRY400
            if engine is not None:
                engine.kill()

    def _obey(self, message: Message) -> None:
        match message:
            case Bind(group=name) | Renew(group=name) if self._holdings.knows(name):
                self._tell_engine(Bound(group=name, error=self._holdings.bind(name)))
            case Release(group=name) if self._holdings.knows(name):
                self._holdings.release(name)
                self._tell_engine(Released(group=name))
            case Snapshot():
                self._mirror.show(message)
            case StatusReply():
                self._control.answer(message)
            case Stopped():
                log.debug("the engine has handed over")
            case _:
                log.error("the engine sent a %s, which is not for the parent", type(message).__name__)

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

    # Signals and links -------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                self._children_ended()
            case _:
                self._stop()

    def _links_changed(self) -> None:
        for link in self._holdings.changed_links():
            self._tell_engine(LinkChanged(interface=link.name, up=link.up, mac=link.mac))

    # Stop --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        if self._stage is not Stage.RUNNING:
            return
        log.info("asked to stop: handing over")
        self._stage, self._stage_ends = Stage.HANDING_OVER, time.monotonic() + ENGINE_HAND_OVER
        self._restarts.cancel()
        self._tell_engine(Stop())
        self._stop_goes_on()

    def _stop_goes_on(self) -> None:
        """Go to the next stage of the stop once the children have done their part of this one."""
        if self._stage is Stage.HANDING_OVER and self._engine is None:
            self._holdings.release_all()
            self._stage, self._stage_ends = Stage.FAREWELL, time.monotonic() + AGENT_FAREWELL
            self._mirror.stop()
        if self._stage is Stage.FAREWELL and self._mirror.child is None:
            self._stage, self._stage_ends = Stage.OVER, math.inf

    def _stage_overdue(self) -> None:
        log.warning("a child did not stop in time; it is ended")
        self._stage_ends = math.inf
        for child in (self._engine, self._mirror.child if self._stage is Stage.FAREWELL else None):
            if child is not None:
                child.kill()

    # Loop --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        due = min(self._stage_ends, self._restarts.next())
        self._reactor.turn(None if due == math.inf else max(0.0, due - time.monotonic()))
        self._restart_due()
        if time.monotonic() >= self._stage_ends:
            self._stage_overdue()

    def _control_connects(self) -> None:
        client = self._control.accept()
        if client is not None:
            self._reactor.watch(client.fileno(), partial(self._control_asks, client.fileno()))

    def _control_asks(self, fd: int) -> None:
        if fd not in self._control.clients:
            self._reactor.unwatch(fd)
            return
        request = self._control.request(fd)
        if fd not in self._control.clients:
            self._reactor.unwatch(fd)
        if request is None:
            return
        if self._engine is None:
            wait = self._restarts.wait("engine", time.monotonic())
            self._control.refuse(request.token, f"the engine is not running; it starts again in {wait:.0f} s")
            self._reactor.unwatch(fd)
            return
        self._tell_engine(request)
