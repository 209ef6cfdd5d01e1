"""Agents without processes: a reconciler for each node, fed with roles as an engine would tell them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.reconciler import Mastered, Reconciler
from sidecar.agent.state import MirrorStatus
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot, StandAside
from sidecar.ipc.plan import KubernetesPlan
from tests.fakes.pods import FakeClient, FakePods
from tests.fakes.tasks import together

GROUP = MirroredGroup(name="default", interface="eth0", vhid=42, vips=("10.0.0.200/32",))


def snapshot(role: str, *, transitions: int = 1, reason: str = "start", since: float | None = None) -> Snapshot:
    return Snapshot(groups=(group_role(role, transitions=transitions, reason=reason, since=since),))


def group_role(
    role: str, *, name: str = "default", transitions: int = 1, reason: str = "start", since: float | None = None
) -> GroupRole:
    return GroupRole(
        name=name,
        role=role,
        since=float(transitions) if since is None else since,
        reason=reason,
        transitions=transitions,
    )


@dataclass
class Agent:
    """One node's mirror. ``name`` is its pod's and ``node-NAME`` its node's."""

    server: FakePods
    name: str
    client: FakeClient
    reconciler: Reconciler
    status: MirrorStatus
    told: list[tuple[Mastered, ...]] = field(default_factory=list)
    aside: list[StandAside] = field(default_factory=list)

    def says(self) -> dict[str, str]:
        return dict(self.server.pods[self.name].labels)


def agent(
    server: FakePods,
    name: str = "a",
    *,
    groups: Sequence[MirroredGroup] = (GROUP,),
    condition: bool = False,
) -> Agent:
    plan = KubernetesPlan(
        pod_name=name, pod_namespace="edge", role_label="carp-role", kubeconfig="", readiness_condition=condition
    )
    status = MirrorStatus()
    told: list[tuple[Mastered, ...]] = []
    client = server.client(name)
    context = Context(
        plan=plan,
        node=f"node-{name}",
        groups=tuple(groups),
        status=status,
        complaints=Complaints(status, lambda: 0.0),
        jitter=lambda: 0.5,
        wall=lambda: asyncio.get_running_loop().time(),
    )
    aside: list[StandAside] = []
    reconciler = Reconciler(client, context, told.append, aside.append)
    return Agent(server, name, client, reconciler, status, told, aside)


def running(*agents: Agent) -> contextlib.AbstractAsyncContextManager[None]:
    """Have agents run while inside; a fault of one is raised at the end."""
    return together(*(each.reconciler.run() for each in agents))


async def mirrored(server: FakePods, name: str, *snapshots: Snapshot) -> Agent:
    """Let an agent write each snapshot, and end."""
    for each in snapshots:
        mirror = agent(server, name)
        mirror.reconciler.offer(each)
        mirror.reconciler.finish()
        await mirror.reconciler.run()
    return mirror
