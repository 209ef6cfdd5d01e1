"""The mirror into Kubernetes put together: who talks to the API server, what is written there, how it stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from sidecar.agent import desired
from sidecar.agent.api import KubernetesPods
from sidecar.agent.balancers import Balancers
from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.events import Events
from sidecar.agent.facts import Facts
from sidecar.agent.follow import Which
from sidecar.agent.lease import Witness
from sidecar.agent.pods import Pods
from sidecar.agent.reconciler import Mastered, Reconciler
from sidecar.agent.slices import Slices
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Transport
from sidecar.ipc.messages import MirroredGroup, Snapshot
from sidecar.ipc.plan import KubernetesPlan

FAREWELL = 1.0
"""Seconds that the last Events have at a planned stop."""


class _Follower(Protocol):
    """What follows from being master, beyond the pods."""

    def follow(self, mastered: tuple[Mastered, ...]) -> None: ...

    async def run(self) -> None: ...


class KubernetesMirror:
    """``offer`` takes the roles, ``finish`` has the last ones written, ``run`` does it all."""

    def __init__(self, plan: KubernetesPlan, *, node: str, groups: Sequence[MirroredGroup]) -> None:
        self.status = MirrorStatus()
        self.finished = False
        """Set once all is written that there was to write after ``finish``."""
        self._context = Context(
            plan=plan,
            node=node,
            groups=tuple(groups),
            status=self.status,
            complaints=Complaints(self.status, time.time),
        )
        self._transport = Transport(plan, self.status)
        self.facts = Facts(self._transport, self._context)
        pods = KubernetesPods(plan.pod_namespace, self._transport)
        keys = [desired.keys(role_label=plan.role_label, group=group.name, several=len(groups) > 1) for group in groups]
        self.pods = Pods(pods, Which(labels=keys[0].label), keys)  # a pod with one group's label has those of all
        self._reconciler = Reconciler(pods, self._context, self._told)
        self._events = Events(self._transport, self._context) if plan.events else None
        self._followers: list[_Follower] = []
        if plan.lease_witness:
            self._followers.append(Witness(self._transport, self._context, self._reconciler.note_epoch))
        if any(group.mirror.endpoint_slice for group in groups):
            self._followers.append(Slices(self._transport, self._context))
        if any(group.mirror.load_balancer_class for group in groups):
            self._followers.append(Balancers(self._transport, self._context))

    def offer(self, snapshot: Snapshot) -> None:
        """Take the newest roles."""
        self._reconciler.offer(snapshot)
        if self._events is not None:
            self._events.offer(snapshot)

    def finish(self) -> None:
        """Write what is left to write, then let ``run`` return."""
        self._reconciler.finish()

    async def run(self) -> None:
        """Mirror until finished or cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [
                    tasks.create_task(each.run()) for each in (*self._followers, self._events) if each is not None
                ]
                await self._reconciler.run()
                self.finished = True
                if self._events is not None:
                    await self._events.say_the_last(FAREWELL)
                for task in others:
                    task.cancel()
        finally:
            await self._transport.close()

    def _told(self, mastered: tuple[Mastered, ...]) -> None:
        """Pass on what the pods say now."""
        for each in self._followers:
            each.follow(mastered)
        if self._events is not None:
            self._events.identify(self._reconciler.pod)
