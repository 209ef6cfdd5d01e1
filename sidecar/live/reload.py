"""Has changed settings judged, and has done what follows from them, while all that they do not concern goes on.

Groups that end or begin anew hand over first, all of them; then everything else is done in one go. So vhids, VIPs and
names may change places. An engine that dies meanwhile makes no difference: the next one begins with the new plan.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from sidecar.commands import Commands
from sidecar.elector import Elector
from sidecar.exits import ExitError
from sidecar.holdings import Holdings
from sidecar.ipc.messages import ChangeGroup, CloseInterface, SettingsStatus, StartGroup, StopGroup
from sidecar.ipc.plan import Plan
from sidecar.live.diff import Difference, difference, refusals
from sidecar.live.trial import Trial, Trials
from sidecar.live.verdict import Verdict
from sidecar.live.watched import Files
from sidecar.mirror import Mirror
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

HAND_OVER_WITHIN = 3.0
"""Seconds that the engine has for the groups that end; then it is started anew, with the new settings."""
JUDGED_AGAIN_AFTER = 60.0
"""Seconds after which refused settings are judged again: an interface may have come, a node be less busy."""
_LINES_AT_MOST, _LINE_AT_MOST = 20, 500
"""Of what is wrong, in the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parent's parts that have to do something."""

    elector: Elector
    holdings: Holdings
    commands: Commands
    mirror: Mirror


@dataclass(slots=True, kw_only=True)
class _Change:
    """A change that waits for the groups ``left`` to hand over until ``ends_by`` (monotonic seconds)."""

    plan: Plan
    difference: Difference
    left: set[str]
    ends_by: float


class Reload:
    """The plan in force, and how it changes. ``environment`` is as ``live.environment`` sealed it, None: never."""

    def __init__(
        self,
        plan: Plan,
        environment: int | None,
        reactor: Reactor,
        parts: Parts,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        """In force: the settings, but for what ``override`` was told."""
        self._settings = plan
        self._advskew: int | None = None
        self.status = SettingsStatus(generation=1, applied_at=time.time())
        """As people see it."""
        self._files = Files(self._changed, clock=clock)
        self._fd: int | None = None
        self._trials = None if environment is None else Trials(environment, reactor, self._judged, clock=clock)
        self._reactor = reactor
        self._parts = parts
        self._clock = clock
        self._change: _Change | None = None
        self._asked = False
        self._again_at = math.inf
        self._again = False
        """Something has changed since the change began that is under way."""

    def begin(self) -> None:
        """Listen to the files from now on."""
        if self._trials is None:
            return
        self._fd = self._files.begin(self.plan.files)
        if self._fd is not None:
            self._reactor.watch(self._fd, self._files.heard)

    def stop(self) -> None:
        """Change nothing any more."""
        if self._fd is not None:
            self._reactor.unwatch(self._fd)
            self._fd = None
        self._files.close()
        if self._trials is not None:
            self._trials.kill()
        self._trials = self._change = None
        self._again_at = math.inf

    def read_anew(self) -> None:
        """Read the settings now, and say what came of it, as a SIGHUP asks for."""
        log.info("asked to read the settings anew")
        self._asked = True
        self._changed()

    def override(self, advskew: int | None) -> None:
        """Have every group advertise this advskew, whatever the settings say; None: what they say."""
        if advskew != self._advskew:
            self._advskew = advskew
            said = f"the node's annotation makes it {advskew}" if advskew is not None else "it is the settings' again"
            log.info("advskew of every group: %s", said)
            self._settle()

    def _overridden(self, plan: Plan) -> Plan:
        if self._advskew is None:
            return plan
        return replace(plan, groups=tuple(replace(group, advskew=self._advskew) for group in plan.groups))

    def _settle(self) -> None:
        """Bring into force what is not yet."""
        plan = self._overridden(self._settings)
        found = difference(self.plan, plan)
        if self._change is None and not found.nothing:
            self._begin(plan, found)

    # Time and processes ------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Trial]:
        """The process that judges, if one does."""
        trial = None if self._trials is None else self._trials.running
        return [] if trial is None else [trial]

    def ended(self, code: int) -> None:
        """Note that it ended with this code."""
        if self._trials is not None:
            self._trials.ended(code)

    def next(self) -> float:
        """Return when ``tick`` is due (monotonic seconds), infinity if it is not."""
        trials = math.inf if self._trials is None else self._trials.next()
        change = math.inf if self._change is None else self._change.ends_by
        return min(self._files.next(), trials, self._again_at, change)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._files.tick(now)
        if self._trials is not None:
            self._trials.tick(now)
        if now >= self._again_at:
            self._again_at = math.inf
            self._changed()
        if self._change is not None and now >= self._change.ends_by:
            self._change.ends_by = math.inf
            log.error("the engine does not hand over the groups that end; it is started anew")
            child = self._parts.elector.child
            if child is not None:
                child.kill()

    # Judged ------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._change is not None:
            self._again = True
        elif self._trials is not None:
            self._trials.begin()

    def _judged(self, verdict: Verdict) -> None:
        asked, self._asked = self._asked, False
        self._again_at = math.inf
        if verdict.files:
            self._files.follow(verdict.files)
        plan = verdict.plan
        lines = verdict.lines if plan is None else refusals(self.plan, plan)
        if plan is None or lines:
            self._refuse(lines, aloud=asked)
            return
        wanted = self._overridden(plan)
        found = difference(self.plan, wanted)
        if found.nothing:
            self._settings = plan
            if asked or self.status.errors:
                log.info("the settings are what is in force already")
            self._put_right()
            return
        try:
            self._parts.holdings.prepare(plan.groups)
        except ExitError as error:
            self._refuse((str(error),), aloud=asked)
            return
        for warning in verdict.lines:
            log.warning("%s", warning)
        self._settings = plan
        self._put_right()
        self._begin(wanted, found)

    def _refuse(self, lines: tuple[str, ...], *, aloud: bool) -> None:
        """Let everything be as it is, and say why, once; what is wrong may not be the settings' fault, and pass."""
        self._again_at = self._clock() + JUDGED_AGAIN_AFTER
        errors = tuple(line[:_LINE_AT_MOST] for line in lines[:_LINES_AT_MOST])
        if aloud or errors != self.status.errors:
            for line in lines:
                log.error("changed settings are refused, the old ones stay in force: %s", line)
        since = self.status.refused_since
        self._stands(replace(self.status, refused_since=time.time() if since is None else since, errors=errors))

    def _put_right(self) -> None:
        if self.status.refused_since is not None:
            self._stands(replace(self.status, refused_since=None, refused_until=time.time(), errors=()))

    def _stands(self, status: SettingsStatus) -> None:
        before, self.status = self.status, status
        if status != before:
            self._parts.mirror.settings(status)

    # Done --------------------------------------------------------------------------------------------------------

    def _begin(self, plan: Plan, found: Difference) -> None:
        log.info("the settings have changed: %s", found)
        elector = self._parts.elector
        left = {group.name for group in found.stopped} if elector.ready else set()
        self._change = _Change(plan=plan, difference=found, left=left, ends_by=self._clock() + HAND_OVER_WITHIN)
        for name in sorted(left):
            elector.tell(StopGroup(group=name))
        self._go_on()

    def stopped(self, group: str) -> None:
        """Note that the engine has handed a group over."""
        if self._change is not None:
            self._change.left.discard(group)
            self._go_on()

    def engine_ended(self) -> None:
        """Note that nothing is to be handed over any more."""
        self._parts.holdings.leases.all_changed()
        if self._change is not None:
            self._change.left.clear()
            self._go_on()

    def _go_on(self) -> None:
        change = self._change
        if change is None or change.left:
            return
        self._apply(change.plan, change.difference)
        self._change = None
        self._stands(replace(self.status, generation=self.status.generation + 1, applied_at=time.time()))
        if self._again:
            self._again = False
            self._changed()
        self._settle()

    def _apply(self, plan: Plan, found: Difference) -> None:
        parts, leases = self._parts, self._parts.holdings.leases
        ended = [group.name for group in found.stopped]
        for name in ended:
            if leases.holds(name):  # of an engine that died
                leases.release(name)
            parts.commands.follow(name, held=False)
        self.plan = plan
        interfaces = parts.holdings.change(plan.groups, ended=ended)
        parts.commands.change(
            plan.groups,
            started=[group.name for group in found.started],
            held=[group.name for group in plan.groups if leases.holds(group.name)],
        )
        parts.mirror.change(plan)
        if not parts.elector.ready:
            leases.all_changed()
            return  # one that comes is told of all
        for message, descriptors in parts.holdings.introductions(interfaces.opened):
            parts.elector.tell(message, descriptors)
        for group in found.changed:
            parts.elector.tell(ChangeGroup(group=group, lease=leases.lasts(group.name)))
        for group in found.started:
            parts.elector.tell(StartGroup(group=group, resume=False, lease=leases.lasts(group.name)))
        for name in interfaces.closed:
            parts.elector.tell(CloseInterface(interface=name))
