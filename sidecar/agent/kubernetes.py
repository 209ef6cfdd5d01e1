"""The mirror into Kubernetes put together: who talks to the API server, what is written there, how it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sidecar.agent import desired
from sidecar.agent.api import KubernetesPods, Which
from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.pods import Pods
from sidecar.agent.reconciler import Reconciler
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Transport
from sidecar.ipc.messages import MirroredGroup, Snapshot
from sidecar.ipc.plan import KubernetesPlan


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
        pods = KubernetesPods(plan.pod_namespace, self._transport)
        keys = [desired.keys(role_label=plan.role_label, group=group.name, several=len(groups) > 1) for group in groups]
        self.pods = Pods(pods, Which(labels=keys[0].label), keys)  # a pod with one group's label has those of all
        self._reconciler = Reconciler(pods, self._context, told=lambda _: None)

    def offer(self, snapshot: Snapshot) -> None:
        """Take the newest roles."""
        self._reconciler.offer(snapshot)

    def finish(self) -> None:
        """Write what is left to write, then let ``run`` return."""
        self._reconciler.finish()

    async def run(self) -> None:
        """Mirror until finished or cancelled."""
        try:
            await self._reconciler.run()
            self.finished = True
        finally:
            await self._transport.close()
