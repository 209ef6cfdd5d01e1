"""Real mirrors in this process, in front of a real API server, fed with roles as an engine would tell them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sidecar.agent.kubernetes import KubernetesMirror
from sidecar.demo.admin import Admin, ApiError
from sidecar.ipc.messages import FormerGroup, GroupRole, MirroredGroup, Snapshot
from sidecar.ipc.plan import KubernetesPlan, MirrorPlan
from tests.fakes.tasks import together

VIP = "10.0.0.200"
PATIENCE = 60.0
EVERYTHING = MirrorPlan(endpoint_slice="own", load_balancer_class="carp-sidecar/vip")


def group(mirror: MirrorPlan = MirrorPlan()) -> MirroredGroup:  # noqa: B008 - frozen
    return MirroredGroup(name="default", interface="eth0", vhid=42, vips=(f"{VIP}/32",), mirror=mirror)


@dataclass
class Node:
    """One node's mirror; ``is_now`` is a role change that its engine tells."""

    name: str
    mirror: KubernetesMirror
    transitions: int = 0

    def is_now(self, role: str, reason: str, detail: str = "") -> None:
        self.transitions += 1
        told = GroupRole(
            name="default",
            role=role,
            since=time.time(),
            reason=reason,
            transitions=self.transitions,
            detail=detail,
        )
        self.mirror.offer(Snapshot(groups=(told,)))


def node(
    name: str,
    namespace: str,
    kubeconfig: str,
    *,
    mirror: MirrorPlan = MirrorPlan(),  # noqa: B008 - frozen
    groups: Sequence[MirroredGroup] | None = None,
    former: Sequence[FormerGroup] = (),
    **changes: Any,
) -> Node:
    """A node with one group, unless it is given others."""
    plan = KubernetesPlan(
        pod_name=name, pod_namespace=namespace, role_label="carp-role", kubeconfig=kubeconfig, events=False
    )
    plan = msgspec.structs.replace(plan, **changes)
    shown = (group(mirror),) if groups is None else groups
    return Node(name, KubernetesMirror(plan, node=f"node-{name}", groups=shown, former=former))


def running(nodes: Sequence[Node]) -> contextlib.AbstractAsyncContextManager[None]:
    """Have agents run while inside; a fault of one is raised at the end."""
    return together(*(each.mirror.run() for each in nodes))


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Wait for something of the API server; return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Api:
    """An administrator's calls that do not hold up the loop."""

    def __init__(self, admin: Admin, namespace: str) -> None:
        self.admin = admin
        self.namespace = namespace

    async def get(self, path: str) -> dict[str, Any] | None:
        """An object of the namespace, or None."""
        group_, _, rest = path.partition(":")
        root = f"/apis/{group_}" if group_ != "v1" else "/api/v1"
        status, body = await asyncio.to_thread(self.admin.send, "GET", f"{root}/namespaces/{self.namespace}/{rest}")
        return None if status == 404 else msgspec.json.decode(body)

    async def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.admin.request, method, path, body)

    async def masters(self) -> list[str]:
        pods = await asyncio.to_thread(self.admin.list_pods, self.namespace, "carp-role=master")
        return [pod["metadata"]["name"] for pod in pods]

    async def masters_are(self, *names: str) -> bool:
        """Whether these say master; they don't where nobody can be asked."""
        try:
            return await self.masters() == list(names)
        except (OSError, ApiError):
            return False

    async def create_pod(self, name: str, ip: str, *, gates: Sequence[str] = ()) -> None:
        await asyncio.to_thread(
            self.admin.create_pod, self.namespace, name, node=f"node-{name}", labels={"app": "carp"}, gates=gates
        )
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        await self.call("PATCH", f"/api/v1/namespaces/{self.namespace}/pods/{name}/status", {"status": status})
