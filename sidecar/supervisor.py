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
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from sidecar import privileges, realtime
from sidecar.children import Child, Restarts, describe, reap
from sidecar.chronicle import Chronicle
from sidecar.commands import Commands, Run
from sidecar.control import ControlError, ControlServer, InUseError
from sidecar.drain import Draining
from sidecar.elector import Elector
from sidecar.exits import EXIT_FAILED, EXIT_PRIVILEGE, EXIT_STOPPED, ExitError
from sidecar.holdings import Holdings
from sidecar.ipc.messages import (
    Bind,
    Bound,
    Done,
    Drain,
    GroupChanged,
    GroupStopped,
    HandOver,
    Health,
    Labelled,
    Maintain,
    Message,
    NodeSays,
    Release,
    Released,
    Renew,
    Snapshot,
    StartGroup,
    StatusReply,
    StatusRequest,
    Stopped,
    Unavailable,
)
from sidecar.ipc.plan import GroupPlan, Plan, decode_plan
from sidecar.live.reload import Parts, Reload
from sidecar.live.trial import Trial
from sidecar.maintenance import Maintenance
from sidecar.mirror import Mirror
from sidecar.node_word import instructions
from sidecar.observe import log as observe_log
from sidecar.observe.status import as_line
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

ENGINE_HAND_OVER = 3.0
"""Seconds that the engine has to hand over when asked to stop."""
AGENT_FAREWELL = 4.0
"""Seconds that the agent has to write the last role before it is ended."""
_FAREWELL_SHARE = 1 / 8
"""The share of what is left of a lease that is kept (``on_exit``) that it may take of it; the rest is for the start."""
COMMANDS_AT_STOP = 10.0
"""Seconds that down commands have after that: less in all than the 30 s that Kubernetes waits before it kills."""
HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that start-up blocks, so that none is lost before its handler stands."""
_OWN_QUESTION = 0  # the token of a status request by SIGUSR1; clients have higher ones, the agent has lower ones


class Stage(enum.Enum):
    """How far a planned stop has come."""

    RUNNING = enum.auto()
    LABELLING = enum.auto()
    """The pods stop saying master, if that is quick."""
    HANDING_OVER = enum.auto()
    """The engine releases the VIPs, bows out, and waits for its successors."""
    FAREWELL = enum.auto()
    """The network knows; the agent tells Kubernetes."""
    LAST_COMMANDS = enum.auto()
    """Only down commands still run."""
    OVER = enum.auto()


def main(plan_fd: int, environment: int | None = None) -> int:
    """Run the sidecar with the plan that is readable from ``plan_fd``; return the exit code.

    ``environment`` is a descriptor with what the settings came from (``live.environment``), None: they never change.
    """
    with os.fdopen(plan_fd, "rb") as file:
        plan = decode_plan(file.read())
    observe_log.configure(level=plan.log_level, style=plan.log_format, process="parent")
    supervisor = Supervisor(plan, environment)
    try:
        return supervisor.run()
    except ExitError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for the operator, not a traceback
        return error.code
    finally:
        supervisor.close()


class Supervisor:
    """One sidecar: the parent's state and its loop."""

    def __init__(self, plan: Plan, environment: int | None = None) -> None:
        self._reactor = Reactor()
        self._holdings = Holdings(plan.groups)
        self._leases = self._holdings.leases
        self._control = ControlServer(Path(plan.runtime_dir))
        self._elector = Elector(plan, self._reactor, self._obey)
        self._restarts = Restarts()
        self._chronicle = Chronicle()
        self._mirror = Mirror(plan, self._reactor, self._restarts, self._heard_from_agent)
        self._commands = Commands(plan.groups, self._reactor)
        self._drain = Draining(self._elector, self._mirror, self._control.tell)
        self._maintenance = Maintenance(Path(plan.runtime_dir))
        parts = Parts(elector=self._elector, holdings=self._holdings, commands=self._commands, mirror=self._mirror)
        self._reload = Reload(plan, environment, self._reactor, parts)
        self._stage = Stage.RUNNING
        self._stage_ends = math.inf

    # Start -------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises ExitError."""
        self._require_capabilities()
        self._reactor.watch_signals((signal.SIGCHLD, *HELD_BACK), self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        self._start_engine()  # it starts while the rest is made ready, and is told of it when it asks
        self._reactor.watch(self._holdings.open(), self._links_changed)
        self._open_control()  # before the sweep, which would take the VIPs of a sidecar that runs already
        self._holdings.open_interfaces()
        self._leases.begin()
        self._reactor.watch(self._holdings.watch_addresses(), self._addresses_changed)
        self._maintenance.load()
        self._mirror.load()
        self._mirror.start()
        self._commands.begin(held=[group.name for group in self._groups if self._leases.holds(group.name)])
        self._reload.override(self._mirror.word().advskew)
        self._reload.begin()
        self._hurry()
        while self._stage is not Stage.OVER:
            self._turn()
        return EXIT_STOPPED

    def _hurry(self) -> None:
        """Run before what else is busy on the node; the start is over, whose work may wait for others."""
        if self._reload.plan.realtime == "auto":
            why_not = realtime.prefer()
            self._leases.beside(realtime.prefer)
            log.info("real-time scheduling: %s", "on" if why_not is None else f"off, since {why_not}")

    @property
    def _groups(self) -> tuple[GroupPlan, ...]:
        return self._reload.plan.groups

    def close(self) -> None:
        """End the children and take the VIPs off: nothing of us stays."""
        for child in (self._elector.child, self._mirror.child):
            if child is not None:
                child.kill()
        self._reload.stop()
        self._commands.kill()
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
            self._control.open()
        except InUseError as error:
            raise ExitError(
                EXIT_FAILED, f"{error}; stop it first, or give this one a CARP_RUNTIME_DIR of its own"
            ) from error
        except ControlError as error:
            # The VIP matters more than the ability to ask about it.
            log.warning("%s; `carp-sidecar status` will not work", error)
            return
        self._control.serve(self._reactor, self._asked)

    # Children ----------------------------------------------------------------------------------------------------

    def _start_engine(self) -> None:
        self._elector.start(self._introduction)

    def _introduction(self) -> Iterator[tuple[Message, list[int]]]:
        yield from self._holdings.introductions()
        yield self._maintenance.instruction(), []  # before the groups: none begins without it
        for message in instructions(self._mirror.word()):
            yield message, []
        yield self._mirror.health(), []
        resumable = self._leases.resumable()
        for group in self._groups:
            name = group.name
            start = StartGroup(
                group=group,
                resume=name in resumable,
                lease=self._leases.lasts(name),
                history=self._chronicle.of(name),
                seal_offset=self._chronicle.seal_offset(name),
            )
            yield start, []
            self._follow(name)

    def _processes_ended(self) -> None:
        started: list[Child | Run | Trial] = [
            child for child in (self._elector.child, self._mirror.child) if child is not None
        ]
        for each, code in reap([*started, *self._commands.running, *self._reload.running]):
            match each:
                case Trial():
                    self._reload.ended(code)
                case Run():
                    self._commands.ended(each, code)
                case Child():
                    self._child_ended(each, code)
        self._stop_goes_on()

    def _child_ended(self, child: Child, code: int) -> None:
        renewed = False
        if child is self._elector.child:
            self._elector.ended()
            self._chronicle.engine_ended(f"the engine {describe(code)}", now=time.time())
            self._reload.engine_ended()
        else:
            renewed = self._mirror.ended()
            self._drain.labelled()
        self._reactor.unwatch(child.channel.fileno())
        child.channel.close()
        if renewed and self._stage is Stage.RUNNING:
            self._mirror.start()
            return
        if self._stage is Stage.RUNNING:
            now = time.monotonic()
            delay = self._restarts.schedule(child.name, lived=now - child.started, now=now)
            log.error("the %s %s; it starts again in %.0f s", child.name, describe(code), delay)
        if child.name == "engine":
            self._mirror.answer(Unavailable(why=self._engine_gone()))  # whatever it was asked

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

    def _obey(self, message: Message) -> None:
        match message:
            case Bind(group=name) | Renew(group=name) if self._leases.knows(name):
                self._chronicle.sealed(name, message.seal_offset)
                self._elector.tell(Bound(group=name, error=self._leases.renew(name, until=message.until)))
                self._follow(name)
            case Release(group=name) if self._leases.knows(name):
                self._leases.release(name)
                self._elector.tell(Released(group=name))
                if self._stage is Stage.RUNNING:
                    self._leases.hide(name)
                self._follow(name)
            case Snapshot():
                self._chronicle.heard(message)
                self._mirror.show(message)
                self._drain.saw(message)
            case StatusReply(token=token) if token == _OWN_QUESTION:
                self._log_status(message)
            case StatusReply(token=token) if token < _OWN_QUESTION:
                self._mirror.answer(replace(self._with_leases(message), token=-token))
            case StatusReply():
                self._control.answer(self._with_leases(message))
            case GroupChanged(group=name):
                self._leases.changed(name)
            case GroupStopped(group=name):
                self._chronicle.forget(name)
                self._reload.stopped(name)
            case Stopped():
                log.debug("the engine has handed over")
            case _:
                log.error("the engine sent a %s, which is not for the parent", type(message).__name__)

    def _with_leases(self, page: StatusReply) -> StatusReply:
        """Add what the engine does not know."""
        known = (
            replace(group, lease=self._leases.status(group.name))
            for group in page.groups
            if self._leases.knows(group.name)  # one that was asked for before the groups changed may tell of others
        )
        return replace(page, groups=tuple(known), settings=self._reload.status)

    def _log_status(self, page: StatusReply) -> None:
        for group in page.groups:
            observe_log.say(log, as_line(group), group=group.name)
        if page.more is not None:
            self._elector.tell(StatusRequest(token=_OWN_QUESTION, first=page.more))

    def _follow(self, group: str) -> None:
        """Run the command that follows, now that the engine knows and nothing waits for it."""
        self._commands.follow(group, held=self._leases.holds(group))

    # Signals and links -------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                self._processes_ended()
            case signal.SIGUSR1 | signal.SIGUSR2 if not self._elector.ready:
                observe_log.say(log, "the engine is not running: no status, nothing to hand over")
            case signal.SIGUSR1:
                self._elector.tell(StatusRequest(token=_OWN_QUESTION))
            case signal.SIGHUP:
                self._reload.read_anew()
            case signal.SIGUSR2:
                log.info("asked to hand over to whoever stands up")
                self._elector.tell(HandOver())
            case _:
                self._stop()

    def _links_changed(self) -> None:
        for link in self._holdings.changed_links():
            self._elector.tell(*self._holdings.news(link))
            for group in self._groups:
                if group.interface == link.name:
                    self._follow(group.name)  # what an interface bore that was replaced is gone with it
        for disturbed in self._holdings.disturbed_links():
            self._elector.tell(disturbed)

    def _addresses_changed(self) -> None:
        self._links_changed()  # a lost carrier explains a lot
        for disturbed in self._holdings.disturbed():
            self._elector.tell(disturbed)

    # Stop --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        if self._stage is not Stage.RUNNING:
            return
        log.info("asked to stop: handing over")
        self._stage = Stage.LABELLING
        self._restarts.cancel()
        self._reload.stop()
        leaving = [group for group in self._mastered() if group.on_exit != "keep"]
        self._drain.label_first(leaving, self._leave)

    def _mastered(self) -> list[GroupPlan]:
        return [group for group in self._groups if self._leases.holds(group.name)]

    def _leave(self) -> None:
        self._stage, self._stage_ends = Stage.HANDING_OVER, time.monotonic() + ENGINE_HAND_OVER
        self._commands.stop()
        self._elector.stop()
        self._stop_goes_on()

    def _stop_goes_on(self) -> None:
        """Go to the next stage of the stop once the children have done their part of this one."""
        if self._stage is Stage.HANDING_OVER and self._elector.child is None:
            farewell = min(AGENT_FAREWELL, self._leases.keep() * _FAREWELL_SHARE)
            for group in self._leases.release_all():
                self._follow(group)
            self._leases.hide_all()  # only now: it takes the kernel 10 ms, and the goodbye waited for none of it
            self._stage, self._stage_ends = Stage.FAREWELL, time.monotonic() + farewell
            self._mirror.stop()
        if self._stage is Stage.FAREWELL and self._mirror.child is None:
            self._stage, self._stage_ends = Stage.LAST_COMMANDS, time.monotonic() + COMMANDS_AT_STOP
        if self._stage is Stage.LAST_COMMANDS and self._commands.idle:
            self._stage, self._stage_ends = Stage.OVER, math.inf

    def _stage_overdue(self) -> None:
        self._stage_ends = math.inf
        if self._stage is Stage.LAST_COMMANDS:
            self._stage = Stage.OVER  # close() ends them
            return
        log.warning("a child did not stop in time; it is ended")
        for child in (self._elector.child, self._mirror.child if self._stage is Stage.FAREWELL else None):
            if child is not None:
                child.kill()

    # Loop --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        ours = (each.next() for each in (self._restarts, self._commands, self._reload, self._drain, self._mirror))
        due = min(self._stage_ends, self._elector.begins_by, *ours)
        if not self._elector.ready:
            due = min(due, time.monotonic() + self._leases.next_end())
        waits = None if due == math.inf else max(0.0, due - time.monotonic())
        self._reactor.turn(0.0 if self._elector.waiting else waits)
        if self._elector.waiting:
            self._elector.listen()
        self._elector.check(time.monotonic())
        self._restart_due()
        if not self._elector.ready:  # an engine that hangs is as good as dead, but knows of its lease itself
            for group in self._leases.expire():
                self._follow(group)
        self._commands.tick(time.monotonic())
        self._reload.tick(time.monotonic())
        self._drain.tick(time.monotonic())
        self._mirror.tick(time.monotonic())
        if time.monotonic() >= self._stage_ends:
            self._stage_overdue()

    # Questions and orders ----------------------------------------------------------------------------------------

    def _asked(self, client: int, request: StatusRequest | Maintain | Drain) -> None:
        match request:
            case Maintain(reason=reason):
                text = self._maintenance.end() if reason is None else self._maintenance.begin(reason)
                self._elector.tell(self._maintenance.instruction())
                self._control.tell(client, Done(text=text))
            case Drain() if not self._elector.ready:
                self._control.tell(client, Unavailable(why=self._engine_gone()))
            case Drain():
                log.info("asked to drain: handing over, label first")
                self._drain.begin(client, self._mastered())
            case StatusRequest(token=token) if not self._elector.ready:
                self._control.refuse(token, self._engine_gone())
            case StatusRequest():
                self._elector.tell(request)

    def _heard_from_agent(self, message: StatusRequest | Health | NodeSays | Labelled) -> None:
        match message:
            case Health():
                self._elector.tell(message)  # a later engine is told at its start
            case Labelled():
                self._drain.labelled()
            case NodeSays():
                self._obey_node(message)
            case StatusRequest() if not self._elector.ready:
                self._mirror.answer(Unavailable(why=self._engine_gone()))
            case StatusRequest(token=token) if token > _OWN_QUESTION:
                self._elector.tell(StatusRequest(token=-token, first=message.first))

    def _obey_node(self, says: NodeSays) -> None:
        for message in instructions(says):
            self._elector.tell(message)
        if self._stage is Stage.RUNNING:
            self._reload.override(says.advskew)

    def _engine_gone(self) -> str:
        wait = self._restarts.wait("engine", time.monotonic())
        return f"the engine is not running; it starts again in {wait:.0f} s"
