"""One EndpointSlice of a Service without a selector, owned by whoever is master: the old address or the new one.

It is replaced in one write (a server-side apply), and a master that steps down leaves it: never both, never none.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from ipaddress import ip_address

import msgspec

from sidecar.agent.api import decode
from sidecar.agent.context import Context
from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.lease import EPOCH, number
from sidecar.agent.reconciler import Mastered
from sidecar.agent.retry import Failures, Loop
from sidecar.agent.transport import APPLY_PATCH, JSON, MERGE_PATCH, Call, Transport

RESYNC = 15.0
"""Seconds after which a master looks whether its slice is as it should be, and which Service and ports it is of.

Reads only, by the master alone. A watch would tell sooner, at the price of the rights to list and to watch both.
"""
MANAGER = "carp-sidecar"
"""The same field manager on every node: the slice belongs to whoever is master."""


class _ServiceMetadata(msgspec.Struct):
    uid: str


class _ServicePort(msgspec.Struct):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target: int | str = msgspec.field(name="targetPort", default=0)
    app_protocol: str | None = msgspec.field(name="appProtocol", default=None)


class _ServiceSpec(msgspec.Struct):
    selector: dict[str, str] = {}
    ports: list[_ServicePort] = []
    families: list[str] = msgspec.field(name="ipFamilies", default_factory=list)


class _Service(msgspec.Struct):
    metadata: _ServiceMetadata
    spec: _ServiceSpec


class _SliceMetadata(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    annotations: dict[str, str] = {}


class _Target(msgspec.Struct):
    uid: str = ""


class _Endpoint(msgspec.Struct):
    target: _Target = msgspec.field(name="targetRef", default_factory=_Target)


class _Slice(msgspec.Struct):
    metadata: _SliceMetadata
    endpoints: msgspec.Raw = msgspec.Raw(b"null")
    ports: msgspec.Raw = msgspec.Raw(b"null")

    def leads_to(self) -> set[str]:
        """Return the uids of the pods."""
        return {each.target.uid for each in msgspec.json.decode(self.endpoints, type=list[_Endpoint] | None) or ()}


class Slices:
    """Writes the EndpointSlices of the groups that name a Service. ``known`` is told of the epochs that they have."""

    def __init__(self, transport: Transport, context: Context, known: Callable[[str, int], None]) -> None:
        self._transport = transport
        self._known = known
        self._namespace = context.plan.pod_namespace
        self._wanted: tuple[Mastered, ...] = ()
        self._done: dict[str, object] = {}
        self._checked_at = 0.0
        self._loop = Loop(
            self._work, failed=lambda error: context.complaints.note("endpoint slice", error), jitter=context.jitter
        )

    def follow(self, mastered: tuple[Mastered, ...]) -> None:
        """Take the groups that this node is master of."""
        self._wanted = tuple(each for each in mastered if each.group.mirror.endpoint_slice)
        self._loop.wake()

    async def run(self) -> None:
        """Write until cancelled."""
        await self._loop.run()

    async def _work(self) -> float | None:
        now = asyncio.get_running_loop().time()
        if now - self._checked_at >= RESYNC:
            self._done.clear()
            self._checked_at = now
        self._done = {name: done for name, done in self._done.items() if name in {e.group.name for e in self._wanted}}
        failures = Failures()
        for each in self._wanted:
            claim = (each.epoch, tuple((pod.uid, pod.ips) for pod in _serving(each.targets)))
            if self._done.get(each.group.name) != claim:
                with failures:
                    await self._write(each)
                    self._done[each.group.name] = claim
        failures.throw()
        return RESYNC if self._wanted else None

    async def _write(self, each: Mastered) -> None:
        name = each.group.mirror.endpoint_slice
        service = await self._service(name)
        if service.spec.selector:
            fault = f"Service {self._namespace}/{name} has a selector, so its EndpointSlices are not ours; take it away"
            raise ApiError(fault, HTTPStatus.NOT_FOUND)
        failures = Failures()
        for family in service.spec.families or ["IPv4"]:
            endpoints = self._endpoints(each, version=4 if family == "IPv4" else 6)
            if endpoints:
                with failures:
                    await self._apply(each, service, family, endpoints)
        failures.throw()

    async def withdraw(self, name: str, pods: AbstractSet[str]) -> None:
        """Empty the slices of a Service that are ours no longer and still lead to pods of these uids."""
        for family in ("IPv4", "IPv6"):
            found = await self._slice(_name(name, family))
            if found is None or not pods & found.leads_to():
                continue
            body: dict[str, object] = {
                "metadata": {"resourceVersion": found.metadata.resource_version},
                "endpoints": [],
            }
            call = self._call("patch", _name(name, family), body=body)
            await self._transport.request(dataclasses.replace(call, content_type=MERGE_PATCH))

    async def _apply(self, each: Mastered, service: _Service, family: str, endpoints: list[object]) -> None:
        of = each.group.mirror.endpoint_slice
        name = _name(of, family)
        found = await self._slice(name)
        epoch = 0 if found is None else number(found.metadata.annotations.get(EPOCH, ""))
        if epoch > each.epoch:
            self._known(each.group.name, epoch)  # a newer master's, or the pods that told of it are gone
            return
        ports = [_port(port) for port in service.spec.ports]
        body: dict[str, object] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {
                    "kubernetes.io/service-name": of,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                },
                "annotations": {EPOCH: str(each.epoch)},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": of, "uid": service.metadata.uid}],
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports,
        }
        if found is not None:
            said = {"endpoints": endpoints, "ports": ports}
            there = {"endpoints": msgspec.json.decode(found.endpoints), "ports": msgspec.json.decode(found.ports)}
            if said == there and epoch == each.epoch:
                return
            body["metadata"] = {**dict(body["metadata"]), "resourceVersion": found.metadata.resource_version}  # type: ignore[call-overload]
        query = (("fieldManager", MANAGER), ("force", "true"))
        await self._transport.request(self._call("patch", name, query=query, body=body))

    def _endpoints(self, each: Mastered, *, version: int) -> list[object]:
        """Return the pods as endpoints. They are ready whatever the kubelet thinks: CARP decides who serves."""
        return [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": each.node,
                "targetRef": {"kind": "Pod", "namespace": self._namespace, "name": pod.name, "uid": pod.uid},
            }
            for pod in _serving(each.targets)
            if (address := _address(pod, version))
        ]

    async def _service(self, name: str) -> _Service:
        call = Call(
            verb="get",
            resource="services",
            path=f"/api/v1/namespaces/{self._namespace}/services/{name}",
            what=f"Service {self._namespace}/{name}",
        )
        service: _Service = decode(await self._transport.request(call), _Service)
        return service

    async def _slice(self, name: str) -> _Slice | None:
        try:
            found: _Slice = decode(await self._transport.request(self._call("get", name)), _Slice)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        return found

    def _call(
        self, verb: str, name: str, *, query: tuple[tuple[str, str], ...] = (), body: dict[str, object] | None = None
    ) -> Call:
        return Call(
            verb=verb,
            resource="endpointslices",
            path=f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices/{name}",
            what=f"EndpointSlice {self._namespace}/{name}",
            query=query,
            body=body,
            content_type=APPLY_PATCH if verb == "patch" else JSON,
        )


def _name(service: str, family: str) -> str:
    return f"{service}-carp-{family.lower()}"


def _serving(targets: Sequence[Pod]) -> Sequence[Pod]:
    """Return the pods that have not ended, and of them those that are not about to, unless there is no other."""
    running = [pod for pod in targets if not pod.ended]
    return [pod for pod in running if not pod.terminating] or running


def _address(pod: Pod, version: int) -> str | None:
    return next((ip for ip in pod.ips if ip_address(ip).version == version), None)


def _port(port: _ServicePort) -> dict[str, object]:
    """Return a Service's port as an endpoint's. A container's port by its name is not known here: its own serves."""
    number_ = port.target if isinstance(port.target, int) and port.target else port.port
    said: dict[str, object] = {"name": port.name, "protocol": port.protocol, "port": number_}
    return said if port.app_protocol is None else said | {"appProtocol": port.app_protocol}
