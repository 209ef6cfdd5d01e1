"""The mirror into Kubernetes put together: who talks to the API server, what is written there, how it stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
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
from sidecar.agent.node import NodeWatch
from sidecar.agent.pods import Pods
from sidecar.agent.reconciler import Mastered, Reconciler
from sidecar.agent.slices import Slices
from sidecar.agent.state import MirrorStatus
from sidecar.agent.tidy import Beyond, Tidy
from sidecar.agent.transport import Transport
from sidecar.ipc.messages import FormerGroup, Labelled, Message, MirroredGroup, SettingsStatus, Snapshot
from sidecar.ipc.plan import KubernetesPlan

FAREWELL = 1.0
"""Seconds that the last Events have at a planned stop."""


class _Follower(Protocol):
    """What follows from being master, beyond the pods."""

    def follow(self, mastered: tuple[Mastered, ...]) -> None: ...

    async def run(self) -> None: ...


class KubernetesMirror:
    """``offer`` takes the roles, ``finish`` has the last ones written, ``run`` does it all.

    ``say`` gets what is for the parent.
    """

    def __init__(
        self,
        plan: KubernetesPlan,
        *,
        node: str,
        groups: Sequence[MirroredGroup],
        former: Sequence[FormerGroup] = (),
        say: Callable[[Message], None] = lambda _: None,
    ) -> None:
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
        self.pods = Pods(
            pods, Which(labels=keys[0].label if keys else plan.role_label), keys
        )  # a pod with one group's label has those of all
        self._reconciler = Reconciler(pods, self._context, self._told, aside=say)
        self._events = Events(self._transport, self._context) if plan.events else None
        self._say = say
        self._newest: Snapshot | None = None
        self._yielding: frozenset[str] = frozenset()
        self._node: NodeWatch | None = None
        if plan.node_annotations or plan.cordon:
            tell = (lambda _: None) if self._events is None else self._events.tell
            self._node = NodeWatch(self._transport, self._context, said=say, tell=tell)
        self._followers: list[_Follower] = []
        beyond = Beyond(
            witness=Witness(self._transport, self._context, self._reconciler.note_epoch),
            slices=Slices(self._transport, self._context, self._reconciler.note_epoch),
            balancers=Balancers(self._transport, self._context),
        )
        if plan.lease_witness:
            self._followers.append(beyond.witness)
        if any(group.mirror.endpoint_slice for group in groups):
            self._followers.append(beyond.slices)
        if any(group.mirror.load_balancer_class for group in groups):
            self._followers.append(beyond.balancers)
        self._tidy = Tidy(pods, self._context, former, beyond)

    def offer(self, snapshot: Snapshot) -> None:
        """Take the newest roles."""
        self._newest = snapshot
        self._show()
        if self._events is not None:
            self._events.offer(snapshot)

    def yield_labels(self, groups: Sequence[str]) -> None:
        """Have the pods not say master of these groups, and say when they do not; none: show what is again."""
        self._yielding = frozenset(groups)
        self._show()

    def _show(self) -> None:
        if self._newest is not None:
            shown = desired.yielding(self._newest, self._yielding) if self._yielding else self._newest
            self._reconciler.offer(shown, self._labelled if self._yielding else None)

    def _labelled(self) -> None:
        self._say(Labelled())

    def settings(self, status: SettingsStatus) -> None:
        """Take what became of newer settings."""
        if self._events is not None:
            self._events.settings(status)

    def finish(self) -> None:
        """Write what is left to write, then let ``run`` return."""
        self._reconciler.finish()

    async def run(self) -> None:
        """Mirror until finished or cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = (*self._followers, self._events, self._node, self._tidy)
                others = [tasks.create_task(each.run()) for each in parts if each is not None]
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
