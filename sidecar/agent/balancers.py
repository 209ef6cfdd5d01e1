"""The VIPs in ``status.loadBalancer`` of LoadBalancer Services of our class, written by the master.

``kubectl get services`` shows them then, and kube-proxy serves them on every node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_interface

import msgspec

from sidecar.agent.api import ListMetadata, change_of, decode, query_of
from sidecar.agent.context import Context
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Change, Follower, Listed, Which
from sidecar.agent.reconciler import Mastered
from sidecar.agent.retry import Failures, Loop
from sidecar.agent.transport import JSON, MERGE_PATCH, Call, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the mirror reads of a Service. ``ingress`` are the addresses that it says it has."""

    name: str
    uid: str
    resource_version: str
    balancer: str | None
    families: frozenset[str]
    ingress: tuple[str, ...]


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    resource_version: str = msgspec.field(name="resourceVersion")


class _Spec(msgspec.Struct):
    type: str = "ClusterIP"
    balancer: str | None = msgspec.field(name="loadBalancerClass", default=None)
    families: list[str] = msgspec.field(name="ipFamilies", default_factory=list)


class _Ingress(msgspec.Struct):
    ip: str = ""


class _LoadBalancer(msgspec.Struct):
    ingress: list[_Ingress] = []


class _Status(msgspec.Struct):
    balancer: _LoadBalancer = msgspec.field(name="loadBalancer", default_factory=_LoadBalancer)


class _Service(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _ServiceList(msgspec.Struct):
    items: list[_Service] | None = None
    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)


class KubernetesServices:
    """The calls about Services. All raise ApiError."""

    def __init__(self, namespace: str, transport: Transport) -> None:
        self._namespace = namespace
        self._transport = transport

    async def list(self, which: Which) -> Listed[Service]:
        """Read Services as they are now."""
        answer = await self._transport.request(self._call("list", query=query_of(which)))
        found: _ServiceList = decode(answer, _ServiceList)
        return Listed(tuple(map(_service, found.items or [])), found.metadata.resource_version)

    async def watch(self, which: Which, version: str, *, seconds: int) -> AsyncIterator[Change[Service]]:
        """Tell what changes."""
        query = query_of(which, version=version, seconds=seconds)
        async for line in self._transport.lines(self._call("watch", query=query)):
            yield change_of(line, _Service, _service) if line.strip() else Change("")

    async def publish(self, service: Service, addresses: tuple[str, ...]) -> None:
        """Have a Service say that it has these addresses, if it is as we read it (else 409)."""
        body: dict[str, object] = {
            "metadata": {"resourceVersion": service.resource_version, "uid": service.uid},
            "status": {"loadBalancer": {"ingress": [{"ip": each, "ipMode": "VIP"} for each in addresses]}},
        }
        await self._transport.request(self._call("patch", name=service.name, body=body))

    def _call(
        self,
        verb: str,
        *,
        name: str = "",
        query: tuple[tuple[str, str], ...] = (),
        body: dict[str, object] | None = None,
    ) -> Call:
        path = f"/api/v1/namespaces/{self._namespace}/services"
        return Call(
            verb=verb,
            resource="services/status" if name else "services",
            path=f"{path}/{name}/status" if name else path,
            what=f"Service {self._namespace}/{name}" if name else f"namespace {self._namespace}",
            query=query,
            body=body,
            content_type=MERGE_PATCH if name else JSON,
        )


def _service(item: _Service) -> Service:
    return Service(
        name=item.metadata.name,
        uid=item.metadata.uid,
        resource_version=item.metadata.resource_version,
        balancer=item.spec.balancer if item.spec.type == "LoadBalancer" else None,
        families=frozenset(item.spec.families),
        ingress=tuple(each.ip for each in item.status.balancer.ingress),
    )


def addresses(vips: tuple[str, ...], families: frozenset[str]) -> tuple[str, ...]:
    """Return the VIPs that a Service of these IP families can have."""
    every = [ip_interface(vip).ip for vip in vips]
    return tuple(str(ip) for ip in every if not families or f"IPv{ip.version}" in families)


class Balancers:
    """Publishes the VIPs of the groups that have a class; follows the Services only while it has something to say."""

    def __init__(self, transport: Transport, context: Context) -> None:
        self._services = KubernetesServices(context.plan.pod_namespace, transport)
        self._context = context
        self._wanted: tuple[Mastered, ...] = ()
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._follower: Follower[Service] | None = None
        self._loop = Loop(self._work, failed=self._note("load balancers"), jitter=context.jitter)

    def follow(self, mastered: tuple[Mastered, ...]) -> None:
        """Take the groups that this node is master of."""
        self._wanted = tuple(each for each in mastered if each.group.mirror.load_balancer_class)
        (self._begun if self._wanted else self._ended).set()
        (self._ended if self._wanted else self._begun).clear()
        self._loop.wake()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._loop.run())
            while True:
                await self._begun.wait()
                self._follower = Follower(
                    self._services,
                    Which(),
                    changed=self._loop.wake,
                    failed=self._note("watch services"),
                    jitter=self._context.jitter,
                )
                following = tasks.create_task(self._follower.run())
                await self._ended.wait()
                self._follower = None
                following.cancel()

    async def withdraw(self, class_: str, vips: tuple[str, ...]) -> None:
        """Have the Services of a class that is not served any more say no longer that they have these VIPs."""
        for service in (await self._services.list(Which())).items:
            if service.balancer == class_ and service.ingress and service.ingress == addresses(vips, service.families):
                await self._services.publish(service, ())

    def _note(self, about: str) -> Callable[[ApiError | None], None]:
        return lambda error: self._context.complaints.note(about, error)

    async def _work(self) -> None:
        known = None if self._follower is None else self._follower.items
        failures = Failures()
        for each in self._wanted if known else ():
            for service in tuple((known or {}).values()):
                wanted = addresses(each.group.vips, service.families)
                if service.balancer == each.group.mirror.load_balancer_class and service.ingress != wanted:
                    with failures:
                        await self._services.publish(service, wanted)
        failures.throw()
