"""The calls of a rollout: read the DaemonSet, its revisions and the pods, and delete a pod that is as it was read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from sidecar.agent.api import decode
from sidecar.agent.aside import ANSWERED, ASKED
from sidecar.agent.transport import JSON, MERGE_PATCH, Call, Transport
from sidecar.protocol.types import Role
from sidecar.rollout.plan import Fleet, Pod

REVISION = "controller-revision-hash"
"""The label by which the DaemonSet's controller tells which template a pod was made from."""
ON_DELETE = "OnDelete"


class RolloutError(Exception):
    """The rollout can't go on; the message says why and what helps."""


class Cluster(Protocol):
    """What a rollout needs of Kubernetes. All raise ApiError."""

    async def look(self) -> Fleet:
        """Read everything anew. Raises RolloutError where the DaemonSet is none to roll out."""
        ...

    async def ask(self, pod: Pod, word: str) -> None:
        """Write on a pod whom it is to stand aside for, unless it is gone (404) or another has its name (409)."""
        ...

    async def delete(self, pod: Pod) -> None:
        """Delete a pod, unless it has changed since it was read (409) or is gone (404)."""
        ...


class _Owner(msgspec.Struct):
    uid: str


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owners: list[_Owner] = msgspec.field(name="ownerReferences", default_factory=list)
    deletion_timestamp: str | None = msgspec.field(name="deletionTimestamp", default=None)

    def belongs_to(self, uid: str) -> bool:
        return any(owner.uid == uid for owner in self.owners)


class _Strategy(msgspec.Struct):
    type: str = ""


class _DaemonSetSpec(msgspec.Struct):
    strategy: _Strategy = msgspec.field(name="updateStrategy", default_factory=_Strategy)
    min_ready: int = msgspec.field(name="minReadySeconds", default=0)


class _DaemonSetStatus(msgspec.Struct):
    desired: int = msgspec.field(name="desiredNumberScheduled", default=0)
    observed: int = msgspec.field(name="observedGeneration", default=0)


class _DaemonSet(msgspec.Struct):
    metadata: _Metadata
    spec: _DaemonSetSpec
    status: _DaemonSetStatus = msgspec.field(default_factory=_DaemonSetStatus)


class _Revision(msgspec.Struct):
    metadata: _Metadata
    revision: int = 0


class _Revisions(msgspec.Struct):
    items: list[_Revision] | None = None


class _Condition(msgspec.Struct):
    type: str
    status: str


class _PodSpec(msgspec.Struct):
    node: str = msgspec.field(name="nodeName", default="")


class _PodStatus(msgspec.Struct):
    conditions: list[_Condition] = []


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Pods(msgspec.Struct):
    items: list[_Pod] | None = None


class KubernetesCluster:
    """Cluster on a real API server."""

    def __init__(self, transport: Transport, *, namespace: str, daemonset: str, role_label: str) -> None:
        self._transport = transport
        self._namespace = namespace
        self._daemonset = daemonset
        self._role_label = role_label

    async def look(self) -> Fleet:
        """Read everything anew."""
        daemonset: _DaemonSet = decode(
            await self._transport.request(self._call("get", "daemonsets", name=self._daemonset)), _DaemonSet
        )
        if daemonset.spec.strategy.type != ON_DELETE:
            raise RolloutError(
                f"DaemonSet {self._namespace}/{self._daemonset} has updateStrategy {daemonset.spec.strategy.type}: "
                f"its controller replaces the pods itself, in no order; set {ON_DELETE}"
            )
        revisions: _Revisions = decode(
            await self._transport.request(self._call("list", "controllerrevisions")), _Revisions
        )
        pods: _Pods = decode(await self._transport.request(self._call("list", "pods")), _Pods)
        return fleet(daemonset, revisions.items or (), pods.items or (), role_label=self._role_label)

    async def ask(self, pod: Pod, word: str) -> None:
        """Annotate a pod by its status subresource: that right changes no container, as the one to patch pods would."""
        body: dict[str, object] = {"metadata": {"uid": pod.uid, "annotations": {ASKED: word}}}
        await self._transport.request(self._call("patch", "pods/status", name=pod.name, body=body))

    async def delete(self, pod: Pod) -> None:
        """Delete a pod that is as it was read: one that has become master meanwhile is another one's turn."""
        body: dict[str, object] = {"preconditions": {"uid": pod.uid, "resourceVersion": pod.resource_version}}
        await self._transport.request(self._call("delete", "pods", name=pod.name, body=body))

    def _call(self, verb: str, resource: str, *, name: str = "", body: dict[str, object] | None = None) -> Call:
        kinds, _, subresource = resource.partition("/")
        api = "api/v1" if kinds == "pods" else "apis/apps/v1"
        path = f"/{api}/namespaces/{self._namespace}/{kinds}"
        kind = {"daemonsets": "DaemonSet", "pods": "pod"}.get(kinds, kinds)
        return Call(
            verb=verb,
            resource=resource,
            path="/".join(filter(None, (path, name, subresource))),
            what=f"{kind} {self._namespace}/{name}" if name else f"namespace {self._namespace}",
            body=body,
            content_type=MERGE_PATCH if verb == "patch" else JSON,
        )


def fleet(daemonset: _DaemonSet, revisions: Iterable[_Revision], pods: Iterable[_Pod], *, role_label: str) -> Fleet:
    """Put together what was read."""
    uid = daemonset.metadata.uid
    # A rollback to an older template gives its revision the highest number anew.
    newest = max(
        (each for each in revisions if each.metadata.belongs_to(uid)), key=lambda each: each.revision, default=None
    )
    every = tuple(pods)
    own = tuple(pod for pod in every if pod.metadata.belongs_to(uid))
    nodes = {pod.spec.node for pod in own}
    borne = _roles(own, role_label)
    elsewhere = _roles((pod for pod in every if pod.spec.node in nodes), role_label)
    return Fleet(
        revision="" if newest is None else newest.metadata.labels.get(REVISION, ""),
        observed=newest is not None and daemonset.status.observed >= daemonset.metadata.generation,
        desired=daemonset.status.desired,
        min_ready=daemonset.spec.min_ready,
        pods=tuple(map(_pod, own)),
        roles={**elsewhere, **borne},
        elsewhere=frozenset(elsewhere) - frozenset(borne),
    )


def _pod(item: _Pod) -> Pod:
    found = item.metadata
    return Pod(
        name=found.name,
        uid=found.uid,
        resource_version=found.resource_version,
        node=item.spec.node,
        revision=found.labels.get(REVISION, ""),
        ready=any(each.type == "Ready" and each.status == "True" for each in item.status.conditions),
        terminating=found.deletion_timestamp is not None,
        asked=found.annotations.get(ASKED, ""),
        answered=found.annotations.get(ANSWERED, ""),
    )


def _roles(pods: Iterable[_Pod], role_label: str) -> dict[str, dict[str, str]]:
    """Return which role is on a node, by label and node: where several pods there say one, master counts."""
    said: dict[str, dict[str, str]] = {}
    for pod in pods:
        for label, role in pod.metadata.labels.items():
            if label == role_label or label.startswith(f"{role_label}-"):
                roles = said.setdefault(label, {})
                if roles.get(pod.spec.node) != Role.MASTER:
                    roles[pod.spec.node] = role
    return said
