"""The parent's side of the agent: started where there is something to mirror, to listen at or to probe, and never
waited for."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from sidecar.children import Child, Restarts, spawn
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import (
    FormerGroup,
    Health,
    HealthDemotion,
    Labelled,
    Message,
    MessageError,
    MirroredGroup,
    NodeSays,
    Probed,
    Settings,
    SettingsStatus,
    Snapshot,
    StandAside,
    StartAgent,
    StatusReply,
    StatusRequest,
    Stop,
    Unavailable,
    YieldLabels,
)
from sidecar.ipc.plan import KubernetesPlan, Plan, ProbePlan
from sidecar.maintenance import one_line
from sidecar.node_word import NodeWord
from sidecar.protocol.demotion import ASIDE
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

NAME = "agent"
ANSWERED_WITHIN = 4.0
"""Seconds in which a second question is not put to the engine: an agent that is beside itself must not flood it."""
_ASIDE = "stand-aside"
"""The name of the demotion by which a backup lets others go first."""
ASIDE_AT_MOST = 130.0
"""Seconds that it lasts, where the agent that should end it (``agent.aside``) has died, hangs, or begins again."""
_FORMER_AT_MOST = 1000
"""Groups that are remembered after the settings have let go of them, the newest."""


class Mirror:
    """One agent after the other. ``child`` is the one that runs now, or None.

    ``pass_on`` gets its questions, and the health of the node and what its object says whenever that changes.
    """

    def __init__(
        self,
        plan: Plan,
        reactor: Reactor,
        restarts: Restarts,
        pass_on: Callable[[StatusRequest | Health | NodeSays | Labelled], object],
    ) -> None:
        self.child: Child | None = None
        self._plan = plan
        self._reactor = reactor
        self._restarts = restarts
        self._pass_on = pass_on
        self._asked_at = -math.inf
        self._kubernetes = plan.kubernetes
        """How it is spoken to, or was while there was something to show."""
        self._former: tuple[FormerGroup, ...] = ()
        self._snapshot: Snapshot | None = None
        self._settings: SettingsStatus | None = None
        self._renewed = False
        """The agent was ended for the next one to begin with other settings."""
        self._failing: dict[int, str] | None = None
        self._aside: tuple[str, ...] = ()
        self._aside_word = ""
        self._aside_until = -math.inf
        self._word = NodeWord(Path(plan.runtime_dir))

    def load(self) -> None:
        """Go on with what an earlier run of the sidecar knew."""
        self._word.load()

    def start(self) -> None:
        """Start the agent if there is something for it to do; where that fails, it is tried again later."""
        plan = self._plan
        if plan.kubernetes is None and not (plan.http_listen or plan.health or self._former):
            return
        try:
            child = spawn(NAME, [plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            log.error("cannot start the agent: %s", error.strerror)  # noqa: TRY400 - the VIP does not depend on it
            self._restarts.schedule(NAME, lived=0.0, now=time.monotonic())
            return
        self.child = child
        self._reactor.watch(child.channel.fileno(), self._speaks)
        try:
            self._introduce(child)
        except (ChannelClosedError, BlockingIOError):
            pass  # it died at once: SIGCHLD tells
        except MessageError as error:
            log.error("the agent cannot be told what to show: %s; name fewer groups, VIPs or probes", error)  # noqa: TRY400 - as above
            child.kill()

    def _introduce(self, child: Child) -> None:
        """Tell it all that it begins with. Raises what ``Channel.send`` does."""
        plan = self._plan
        start = StartAgent(
            node=plan.node_name,
            kubernetes=plan.kubernetes or (_silenced(self._kubernetes) if self._former else None),
            groups=() if plan.kubernetes is None else _mirrored(plan),
            former=self._former,
            http_listen=plan.http_listen,
            pod=plan.pod,
            health=plan.health,
            failing=self._failing,
        )
        self._former = _send_what_fits(child, start)
        if self._snapshot is not None and plan.kubernetes is not None:
            child.channel.send(self._snapshot)
        if self._settings is not None:
            child.channel.send(Settings(status=self._settings))

    def change(self, plan: Plan) -> None:
        """Go on with this plan: an agent to which that is news is ended, and the next one begins with it at once."""
        health, word = self.health(), self.word()
        before, self._plan = self._plan, plan
        self._kubernetes = plan.kubernetes or self._kubernetes
        self._former = _former((*self._former, *_shown(before)), now=_shown(plan))
        self._failing = _still_there(self._failing, before.health, plan.health)
        if self.health() != health:
            self._pass_on(self.health())
        if self.word() != word:
            self._pass_on(self.word())
        if _elected(before) != _elected(plan):
            self._snapshot = None  # the engine tells of the new groups in a moment, and of nothing else
        if (_mirrored(before), _beside(before)) == (_mirrored(plan), _beside(plan)):
            return
        if self.child is None:
            if not self._restarts.planned(NAME):
                self.start()
            return
        self._renewed = True
        self.child.kill()

    def show(self, snapshot: Snapshot) -> None:
        """Have the agent write these roles; a later agent begins with them."""
        if {role.name for role in snapshot.groups} != {group.name for group in self._plan.groups}:
            return  # of before a change of the groups, or in the middle of one: another one comes
        self._snapshot = snapshot
        if self._plan.kubernetes is not None:
            self._tell(snapshot)

    def settings(self, status: SettingsStatus) -> None:
        """Have the agent tell of the settings; a later agent begins with that."""
        self._settings = status
        self._tell(Settings(status=status))

    def health(self) -> Health:
        """Return what the last agent that said so found wrong, and where it stands aside: nothing before one has."""
        found = [
            HealthDemotion(
                name=f"health:{probe.name}", weight=probe.weight, detail=self._failing[number], groups=probe.groups
            )
            for number, probe in enumerate(self._plan.health)
            if self._failing is not None and number in self._failing
        ]
        aside = tuple(sorted({group.name for group in self._plan.groups} & set(self._aside)))
        if aside and self._plan.kubernetes is not None:
            # A master does not: nobody moves a VIP by asking.
            found.append(
                HealthDemotion(name=_ASIDE, weight=ASIDE, detail="a rollout goes on", groups=aside, as_backup=True)
            )
        return Health(demotions=tuple(found))

    def next(self) -> float:
        """Return when ``tick`` is due, monotonic; inf: when something happens."""
        return self._aside_until if self._aside else math.inf

    def tick(self, now: float) -> None:
        """End what lasts no longer."""
        if self._aside and now >= self._aside_until:
            self._let_go_first(())

    def word(self) -> NodeSays:
        """Return what this node's object said last, as far as it is to be obeyed."""
        return self._word.of(self._plan.kubernetes)

    def yield_labels(self, groups: tuple[str, ...]) -> bool:
        """Have the pods not say master of these groups, () for none; return whether there is somebody to do it."""
        if self.child is None or self._plan.kubernetes is None:
            return False
        self._tell(YieldLabels(groups=groups))
        return True

    def stop(self) -> None:
        """Have the agent write the last roles and end."""
        self._tell(Stop())

    def ended(self) -> bool:
        """Note that the agent is gone; return whether it was ended for a new one to begin."""
        self.child = None
        renewed, self._renewed = self._renewed, False
        return renewed

    def answer(self, answer: StatusReply | Unavailable) -> None:
        """Pass on what the engine says to the agent's question, or why it says nothing."""
        self._asked_at = -math.inf
        try:
            self._tell(answer)
        except MessageError as error:
            self._tell(Unavailable(why=str(error)))

    def _speaks(self) -> None:
        child = self.child
        if child is None:
            return
        try:
            received = child.channel.receive()
        except (ChannelClosedError, MessageError):
            self._reactor.unwatch(child.channel.fileno())
            return
        match received:
            case (StatusRequest() as request, []):
                self._asks(request, time.monotonic())
            case (Probed(), []) if self._renewed:
                pass  # of an agent whose probes have other numbers
            case (Probed(failing=failing), []):
                self._found({number: one_line(detail) for number, detail in failing.items()})
            case (Labelled() as message, []):
                self._pass_on(message)
            case (StandAside() as aside, []):
                self._stands_aside(aside, time.monotonic())
            case (NodeSays() as says, []):
                self._said(says)
            case (message, descriptors):
                log.error("the agent sent a %s, which is not for the parent", type(message).__name__)
                for stray in descriptors:
                    os.close(stray)
            case None:
                pass

    def _asks(self, request: StatusRequest, now: float) -> None:
        if now - self._asked_at >= ANSWERED_WITHIN:
            self._asked_at = now
            self._pass_on(request)

    def _found(self, failing: dict[int, str]) -> None:
        before = self.health()
        self._failing = failing
        if self.health() != before:
            self._pass_on(self.health())

    def _stands_aside(self, asked: StandAside, now: float) -> None:
        if asked.word != self._aside_word:  # the time of one goes on, however many agents hear it as news
            self._aside_word, self._aside_until = asked.word, now + ASIDE_AT_MOST
        self._let_go_first(asked.groups if now < self._aside_until else ())

    def _let_go_first(self, groups: tuple[str, ...]) -> None:
        before, self._aside = self.health(), groups
        if self.health() != before:
            self._pass_on(self.health())

    def _said(self, says: NodeSays) -> None:
        before = self.word()
        self._word.heard(says)
        if self.word() != before:
            self._pass_on(self.word())

    def _tell(self, message: Message) -> None:
        if self.child is None:
            return
        try:
            self.child.channel.send(message)
        except (ChannelClosedError, BlockingIOError):
            # Only the newest snapshot matters, and one that does not read gets it when it starts anew.
            log.warning("the agent does not read; it is started anew")
            self.child.kill()


def _send_what_fits(child: Child, start: StartAgent) -> tuple[FormerGroup, ...]:
    """Send it with as many of the former groups, the newest, as a message takes; return those."""
    sent = start
    while True:
        try:
            child.channel.send(sent)
        except MessageError:
            if not sent.former:
                raise
            sent = replace(sent, former=sent.former[(len(sent.former) + 1) // 2 :])
            continue
        if left := len(start.former) - len(sent.former):
            log.warning(
                "too much has changed: what Kubernetes shows of %d former groups stays until somebody takes it away",
                left,
            )
        return sent.former


def _mirrored(plan: Plan) -> tuple[MirroredGroup, ...]:
    return tuple(
        MirroredGroup(name=g.name, interface=g.interface, vhid=g.vhid, vips=g.vips, mirror=g.mirror)
        for g in plan.groups
    )


def _elected(plan: Plan) -> frozenset[tuple[object, ...]]:
    """Return what the roles are of: where it is the same, the engine goes on and has no reason to tell them again."""
    return frozenset((group.name, group.interface, group.vhid, group.vips) for group in plan.groups)


def _silenced(plan: KubernetesPlan | None) -> KubernetesPlan | None:
    """Return how an agent speaks to Kubernetes that only takes away what was shown."""
    return None if plan is None else replace(plan, events=False, node_annotations=False, cordon=False)


def _shown(plan: Plan) -> tuple[FormerGroup, ...]:
    """Return how Kubernetes shows the groups: what is to be taken away once the settings are others."""
    how = plan.kubernetes
    if how is None:
        return ()
    several = len(plan.groups) > 1
    return tuple(
        FormerGroup(group=group, role_label=how.role_label, several=several, lease=how.lease_witness)
        for group in _mirrored(plan)
    )


def _former(ever: tuple[FormerGroup, ...], *, now: tuple[FormerGroup, ...]) -> tuple[FormerGroup, ...]:
    stands = frozenset(now)
    return tuple(each for each in dict.fromkeys(ever) if each not in stands)[-_FORMER_AT_MOST:]


def _beside(plan: Plan) -> tuple[object, ...]:
    """Return what the agent is told beside the groups."""
    return plan.kubernetes, plan.http_listen, plan.health


def _still_there(
    failing: dict[int, str] | None, before: tuple[ProbePlan, ...], after: tuple[ProbePlan, ...]
) -> dict[int, str] | None:
    """Return what was found of the probes that there still are, by their new numbers."""
    if failing is None:
        return None
    known = {probe: failing[number] for number, probe in enumerate(before) if number in failing}
    return {number: known[probe] for number, probe in enumerate(after) if probe in known}
