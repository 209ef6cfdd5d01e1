"""The parent's side of the agent: started where there is a Kubernetes to mirror into, and never waited for."""

from __future__ import annotations

import contextlib
import logging
import time

from sidecar.children import Child, Restarts, spawn
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import Message, MessageError, MirroredGroup, Snapshot, StartAgent, Stop
from sidecar.ipc.plan import Plan
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

NAME = "agent"


class Mirror:
    """One agent after the other. ``child`` is the one that runs now, or None."""

    def __init__(self, plan: Plan, reactor: Reactor, restarts: Restarts) -> None:
        self.child: Child | None = None
        self._plan = plan
        self._reactor = reactor
        self._restarts = restarts
        self._snapshot: Snapshot | None = None

    def start(self) -> None:
        """Start the agent if the mirror is on; where that fails, it is tried again later."""
        kubernetes = self._plan.kubernetes
        if kubernetes is None:
            return
        plan = self._plan
        try:
            child = spawn(NAME, [plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            log.error("cannot start the agent: %s", error.strerror)  # noqa: TRY400 - the VIP does not depend on it
            self._restarts.schedule(NAME, lived=0.0, now=time.monotonic())
            return
        self.child = child
        self._reactor.watch(child.channel.fileno(), self._speaks)
        groups = tuple(MirroredGroup(name=g.name, interface=g.interface, vhid=g.vhid, vips=g.vips) for g in plan.groups)
        with contextlib.suppress(ChannelClosedError, BlockingIOError):  # it died at once: SIGCHLD tells
            child.channel.send(StartAgent(node=plan.node_name, kubernetes=kubernetes, groups=groups))
            if self._snapshot is not None:
                child.channel.send(self._snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Have the agent write these roles; a later agent begins with them."""
        self._snapshot = snapshot
        self._tell(snapshot)

    def stop(self) -> None:
        """Have the agent write the last roles and end."""
        self._tell(Stop())

    def ended(self) -> None:
        """Note that the agent is gone."""
        self.child = None

    def _speaks(self) -> None:
        if self.child is None:
            return
        try:
            self.child.channel.receive()
        except (ChannelClosedError, MessageError):
            self._reactor.unwatch(self.child.channel.fileno())

    def _tell(self, message: Message) -> None:
        if self.child is None:
            return
        try:
            self.child.channel.send(message)
        except (ChannelClosedError, BlockingIOError):
            # Only the newest snapshot matters, and one that does not read gets it when it starts anew.
            log.warning("the agent does not read; it is started anew")
            self.child.kill()
