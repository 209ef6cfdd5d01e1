"""The parent's side of the agent: started where there is something to mirror or to listen at, and never waited for."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable

from sidecar.children import Child, Restarts, spawn
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import (
    Message,
    MessageError,
    MirroredGroup,
    Snapshot,
    StartAgent,
    StatusReply,
    StatusRequest,
    Stop,
    Unavailable,
)
from sidecar.ipc.plan import Plan
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

NAME = "agent"
ANSWERED_WITHIN = 4.0
"""Seconds in which a second question is not put to the engine: an agent that is beside itself must not flood it."""


class Mirror:
    """One agent after the other. ``child`` is the one that runs now, or None; ``ask`` gets its questions."""

    def __init__(
        self, plan: Plan, reactor: Reactor, restarts: Restarts, ask: Callable[[StatusRequest], object]
    ) -> None:
        self.child: Child | None = None
        self._plan = plan
        self._reactor = reactor
        self._restarts = restarts
        self._ask = ask
        self._asked_at = -math.inf
        self._snapshot: Snapshot | None = None
        self._renewed = False
        """The agent was ended for the next one to begin with other settings."""

    def start(self) -> None:
        """Start the agent if there is something for it to do; where that fails, it is tried again later."""
        plan = self._plan
        if plan.kubernetes is None and not plan.http_listen:
            return
        try:
            child = spawn(NAME, [plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            log.error("cannot start the agent: %s", error.strerror)  # noqa: TRY400 - the VIP does not depend on it
            self._restarts.schedule(NAME, lived=0.0, now=time.monotonic())
            return
        self.child = child
        self._reactor.watch(child.channel.fileno(), self._speaks)
        groups = _mirrored(plan)
        with contextlib.suppress(ChannelClosedError, BlockingIOError):  # it died at once: SIGCHLD tells
            child.channel.send(
                StartAgent(node=plan.node_name, kubernetes=plan.kubernetes, groups=groups, http_listen=plan.http_listen)
            )
            if self._snapshot is not None:
                child.channel.send(self._snapshot)

    def change(self, plan: Plan) -> None:
        """Go on with this plan: an agent to which that is news is ended, and the next one begins with it at once."""
        before, self._plan = self._plan, plan
        is_news = _mirrored(before) != _mirrored(plan)
        if is_news:
            self._snapshot = None  # the engine tells of the new groups in a moment
        if not is_news and (before.kubernetes, before.http_listen) == (plan.kubernetes, plan.http_listen):
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
        self._tell(snapshot)

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
            case (message, descriptors):
                log.error("the agent sent a %s, which is not for the parent", type(message).__name__)
                for stray in descriptors:
                    os.close(stray)
            case None:
                pass

    def _asks(self, request: StatusRequest, now: float) -> None:
        if now - self._asked_at >= ANSWERED_WITHIN:
            self._asked_at = now
            self._ask(request)

    def _tell(self, message: Message) -> None:
        if self.child is None:
            return
        try:
            self.child.channel.send(message)
        except (ChannelClosedError, BlockingIOError):
            # Only the newest snapshot matters, and one that does not read gets it when it starts anew.
            log.warning("the agent does not read; it is started anew")
            self.child.kill()


def _mirrored(plan: Plan) -> tuple[MirroredGroup, ...]:
    return tuple(
        MirroredGroup(name=g.name, interface=g.interface, vhid=g.vhid, vips=g.vips, mirror=g.mirror)
        for g in plan.groups
    )
