"""The up and down commands: run when this node has begun or ceased to hold a group's VIPs, and never waited for.

The arguments are ucarp's (``spawn_handler``, ucarp spawn.c): interface, VIP, and xparam where there is one. Several
VIPs are several runs, one after the other. What a command does or fails to do moves nothing.
"""

from __future__ import annotations

import contextlib
import enum
import heapq
import logging
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface

from sidecar.children import describe
from sidecar.ipc.plan import GroupPlan
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

TIME_LIMIT = 30.0
"""Seconds after which a command is ended."""
AT_ONCE, YOUNG = 8, 1.0
"""So many commands that are younger than so many seconds: hundreds of groups that change at once must not take the
processor from the engine, and commands that hang must not keep others waiting."""
_LINES_AT_MOST = 100
_LINE_LENGTH = 1000
_READ = 65536
_LAST_READS = 16
"""Of a command that has ended: what it left behind may write to its output for ever."""


class Turn(enum.StrEnum):
    """Which of a group's two commands."""

    UP = "up"
    DOWN = "down"


@dataclass(slots=True, eq=False)
class Run:
    """One command that runs. Times are monotonic seconds; ``output`` is None once it is closed."""

    group: str
    turn: Turn
    argv: list[str]
    process: subprocess.Popen[bytes]
    started: float
    ends_by: float
    output: int | None
    buffer: bytes = b""
    lines: int = 0
    killed: bool = False

    def __str__(self) -> str:
        return f"the {self.turn} command of group {self.group} ({shlex.join(self.argv)})"


@dataclass(slots=True)
class _Line:
    """One group's commands: at most one runs, in the order of the role's changes."""

    plan: GroupPlan
    wanted: Turn = Turn.DOWN
    """What the newest role wants to have been run."""
    turn: Turn | None = None
    """Of which all runs have begun but for those that are ``left``."""
    due: list[list[str]] = field(default_factory=list)
    """The runs that are wanted: as the settings were when the role changed."""
    gone: bool = False
    """Its group is: what it still has to run is all."""
    left: deque[list[str]] = field(default_factory=deque)
    run: Run | None = None

    @property
    def behind(self) -> bool:
        """Whether something is still to be run."""
        return bool(self.left) or (self.turn is not self.wanted and bool(self.due))

    def want(self, wanted: Turn) -> None:
        """Have one of the two commands run, once for each VIP."""
        plan = self.plan
        command = plan.up_command if wanted is Turn.UP else plan.down_command
        extra = () if plan.xparam is None else (plan.xparam,)
        self.wanted = wanted
        self.due = [[*command, plan.interface, str(ip_interface(vip).ip), *extra] for vip in plan.vips if command]


class Commands:
    """The commands of these groups. ``begin`` comes first; whoever reaps children calls ``ended``."""

    def __init__(
        self, groups: Iterable[GroupPlan], reactor: Reactor, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lines = {plan.name: _Line(plan) for plan in groups if plan.up_command or plan.down_command}
        self._reactor = reactor
        self._clock = clock
        self._waiting: dict[str, _Line] = {}
        """Lines that may begin their next run when there are fewer young ones, in this order."""
        self._stopping = False

    def begin(self, *, held: Collection[str] = ()) -> None:
        """Run the down commands, as ucarp does at each start, of all groups that are not neutral.

        Of those that are ``held``, since an earlier run, the up command has been run and counts.
        """
        for name, line in self._lines.items():
            self._begin(line, held=name in held)

    def _begin(self, line: _Line, *, held: bool) -> None:
        line.want(Turn.UP if held else Turn.DOWN)
        if held or line.plan.neutral:
            line.turn = line.wanted
        self._go_on(line)

    def change(self, groups: Iterable[GroupPlan], *, started: Collection[str], held: Collection[str]) -> None:
        """Go on with the commands of these groups. Of those that ``started``, the down command is run, as at a start.

        Those of a group that goes on with its role are run from its next change on; what is to be run still is run as
        it was wanted. ``held`` are the groups whose VIPs this node holds.
        """
        plans = {plan.name: plan for plan in groups if plan.up_command or plan.down_command}
        for name, old in list(self._lines.items()):
            old.gone = name not in plans
            self._drop_if_gone(old)
        for name, plan in plans.items():
            known = self._lines.get(name)
            if known is not None:
                known.plan, known.gone = plan, False
                continue
            line = self._lines[name] = _Line(plan)
            if name in started:
                self._begin(line, held=False)
            else:
                line.wanted = line.turn = Turn.UP if name in held else Turn.DOWN

    def _drop_if_gone(self, line: _Line) -> None:
        if line.gone and line.run is None and not line.behind:
            self._lines.pop(line.plan.name, None)
            self._waiting.pop(line.plan.name, None)

    def follow(self, group: str, *, held: bool) -> None:
        """Note whether this node holds the group's VIPs; run what follows from a change.

        A command that has not begun when it is overtaken by the next change is not run.
        """
        line = self._lines.get(group)
        wanted = Turn.UP if held else Turn.DOWN
        if line is None or line.wanted is wanted or (self._stopping and not line.plan.shutdown):
            return
        line.want(wanted)
        self._go_on(line)

    def stop(self) -> None:
        """From now on, only groups that want it (``shutdown``) run their down command."""
        self._stopping = True

    @property
    def running(self) -> list[Run]:
        """What runs now."""
        return [line.run for line in self._lines.values() if line.run is not None]

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits to."""
        return not self.running and not self._waiting

    def next(self) -> float:
        """Return when ``tick`` is due, infinity if it is not."""
        ends = min((run.ends_by for run in self.running), default=math.inf)
        return min(ends, self._next_start()) if self._waiting else ends

    def tick(self, now: float) -> None:
        """End what has run for too long, and begin what may begin now."""
        for run in self.running:
            if run.ends_by <= now:
                log.error("%s did not end within %g s; it is killed", run, TIME_LIMIT, extra={"group": run.group})
                _kill(run)
        self._start_waiting(now)

    def kill(self) -> None:
        """End what runs and run nothing more."""
        for run in self.running:
            log.warning("%s still runs; it is killed", run, extra={"group": run.group})
            _kill(run)
            self._close(run)
        for name, line in self._lines.items():
            if line.behind:
                log.warning("the %s command of group %s is not run any more", line.wanted, name, extra={"group": name})
        self._lines.clear()
        self._waiting.clear()

    def ended(self, run: Run, code: int) -> None:
        """Note that a command ended with this code (negative: by that signal), and run the next one."""
        for _ in range(_LAST_READS):
            if run.output is None or not self._listen(run):
                break
        self._close(run)
        if code != 0 and not run.killed:
            log.error("%s %s", run, describe(code), extra={"group": run.group})
        line = self._lines.get(run.group)
        if line is not None:
            line.run = None
            self._go_on(line)
            self._drop_if_gone(line)
        self._start_waiting(self._clock())

    # Runs --------------------------------------------------------------------------------------------------------

    def _go_on(self, line: _Line) -> None:
        if line.run is None:
            self._waiting[line.plan.name] = line
            self._start_waiting(self._clock())

    def _start_waiting(self, now: float) -> None:
        while self._waiting and self._next_start() <= now:
            name = next(iter(self._waiting))
            line = self._waiting.pop(name)
            if line.turn is not line.wanted:
                line.turn = line.wanted
                line.left = deque(line.due)
            while line.left and line.run is None:
                self._start(line, line.left.popleft())

    def _next_start(self) -> float:
        """Return when one more may begin: at once, or when the oldest of the newest few is young no more."""
        newest = heapq.nlargest(AT_ONCE, (run.started for run in self.running))
        return newest[-1] + YOUNG if len(newest) == AT_ONCE else -math.inf

    def _start(self, line: _Line, argv: list[str]) -> None:
        # By way of an interpreter of ours: it gives up rights, and an exec that hangs (a dead NFS) hangs there.
        command = [sys.executable, "-P", "-m", "sidecar", "command", str(os.getpid()), *argv]
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, process_group=0)
        except OSError as error:
            os.close(reader)
            log.error("cannot run %s: %s", shlex.join(argv), error.strerror)  # noqa: TRY400 - it moves nothing
            return
        finally:
            os.close(writer)
        assert line.turn is not None  # noqa: S101 - narrowing; _go_on set it
        now = self._clock()
        run = Run(line.plan.name, line.turn, argv, process, now, now + TIME_LIMIT, reader)
        line.run = run
        self._reactor.watch(reader, partial(self._listen, run))
        log.info("running %s", run, extra={"group": run.group})

    def _listen(self, run: Run) -> bool:
        """Log what a command says, line by line; return whether there may be more."""
        if run.output is None:
            return False
        try:
            data = os.read(run.output, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._close(run)
            return False
        *lines, run.buffer = (run.buffer + data).split(b"\n")
        if len(run.buffer) > _LINE_LENGTH:
            lines, run.buffer = [*lines, run.buffer], b""
        for text in lines:
            _log_line(run, text)
        return True

    def _close(self, run: Run) -> None:
        if run.output is None:
            return
        if run.buffer:
            _log_line(run, run.buffer)
        self._reactor.unwatch(run.output)
        os.close(run.output)
        run.output = None


def _log_line(run: Run, text: bytes) -> None:
    run.lines += 1
    about = {"group": run.group, "command": run.turn.value}
    if run.lines <= _LINES_AT_MOST:
        log.info("%s", text[:_LINE_LENGTH].decode(errors="backslashreplace"), extra=about)
    elif run.lines == _LINES_AT_MOST + 1:
        log.warning("%s says more than %d lines; the rest is not logged", run, _LINES_AT_MOST, extra=about)


def _kill(run: Run) -> None:
    run.killed, run.ends_by = True, math.inf
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGKILL)
