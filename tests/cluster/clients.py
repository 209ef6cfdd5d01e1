"""Others who watch a real API server: a client of a Service, one who looks who says master, and a kubelet's part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sidecar.agent.api import KubernetesPods
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Which
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import STRATEGIC_PATCH, Call, Transport
from sidecar.demo.admin import Admin
from sidecar.ipc.plan import KubernetesPlan

AGAIN = 0.02
"""Seconds until a client whose watch was cut is back."""
_GONE = 410

View = dict[str, bool]
"""The addresses of a Service, and whether each is ready."""


@contextlib.asynccontextmanager
async def administrator(admin: Admin, directory: Path) -> AsyncIterator[Transport]:
    """Connections with all rights."""
    kubeconfig = str(admin.write_kubeconfig(directory / "administrator", admin.access.token))
    plan = KubernetesPlan(pod_name="", pod_namespace="", role_label="", kubeconfig=kubeconfig)
    transport = Transport(plan, MirrorStatus())
    try:
        yield transport
    finally:
        await transport.close()


async def changes(transport: Transport, path: str, *, labels: str = "") -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield what is there and then what changes: the type of the event and the object."""
    resource = path.rpartition("/")[2]
    query = (("watch", "1"), ("labelSelector", labels), ("timeoutSeconds", "600"))
    async for line in transport.lines(Call(verb="watch", resource=resource, path=path, what=path, query=query)):
        if line.strip():
            event = msgspec.json.decode(line)
            yield event["type"], event["object"]


@dataclass
class ServiceClient:
    """Knows a Service by its EndpointSlices, as kube-proxy does; ``views`` are all that it ever knew, in order."""

    transport: Transport
    namespace: str
    service: str
    views: list[View] = field(default_factory=lambda: [{}])
    _slices: dict[str, View] = field(default_factory=dict)

    @property
    def view(self) -> View:
        return self.views[-1]

    async def run(self) -> None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        ours = f"kubernetes.io/service-name={self.service}"
        async for kind, found in changes(self.transport, path, labels=ours):
            name = found["metadata"]["name"]
            if kind == "DELETED":
                self._slices.pop(name, None)
            else:
                self._slices[name] = {
                    address: each["conditions"]["ready"]
                    for each in found["endpoints"] or []
                    for address in each["addresses"]
                }
            view = {address: ready for each in self._slices.values() for address, ready in each.items()}
            if view != self.view:
                self.views.append(view)

    async def knows(self, view: View) -> bool:
        return self.view == view


async def play_kubelet(transport: Transport, namespace: str) -> None:
    """Have each pod be Ready while all conditions of its readiness gates are True: so does a kubelet that runs it."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    async for kind, pod in changes(transport, path):
        if kind == "DELETED":
            continue
        said = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
        gates = [each["conditionType"] for each in pod["spec"].get("readinessGates", ())]
        ready = str(all(said.get(gate) == "True" for gate in gates))
        if said.get("Ready") != ready:
            name = pod["metadata"]["name"]
            body = {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
            await transport.request(
                Call(
                    verb="patch",
                    resource="pods/status",
                    path=f"{path}/{name}/status",
                    what=name,
                    body=body,
                    content_type=STRATEGIC_PATCH,
                )
            )


@dataclass
class Observer:
    """Watches who says master, change by change, over outages of the API server, too."""

    transport: Transport
    namespace: str
    masters: set[str] = field(default_factory=set)
    changes: int = 0
    two_at_once: list[Collection[str]] = field(default_factory=list)

    async def run(self) -> None:
        pods = KubernetesPods(self.namespace, self.transport)
        version = ""
        while True:
            try:
                version = version or await self._list(pods)
                async for change in pods.watch(Which(), version, seconds=600):
                    version = change.version or version
                    if change.item is not None:
                        said = change.item.labels.get("carp-role") == "master" and not change.gone
                        self._see((self.masters - {change.item.name}) | ({change.item.name} if said else set()))
            except ApiError as error:
                version = "" if error.status == _GONE else version
            await asyncio.sleep(AGAIN)

    async def _list(self, pods: KubernetesPods) -> str:
        listed = await pods.list(Which(labels="carp-role=master"))
        self._see({pod.name for pod in listed.items})
        return listed.version

    def _see(self, masters: set[str]) -> None:
        self.masters = masters
        self.changes += 1
        if len(masters) > 1:
            self.two_at_once.append(masters)
